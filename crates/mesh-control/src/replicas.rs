//! What the replicas of the control plane tell each other: each writes an entry of its own, named after its pod, into a ConfigMap.
//!
//! A replica that is gone counts no more; one that said nothing of late said nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::api::{ApiError, call};
use crate::ca::secret::PART_OF;
use crate::clock::unix_now;

/// The pods of the control plane.
const REPLICAS: &str = "app.kubernetes.io/name=mesh-control";
/// Who owns an entry, in the API server's books: this, and the pod.
const MANAGER: &str = "mesh-control";
/// How often a replica says the same again, and how old what it said may be, in seconds.
pub const AGAIN: i64 = 10;
const STALE: i64 = 45;

/// A ConfigMap into which replicas write.
///
/// What is needed of the API server is `get`, `patch` and `create` of it, and `list` of the control plane's pods.
#[derive(Clone, Debug)]
pub struct Board {
    maps: Api<ConfigMap>,
    pods: Api<Pod>,
    name: &'static str,
}

/// What a replica said, and when, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<T> {
    #[serde(flatten)]
    said: T,
    at: i64,
}

/// One replica's entry.
#[derive(Debug)]
pub struct Place<T> {
    board: Board,
    pod: String,
    last: Option<Entry<T>>,
}

impl Board {
    /// The ConfigMap of this name in the control plane's namespace.
    pub fn new(client: Client, namespace: &str, name: &'static str) -> Self {
        Self {
            maps: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client, namespace),
            name,
        }
    }

    /// The entry of a replica's pod.
    pub fn place<T>(&self, pod: &str) -> Place<T> {
        Place {
            board: self.clone(),
            pod: pod.to_owned(),
            last: None,
        }
    }

    /// What each replica that may have proxies said of late; none: nothing. Entries of pods that are gone are taken out.
    ///
    /// # Errors
    /// When the API server does not tell, or does not take them out.
    pub async fn read<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, Option<T>>, ApiError> {
        let map = call(self.maps.get_opt(self.name)).await?;
        let written = map.and_then(|map| map.data).unwrap_or_default();
        let pods = call(self.pods.list(&ListParams::default().labels(REPLICAS))).await?;
        let name = |pod: &Pod| pod.metadata.name.clone();
        let there = pods.items.iter().filter_map(name).collect();
        self.sweep(&there, &written).await?;
        let serving = pods.items.iter().filter(|pod| serves(pod));
        Ok(said(&serving.filter_map(name).collect(), &written, unix_now()))
    }

    /// Takes out the entries of pods that are not there: they were listed after the entries had been read.
    async fn sweep(
        &self,
        there: &BTreeSet<String>,
        written: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let gone = written.keys().filter(|pod| !there.contains(*pod));
        let gone: BTreeMap<&String, ()> = gone.map(|pod| (pod, ())).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let patch = json!({"data": gone});
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        call(self.maps.patch(self.name, &params, &Patch::Merge(&patch))).await?;
        Ok(())
    }
}

/// Whether a replica may have proxies: its process runs. It need not be ready, since what it has stays with it when it loses the API
/// server, and it need not have been told to end.
fn serves(pod: &Pod) -> bool {
    let status = pod.status.iter();
    let mut containers = status.flat_map(|status| status.container_statuses.iter().flatten());
    containers.any(|container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    })
}

fn said<T: DeserializeOwned>(
    serving: &BTreeSet<String>,
    written: &BTreeMap<String, String>,
    now: i64,
) -> BTreeMap<String, Option<T>> {
    let entry = |pod: &String| -> Option<T> {
        let entry: Entry<T> = serde_json::from_str(written.get(pod)?).ok()?;
        ((now - entry.at).abs() <= STALE).then_some(entry.said)
    };
    serving.iter().map(|pod| (pod.clone(), entry(pod))).collect()
}

impl<T: Clone + PartialEq + Serialize> Place<T> {
    /// Says this, unless the same was said of late.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn say(&mut self, said: T) -> Result<(), ApiError> {
        let at = unix_now();
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.said == said && at - last.at < AGAIN)
        {
            return Ok(());
        }
        let entry = Entry { said, at };
        let text = serde_json::to_string(&entry).unwrap_or_default();
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.board.name, "labels": {PART_OF.0: PART_OF.1}},
            "data": {self.pod.as_str(): text},
        });
        let params = PatchParams::apply(&format!("{MANAGER}-{}", self.pod)).force();
        let patch = Patch::Apply(&map);
        call(self.board.maps.patch(self.board.name, &params, &patch)).await?;
        self.last = Some(entry);
        Ok(())
    }

    /// What is said next is written, whatever was said before.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_counts_while_its_process_runs() {
        let pod = |state: serde_json::Value| -> Pod {
            let container = json!({"name": "mesh-control", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                "state": state});
            serde_json::from_value(
                json!({"metadata": {"name": "a"}, "status": {"containerStatuses": [container]}}),
            )
            .unwrap()
        };
        assert!(
            serves(&pod(json!({"running": {}}))),
            "not ready, and maybe with proxies"
        );
        assert!(!serves(&pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}))));
        assert!(!serves(&pod(json!({"terminated": {"exitCode": 1}}))));
        assert!(!serves(&Pod::default()), "not started yet");
    }

    #[test]
    fn only_what_serving_replicas_said_of_late_counts() {
        let serving = ["a", "b", "c", "d"].map(String::from).into();
        let entry = |said: i64, at: i64| {
            let said = BTreeMap::from([("proxies".to_owned(), said)]);
            serde_json::to_string(&Entry { said, at }).unwrap()
        };
        let written = BTreeMap::from([
            ("a".to_owned(), entry(3, 100)),
            ("b".to_owned(), entry(7, 100 - STALE - 1)),
            ("c".to_owned(), "rubbish".to_owned()),
            ("gone".to_owned(), entry(9, 100)),
        ]);
        let read = said::<BTreeMap<String, i64>>(&serving, &written, 100);
        let proxies = |pod: &str| read[pod].as_ref().map(|said| said["proxies"]);
        assert_eq!(read.len(), 4);
        assert_eq!(["a", "b", "c", "d"].map(proxies), [Some(3), None, None, None]);
    }
}
