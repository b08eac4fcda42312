//! Whether an object of the mesh is good: what the compiler would say of it, said where it is written.

use std::sync::Arc;

use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse};
use mesh_api::document::{Document, Kind, ObjectId};
use mesh_api::identity::TrustDomain;
use mesh_api::kubernetes::{self, MESH_CONFIG};
use mesh_api::name::{Name, ObjectName};
use mesh_api::validate::{self, Problem};
use serde_json::Value;

use super::Decision;

/// What objects are checked against.
pub struct Validator {
    /// Of every identity.
    pub trust_domain: TrustDomain,
    /// The namespace of the control plane, where the MeshConfig is.
    pub namespace: Name,
    /// The object of a kind that is in force for a Service.
    pub in_force: Arc<InForce>,
}

/// Finds the object of a kind that is in force for a Service.
pub type InForce = dyn Fn(Kind, &ObjectName) -> Option<ObjectId> + Send + Sync;

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").finish_non_exhaustive()
    }
}

impl Validator {
    /// Looks at an object that is created or changed.
    pub fn decide(&self, request: &AdmissionRequest<DynamicObject>) -> Decision {
        let response = AdmissionResponse::from(request);
        let Some(object) = &request.object else {
            return Decision::allowed(response);
        };
        // What nobody changes is not judged again: labels, finalizers and deletion must work on bad objects too.
        let unchanged = |old: &DynamicObject| old.data.get("spec") == object.data.get("spec");
        if request.old_object.as_ref().is_some_and(unchanged) {
            return Decision::allowed(response);
        }
        let (namespace, name) = (
            request.namespace.as_deref().unwrap_or_default(),
            name(request, object),
        );
        let problems = self.problems(&as_json(object, namespace, name));
        if problems.is_empty() {
            return Decision::allowed(response);
        }
        let reasons: Vec<_> = problems
            .iter()
            .map(|problem| format!("{} {namespace}/{name}: {problem}", request.kind.kind))
            .collect();
        Decision::denied(response, &reasons.join("\n"))
    }

    /// All that is wrong with an object, by itself or beside what is in force.
    fn problems(&self, object: &Value) -> Vec<Problem> {
        let document = match kubernetes::read(object) {
            Ok(document) => document,
            Err(problem) => return vec![problem],
        };
        let mut problems = validate::alone(&document);
        problems.extend(self.mesh_config(&document));
        problems.extend(self.beside(&document));
        problems
    }

    /// There is one MeshConfig, and the control plane's flags stand above it.
    fn mesh_config(&self, document: &Document) -> Option<Problem> {
        let Document::MeshConfig(object) = document else {
            return None;
        };
        let name = document.id().name;
        if (&name.namespace, name.name.as_str()) != (&self.namespace, MESH_CONFIG) {
            let reason = format!(
                "the MeshConfig of this mesh is {}/{MESH_CONFIG}: write what is meant there",
                self.namespace
            );
            return Some(Problem::new("metadata.name", reason));
        }
        let other = object
            .spec
            .trust_domain
            .as_ref()
            .is_some_and(|domain| *domain != self.trust_domain);
        other.then(|| {
            let reason = format!(
                "the control plane was started with trust domain {}: write it here too, or leave the field out",
                self.trust_domain
            );
            Problem::new("spec.trustDomain", reason)
        })
    }

    /// Another object that is about the same Service.
    fn beside(&self, document: &Document) -> Option<Problem> {
        let (id, service) = (document.id(), about(document)?);
        let other = (self.in_force)(id.kind, &service).filter(|other| *other != id)?;
        let reason = format!("{other} is about service {service} already: put both into one");
        Some(Problem::new("spec.service", reason))
    }
}

/// The object with the name that it has, or will have about.
fn as_json(object: &DynamicObject, namespace: &str, name: &str) -> Value {
    let mut json = serde_json::to_value(object).unwrap_or_default();
    json["metadata"]["name"] = name.into();
    json["metadata"]["namespace"] = namespace.into();
    json
}

/// An object that is to get a name of the API server's has none yet.
fn name<'a>(request: &'a AdmissionRequest<DynamicObject>, object: &'a DynamicObject) -> &'a str {
    let generated = || {
        let prefix = object.metadata.generate_name.as_deref()?;
        Some(prefix.trim_end_matches('-'))
    };
    match request.name.as_str() {
        "" => object
            .metadata
            .name
            .as_deref()
            .or_else(generated)
            .unwrap_or_default(),
        name => name,
    }
}

/// The Service that an object is about, when only one of its kind may be.
pub fn about(document: &Document) -> Option<ObjectName> {
    let service = match document {
        Document::ModelRoute(object) => &object.spec.service,
        Document::TrafficPolicy(object) => &object.spec.service,
        Document::MeshConfig(_) | Document::Service(_) | Document::Workload(_) => return None,
    };
    Some(ObjectName::new(document.id().name.namespace, service.clone()))
}
