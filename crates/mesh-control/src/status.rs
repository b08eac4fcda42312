//! What has come of the mesh's own objects, and of routes of the Gateway API, written to their status by whichever control plane
//! of the mesh holds the lease.
//!
//! What is written follows from the objects and from the proxies, those of this replica and those that the others tell of; it
//! is written when it differs from what is there, and no object more often than once in a [`PAUSE`].

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use mesh_api::document::{API_VERSION, Kind};
use mesh_api::kubernetes::ModelRouteStatus;
use tokio::sync::watch;

use crate::api::{self, ApiError};
use crate::catalog::object::Key;
use crate::objects::Objects;
use crate::proxies::Proxies;
use crate::replicas::Board;
use crate::source::kubernetes::resource;

mod content;
pub mod others;
mod reach;
mod routes;

pub use content::status;
use others::Others;
pub use reach::{Count, Reach};

/// How long changes are gathered before they are written.
const PAUSE: Duration = Duration::from_secs(1);
/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The most objects that are written at a time.
const AT_A_TIME: usize = 4;
/// Who writes, as Kubernetes notes it.
const FIELD_MANAGER: &str = "mesh-control";

/// Writes for as long as this is polled.
///
/// What is needed of the API server is `patch` of modelroutes/status, trafficpolicies/status and meshconfigs/status, and of
/// httproutes/status and grpcroutes/status.
pub async fn keep(objects: &Objects, proxies: &Proxies, client: &Client, board: &Board, me: &str) {
    let heard = watch::Sender::default();
    let others = heard.subscribe();
    tokio::join!(
        others::listen(board, me, &heard),
        write_all(objects, proxies, others, client)
    );
}

async fn write_all(
    objects: &Objects,
    proxies: &Proxies,
    mut others: watch::Receiver<Others>,
    client: &Client,
) {
    let (mut changed, mut followed) = (objects.follow(), proxies.follow());
    let (mut written, mut routes) = (BTreeMap::new(), routes::Written::new());
    loop {
        changed.mark_unchanged();
        followed.mark_unchanged();
        let told = others.borrow_and_update().clone();
        let mut all = write(objects, proxies, &told, client, &mut written).await;
        all &= routes::write(objects, client, &mut routes).await;
        tokio::select! {
            _ = changed.changed() => {}
            _ = followed.changed() => {}
            _ = others.changed() => {}
            () = tokio::time::sleep(RETRY), if !all => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type Written = BTreeMap<(Kind, Key), ModelRouteStatus>;

/// Writes what differs from what is there, and from what was written already. Whether all could be.
async fn write(
    objects: &Objects,
    proxies: &Proxies,
    others: &Others,
    client: &Client,
    written: &mut Written,
) -> bool {
    if objects.publisher().version().0 == 0 {
        return true;
    }
    let due = due(objects, proxies, others, written);
    let done = stream::iter(due).map(|(kind, key, status)| async move {
        let done = patch(client, kind, &key, &status).await;
        ((kind, key), status, done)
    });
    let done: Vec<_> = done.buffer_unordered(AT_A_TIME).collect().await;
    let mut all = true;
    for (at, status, done) in done {
        match done {
            Ok(()) => {
                written.insert(at, status);
            }
            // It has just been deleted.
            Err(error) if error.status().is_some_and(|status| status.code == 404) => {}
            Err(error) => {
                all = false;
                tracing::warn!(%error, object = format!("{} {}", at.0, at.1), "the status can't be written");
            }
        }
    }
    all
}

/// What is to be written.
fn due(
    objects: &Objects,
    proxies: &Proxies,
    others: &Others,
    written: &mut Written,
) -> Vec<(Kind, Key, ModelRouteStatus)> {
    let published = objects.publisher().current();
    let reach = Reach::of(&published.view, &proxies.followers());
    let now = Time(Timestamp::now());
    let catalog = objects.lock();
    let mut due = Vec::new();
    let mut there = Written::new();
    for verdict in catalog.verdicts() {
        let (kind, key) = (verdict.written.kind, verdict.written.key.clone());
        let before = written.remove(&(kind, key.clone()));
        let next = status(&catalog, &verdict, &reach, others, published.version, &now);
        let known = before.as_ref() == Some(&next) || verdict.written.status == next;
        if let Some(before) = before {
            there.insert((kind, key.clone()), before);
        }
        if !known {
            due.push((kind, key, next));
        }
    }
    // What is left is of objects that are gone.
    *written = there;
    due
}

async fn patch(client: &Client, kind: Kind, key: &Key, status: &ModelRouteStatus) -> Result<(), ApiError> {
    let namespace = key.namespace.as_str();
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(kind));
    let object = serde_json::json!({
        "apiVersion": API_VERSION,
        "kind": kind.as_str(),
        "metadata": {"name": &*key.name, "namespace": namespace},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let (name, patch) = (&key.name, Patch::Apply(&object));
    api::call(objects.patch_status(name, &params, &patch)).await?;
    Ok(())
}
