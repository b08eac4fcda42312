//! JSON Schemas of the documents, made from the types that read them.

use schemars::Schema;

use crate::document::{
    Kind, MeshConfigSpec, ModelRouteSpec, Object, ServiceSpec, TrafficPolicySpec, WorkloadSpec,
};

/// The schema of a kind's documents.
pub fn of(kind: Kind) -> Schema {
    let mut schema = match kind {
        Kind::MeshConfig => schemars::schema_for!(Object<MeshConfigSpec>),
        Kind::Service => schemars::schema_for!(Object<ServiceSpec>),
        Kind::Workload => schemars::schema_for!(Object<WorkloadSpec>),
        Kind::ModelRoute => schemars::schema_for!(Object<ModelRouteSpec>),
        Kind::TrafficPolicy => schemars::schema_for!(Object<TrafficPolicySpec>),
    };
    schema.insert("title".into(), kind.as_str().into());
    if let Some(properties) = schema
        .get_mut("properties")
        .and_then(serde_json::Value::as_object_mut)
    {
        properties.insert(
            "apiVersion".into(),
            serde_json::json!({"const": crate::document::API_VERSION}),
        );
        properties.insert("kind".into(), serde_json::json!({"const": kind.as_str()}));
    }
    schema
}

/// The schema of the injection settings.
pub fn injection() -> Schema {
    schemars::schema_for!(crate::inject::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_described_schema() {
        for kind in Kind::ALL {
            let schema = serde_json::to_value(of(kind)).unwrap();
            assert_eq!(schema["properties"]["kind"]["const"], kind.as_str());
            assert_eq!(schema["additionalProperties"], false, "{kind}");
            assert!(
                schema["$defs"].as_object().is_some_and(|defs| !defs.is_empty()),
                "{kind}"
            );
        }
    }
}
