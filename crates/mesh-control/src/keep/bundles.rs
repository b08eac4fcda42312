//! ConfigMap `mesh-trust-bundle` in every namespace: the roots by which new pods know the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams};
use kube::core::Status;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::MANAGER;
use crate::api::{self, ApiError};
use crate::ca::Authority;
use crate::ca::secret::PART_OF;
use crate::metrics::Metrics;

/// The ConfigMaps' name and key.
pub const NAME: &str = "mesh-trust-bundle";
/// The key.
pub const KEY: &str = "roots.pem";
/// The most that are written at a time.
const AT_ONCE: usize = 8;
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What was seen: which namespaces there are, and what the ConfigMap says in each.
#[derive(Debug, Default)]
struct Seen {
    namespaces: Followed<()>,
    bundles: Followed<String>,
}

/// Objects that a watch tells of, by namespace.
#[derive(Debug)]
struct Followed<T> {
    there: BTreeMap<String, T>,
    /// What a list that begins anew has brought so far.
    listing: BTreeMap<String, T>,
    /// Whether a list was whole once.
    whole: bool,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self {
            there: BTreeMap::new(),
            listing: BTreeMap::new(),
            whole: false,
        }
    }
}

impl<T> Followed<T> {
    /// Takes an event in. `read` gives the namespace, and what is there; none: nothing that counts.
    fn take<K>(&mut self, event: Event<K>, read: impl Fn(&K) -> (String, Option<T>)) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                if let (namespace, Some(there)) = read(&object) {
                    self.listing.insert(namespace, there);
                }
            }
            Event::InitDone => {
                self.there = std::mem::take(&mut self.listing);
                self.whole = true;
            }
            Event::Apply(object) => match read(&object) {
                (namespace, Some(there)) => {
                    self.there.insert(namespace, there);
                }
                (namespace, None) => {
                    self.there.remove(&namespace);
                }
            },
            Event::Delete(object) => {
                self.there.remove(&read(&object).0);
            }
        }
    }
}

impl Seen {
    /// The namespaces whose ConfigMap must be written so that it says `bundle`. None before everything was seen.
    fn due(&self, bundle: &str) -> BTreeSet<String> {
        if !self.namespaces.whole || !self.bundles.whole {
            return BTreeSet::new();
        }
        let wrong = |namespace: &&String| {
            self.bundles
                .there
                .get(*namespace)
                .is_none_or(|there| there != bundle)
        };
        self.namespaces.there.keys().filter(wrong).cloned().collect()
    }
}

/// A namespace counts until it is being deleted: nothing can be made in it then.
fn namespace(object: &PartialObjectMeta<Namespace>) -> (String, Option<()>) {
    let there = object.metadata.deletion_timestamp.is_none().then_some(());
    (object.name_any(), there)
}

/// What a ConfigMap says; one without its label says nothing, so that it is written again.
fn bundle(object: &ConfigMap) -> (String, Option<String>) {
    let labelled = object.labels().get(PART_OF.0).map(String::as_str) == Some(PART_OF.1);
    let text = object.data.as_ref().and_then(|data| data.get(KEY)).cloned();
    (object.namespace().unwrap_or_default(), text.filter(|_| labelled))
}

