//! The CA bundles of our webhook configurations: what the API server trusts when it calls us.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::MANAGER;
use crate::ca::Authority;
use crate::metrics::Metrics;

/// How soon a bundle that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One of our webhook configurations.
struct Configuration {
    name: &'static str,
    /// The kind, as metrics and logs write it.
    kind: &'static str,
    resource: ApiResource,
}

/// Keeps both configurations' bundles on what is trusted.
pub async fn keep(client: Client, authority: &Authority, metrics: &Metrics) {
    let inject = Configuration {
        name: "mesh-inject",
        kind: "mutatingwebhookconfigurations",
        resource: ApiResource::erase::<MutatingWebhookConfiguration>(&()),
    };
    let validate = Configuration {
        name: "mesh-validate",
        kind: "validatingwebhookconfigurations",
        resource: ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    };
    tokio::join!(
        keep_one(client.clone(), inject, authority, metrics),
        keep_one(client, validate, authority, metrics),
    );
}

async fn keep_one(client: Client, of: Configuration, authority: &Authority, metrics: &Metrics) {
    let Configuration { name, kind, resource } = of;
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api.clone(), named)
        .default_backoff()
        .applied_objects()
        .boxed();
    let mut trust = authority.follow();
    let mut seen: Option<DynamicObject> = None;
    loop {
        let wanted = STANDARD.encode(trust.borrow_and_update().bundle_pem());
        let patch = seen.as_ref().and_then(|object| patch(&object.data, &wanted));
        let mut failed = false;
        if let Some(patch) = patch {
            let params = PatchParams {
                field_manager: Some(MANAGER.into()),
                ..PatchParams::default()
            };
            match crate::api::call(api.patch(name, &params, &Patch::Strategic(patch))).await {
                Ok(written) => {
                    tracing::info!("{name}: the API server trusts our webhooks now");
                    seen = Some(written);
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "{name}: the CA bundle could not be written");
                }
            }
        }
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(object) => seen = Some(object),
                Err(error) => {
                    metrics.watch_failed(kind);
                    tracing::warn!(%error, "{kind} can't be watched");
                }
            },
            changed = trust.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// What makes all webhooks of a configuration trust `bundle`; none: they do.
fn patch(configuration: &Value, bundle: &str) -> Option<Value> {
    let webhooks = configuration["webhooks"].as_array()?;
    let wrong: Vec<_> = webhooks
        .iter()
        .filter(|webhook| webhook["clientConfig"]["caBundle"] != bundle)
        .map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
        .collect();
    (!wrong.is_empty()).then(|| json!({"webhooks": wrong}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_is_written() {
        let webhook = |name: &str, bundle: Option<&str>| json!({"name": name, "clientConfig": {"service": {"name": "mesh-control"}, "caBundle": bundle}});
        let all = |list: Vec<Value>| json!({"webhooks": list});
        assert_eq!(patch(&all(vec![webhook("a", Some("new"))]), "new"), None);
        assert_eq!(patch(&all(vec![]), "new"), None);
        assert_eq!(patch(&json!({}), "new"), None);
        assert_eq!(
            patch(
                &all(vec![
                    webhook("a", Some("new")),
                    webhook("b", None),
                    webhook("c", Some("old"))
                ]),
                "new"
            ),
            Some(json!({"webhooks": [
                {"name": "b", "clientConfig": {"caBundle": "new"}},
                {"name": "c", "clientConfig": {"caBundle": "new"}},
            ]}))
        );
    }
}
