//! What has come of routes of the Gateway API, written to their status beside what other controllers say there.
//!
//! All controllers share one list, which is written as a whole. So it is written over that version of the route alone that
//! it was made from: where somebody else was faster this is refused, and the route that comes of it is looked at again.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};

use super::{AT_A_TIME, FIELD_MANAGER};
use crate::api::{self, ApiError};
use crate::objects::Objects;
use crate::source::kubernetes::gateway::{self, GrpcRoute, HttpRoute, Key, Kind, ParentStatus};

/// The version of each route that was written over; what came of it is not seen yet.
pub(super) type Written = BTreeMap<Key, Box<str>>;

/// A status that is to be written.
struct Due {
    key: Key,
    version: Box<str>,
    parents: Vec<ParentStatus>,
}

/// Writes what differs from what is there. Whether all could be.
pub(super) async fn write(objects: &Objects, client: &Client, written: &mut Written) -> bool {
    let due = stream::iter(due(objects, written)).map(|due| async move {
        let done = patch(client, &due).await;
        (due, done)
    });
    let done: Vec<_> = due.buffer_unordered(AT_A_TIME).collect().await;
    let mut all = true;
    for (due, done) in done {
        match done {
            Ok(()) => {
                written.insert(due.key, due.version);
            }
            // It has just been deleted, or written by somebody else.
            Err(error)
                if error
                    .status()
                    .is_some_and(|status| matches!(status.code, 404 | 409)) => {}
            Err(error) => {
                all = false;
                let Key {
                    namespace,
                    name,
                    kind,
                } = &due.key;
                let object = format!("{} {namespace}/{name}", kind.as_str());
                tracing::warn!(%error, object, "the status can't be written");
            }
        }
    }
    all
}

fn due(objects: &Objects, written: &mut Written) -> Vec<Due> {
    let now = Time(Timestamp::now());
    let catalog = objects.lock();
    let (mut due, mut unseen) = (Vec::new(), Written::new());
    for (route, verdicts) in catalog.route_verdicts() {
        if let Some((key, version)) = written.remove_entry(&route.key)
            && version == route.version
        {
            unseen.insert(key, version);
        } else if let Some(parents) = gateway::parents(route, &verdicts, &now) {
            due.push(Due {
                key: route.key.clone(),
                version: route.version.clone(),
                parents,
            });
        }
    }
    *written = unseen;
    due
}

async fn patch(client: &Client, due: &Due) -> Result<(), ApiError> {
    let kind = match due.key.kind {
        Kind::Http => ApiResource::erase::<HttpRoute>(&()),
        Kind::Grpc => ApiResource::erase::<GrpcRoute>(&()),
    };
    let routes: Api<DynamicObject> = Api::namespaced_with(client.clone(), due.key.namespace.as_str(), &kind);
    let object = serde_json::json!({
        "metadata": {"resourceVersion": &*due.version},
        "status": {"parents": due.parents},
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let (name, patch) = (&due.key.name, Patch::Merge(&object));
    api::call(routes.patch_status(name, &params, &patch)).await?;
    Ok(())
}