/// Keeps the ConfigMaps on what is trusted.
pub async fn keep(client: Client, authority: &Authority, metrics: &Metrics) {
    let mut seen = Seen::default();
    let mut trust = authority.follow();
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut namespaces = watcher(namespaces, watcher::Config::default())
        .default_backoff()
        .boxed();
    let named = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let bundles: Api<ConfigMap> = Api::all(client.clone());
    let mut bundles = watcher(bundles, named).default_backoff().boxed();
    loop {
        let wanted = trust.borrow_and_update().bundle_pem();
        let due = seen.due(&wanted);
        let mut failed = false;
        let writes = stream::iter(due.into_iter().map(|namespace| {
            let client = client.clone();
            let wanted = &wanted;
            async move {
                let written = write(client, &namespace, wanted).await;
                (namespace, written)
            }
        }));
        let written: Vec<_> = writes.buffer_unordered(AT_ONCE).collect().await;
        for (namespace, written) in written {
            match written {
                Ok(()) => {
                    seen.bundles.there.insert(namespace, wanted.clone());
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, namespace, "the trust bundle could not be written");
                }
            }
        }
        tokio::select! {
            Some(event) = namespaces.next() => match event {
                Ok(event) => seen.namespaces.take(event, namespace),
                Err(error) => watch_failed(metrics, "namespaces", &error),
            },
            Some(event) = bundles.next() => match event {
                Ok(event) => seen.bundles.take(event, bundle),
                Err(error) => watch_failed(metrics, "configmaps", &error),
            },
            changed = trust.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

fn watch_failed(metrics: &Metrics, kind: &'static str, error: &watcher::Error) {
    metrics.watch_failed(kind);
    tracing::warn!(%error, "{kind} can't be watched");
}

async fn write(client: Client, namespace: &str, bundle: &str) -> Result<(), ApiError> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(BTreeMap::from([(PART_OF.0.into(), PART_OF.1.into())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.into(), bundle.into())])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(MANAGER).force();
    match api::call(api.patch(NAME, &params, &Patch::Apply(&map))).await {
        Err(error) if !error.status().is_some_and(goes_away) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the namespace is gone, or about to.
fn goes_away(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_not_found()
        || (status.is_forbidden() && causes.any(|cause| cause.reason == "NamespaceTerminating"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, deleted: bool) -> PartialObjectMeta<Namespace> {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
        }))
        .unwrap()
    }

    fn map(namespace: &str, text: &str, label: &str) -> ConfigMap {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": namespace, "labels": {PART_OF.0: label}},
            "data": {KEY: text},
        }))
        .unwrap()
    }

    fn listed<K>(objects: Vec<K>) -> Vec<Event<K>> {
        let objects = objects.into_iter().map(Event::InitApply);
        std::iter::once(Event::Init)
            .chain(objects)
            .chain([Event::InitDone])
            .collect()
    }

    fn due(seen: &Seen) -> Vec<String> {
        seen.due("new").into_iter().collect()
    }

    #[test]
    fn every_namespace_has_the_bundle_and_gets_it_back() {
        let mut seen = Seen::default();
        let spaces = vec![named("ml", false), named("web", false), named("going", true)];
        for event in listed(spaces) {
            seen.namespaces.take(event, namespace);
        }
        assert!(due(&seen).is_empty(), "the ConfigMaps were not seen yet");
        for event in listed(vec![map("ml", "new", "mesh")]) {
            seen.bundles.take(event, bundle);
        }
        assert_eq!(due(&seen), ["web"]);
        seen.bundles.take(Event::Apply(map("web", "new", "mesh")), bundle);
        assert!(due(&seen).is_empty());

        seen.bundles
            .take(Event::Apply(map("ml", "edited by hand", "mesh")), bundle);
        seen.bundles
            .take(Event::Delete(map("web", "new", "mesh")), bundle);
        assert_eq!(due(&seen), ["ml", "web"]);
        seen.bundles.take(Event::Apply(map("ml", "new", "other")), bundle);
        assert_eq!(
            due(&seen),
            ["ml", "web"],
            "one without the label is written again"
        );
        seen.namespaces.take(Event::Apply(named("web", true)), namespace);
        seen.namespaces
            .take(Event::Apply(named("later", false)), namespace);
        assert_eq!(due(&seen), ["later", "ml"]);
    }

    #[test]
    fn a_list_that_begins_anew_counts_when_it_is_whole() {
        let mut seen = Seen::default();
        for event in listed(vec![named("ml", false)]) {
            seen.namespaces.take(event, namespace);
        }
        for event in listed(vec![map("ml", "new", "mesh")]) {
            seen.bundles.take(event, bundle);
        }
        seen.bundles.take(Event::Init, bundle);
        assert!(due(&seen).is_empty());
        seen.bundles.take(Event::InitDone, bundle);
        assert_eq!(due(&seen), ["ml"]);
    }
}
