//! The root's rotation: each replica tells what its proxies have, and the holder of the Lease takes the next step when all
//! have what they need.
//!
//! What replicas tell stands in ConfigMap `mesh-rotation`, an entry for each pod, and only while a rotation is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::api::{ApiError, call};
use crate::ca::Authority;
use crate::ca::rotation::{Phase, Progress};
use crate::ca::secret::{PART_OF, RootSecret};
use crate::clock::unix_now;
use crate::plane::Plane;

/// The ConfigMap's name.
const NAME: &str = "mesh-rotation";
/// The pods of the control plane.
const REPLICAS: &str = "app.kubernetes.io/name=mesh-control";
/// How often replicas tell, and the holder looks.
const PERIOD: Duration = Duration::from_secs(2);
/// How often a replica tells the same again, and how old what it told may be, in seconds.
const AGAIN: i64 = 10;
const STALE: i64 = 45;

/// What one replica tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What it signs with and trusts.
    trust: String,
    /// Its proxies.
    proxies: usize,
    /// Of these, those that trust the same.
    trusting: usize,
    /// Of these, those whose certificate is signed by the root that signs.
    signed: usize,
    /// When, in seconds since 1970.
    at: i64,
}

impl Told {
    /// What this replica has to tell.
    pub fn now(plane: &Plane, authority: &Authority) -> Self {
        let trust = authority.trust();
        let counts = plane.proxies().trust(trust.id());
        Self {
            trust: trust.id().to_string(),
            proxies: counts.proxies,
            trusting: counts.trusting,
            signed: counts.signed,
            at: unix_now(),
        }
    }
}

/// Tells what this replica's proxies have, as long as a rotation is under way.
pub async fn tell(
    client: Client,
    namespace: &str,
    pod: &str,
    roots: &RootSecret,
    plane: &Plane,
    authority: &Authority,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let mut last: Option<Told> = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        if roots.roots().phase() == Phase::Steady {
            last = None;
            continue;
        }
        let told = Told::now(plane, authority);
        let same = |last: &Told| {
            Told {
                at: told.at,
                ..last.clone()
            } == told
                && told.at - last.at < AGAIN
        };
        if last.as_ref().is_some_and(same) {
            continue;
        }
        match write(&api, pod, &told).await {
            Ok(()) => last = Some(told),
            Err(error) => {
                tracing::warn!("rotation: what this replica's proxies have could not be told: {error}");
            }
        }
    }
}

/// Each replica owns its own entry.
async fn write(api: &Api<ConfigMap>, pod: &str, told: &Told) -> Result<(), ApiError> {
    let text = serde_json::to_string(told).unwrap_or_default();
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {PART_OF.0: PART_OF.1}},
        "data": {pod: text},
    });
    let params = PatchParams::apply(&format!("{}-{pod}", super::MANAGER)).force();
    call(api.patch(NAME, &params, &Patch::Apply(&map)))
        .await
        .map(|_| ())
}

/// Takes the steps of rotations. Only the holder of the Lease does.
pub async fn drive(client: Client, namespace: &str, roots: &RootSecret) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut done: Option<(Phase, Instant)> = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        let current = roots.roots();
        let phase = current.phase();
        if phase == Phase::Steady && current.adopted {
            done = None;
            continue;
        }
        let trust = current.trust().id().to_string();
        let progress = match gather(&maps, &pods, &trust).await {
            Ok(progress) => progress,
            Err(error) => {
                tracing::warn!("rotation: what proxies have could not be read: {error}");
                done = None;
                continue;
            }
        };
        done = match done {
            _ if !progress.is_done(phase) => None,
            Some((before, since)) if before == phase => Some((phase, since)),
            _ => Some((phase, Instant::now())),
        };
        let Some(next) = current.step(done.map(|(_, since)| since.elapsed())) else {
            tracing::debug!(phase = phase.as_str(), ?progress, "rotation: waits");
            continue;
        };
        match roots.write(&next).await {
            Ok(()) => tracing::info!(
                from = phase.as_str(),
                to = next.phase().as_str(),
                proxies = progress.proxies,
                "rotation: one step on"
            ),
            Err(error) => tracing::warn!("rotation: the step could not be taken: {error:#}"),
        }
        done = None;
    }
}

async fn gather(maps: &Api<ConfigMap>, pods: &Api<Pod>, trust: &str) -> Result<Progress, ApiError> {
    let told = call(maps.get_opt(NAME))
        .await?
        .and_then(|map| map.data)
        .unwrap_or_default();
    let pods = call(pods.list(&ListParams::default().labels(REPLICAS))).await?;
    let serving: BTreeSet<_> = pods
        .items
        .into_iter()
        .filter(serves)
        .filter_map(|pod| pod.metadata.name)
        .collect();
    Ok(sum(&serving, &told, trust, unix_now()))
}

/// Whether a replica may have proxies.
fn serves(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready || pod.metadata.deletion_timestamp.is_some()
}

/// All replicas together. What a replica that is gone told counts no more; one that said nothing of late said nothing.
fn sum(serving: &BTreeSet<String>, told: &BTreeMap<String, String>, trust: &str, now: i64) -> Progress {
    let mut progress = Progress {
        replicas: serving.len(),
        ..Progress::default()
    };
    for replica in serving {
        let read = told
            .get(replica)
            .and_then(|text| serde_json::from_str::<Told>(text).ok());
        let Some(told) = read.filter(|told| (now - told.at).abs() <= STALE) else {
            continue;
        };
        progress.proxies += told.proxies;
        if told.trust == trust {
            progress.told += 1;
            progress.trusting += told.trusting;
            progress.signed += told.signed;
        }
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trust: &str, proxies: usize, trusting: usize, at: i64) -> String {
        serde_json::to_string(&Told {
            trust: trust.into(),
            proxies,
            trusting,
            signed: 0,
            at,
        })
        .unwrap()
    }

    #[test]
    fn only_what_serving_replicas_say_of_the_present_roots_counts() {
        let serving = ["a", "b", "c", "d"].map(String::from).into();
        let entries = BTreeMap::from([
            ("a".to_owned(), told("now", 3, 3, 100)),
            ("b".to_owned(), told("before", 2, 2, 100)),
            ("c".to_owned(), told("now", 7, 7, 100 - STALE - 1)),
            ("d".to_owned(), "rubbish".to_owned()),
            ("gone".to_owned(), told("now", 9, 9, 100)),
        ]);
        assert_eq!(
            sum(&serving, &entries, "now", 100),
            Progress {
                replicas: 4,
                told: 1,
                proxies: 5,
                trusting: 3,
                signed: 0,
            }
        );
    }
}
