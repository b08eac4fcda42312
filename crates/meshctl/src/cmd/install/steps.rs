//! The steps of an installation: each applies some objects and waits until they are what they should be.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PatchParams;
use serde_json::Value;
use tokio::time::Instant;

use super::super::Context;
use super::MANAGER;
use super::plan::Plan;
use crate::error::{Failure, Outcome};
use crate::kubernetes::{Change, Cluster, Manifest, refused, replicas};

/// How often it is looked whether something has become ready.
const LOOK: Duration = Duration::from_millis(300);

/// As the installation applies objects. What it sets is its own to set: a field that somebody changed by hand is changed
/// back.
pub(super) fn params() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

/// Does all of them.
pub(super) async fn carry_out(
    context: &Context,
    cluster: &Cluster,
    plan: &Plan,
    timeout: Duration,
) -> Outcome {
    apply(context, cluster, std::slice::from_ref(&plan.namespace)).await?;
    apply(context, cluster, &plan.crds).await?;
    wait(context, timeout, "the kinds", async || kinds(cluster, plan).await).await?;
    apply(context, cluster, &plan.control).await?;
    wait(context, timeout, "the control plane", async || {
        ready(cluster).await
    })
    .await?;
    apply(context, cluster, &plan.webhooks).await?;
    wait(context, timeout, "the webhooks", async || {
        trusted(cluster, plan).await
    })
    .await
}

async fn apply(context: &Context, cluster: &Cluster, manifests: &[Manifest]) -> Outcome {
    for manifest in manifests {
        let (change, _) = manifest
            .apply(cluster, &params())
            .await
            .map_err(|error| refused(&format!("cannot apply {manifest}"), &error))?;
        let fields = match &change {
            Change::Configured(fields) => format!(" ({})", fields.join(", ")),
            Change::Created | Change::Unchanged => String::new(),
        };
        context
            .printer
            .say(format!("{manifest} {}{fields}", change.as_str()));
    }
    Ok(())
}

/// Waits until nothing is missing, and says what is whenever that changes.
async fn wait(
    context: &Context,
    timeout: Duration,
    what: &str,
    missing: impl AsyncFn() -> Outcome<Option<String>>,
) -> Outcome {
    let (end, mut said) = (Instant::now() + timeout, None);
    loop {
        let Some(now) = missing().await? else {
            return Ok(());
        };
        if said.as_ref() != Some(&now) {
            context.printer.say(format!("waiting for {what}: {now}"));
        }
        if Instant::now() >= end {
            return Err(
                Failure::new(format!("{what}: {now} after {} s", timeout.as_secs()))
                    .hint("`meshctl check` finds what is wrong; the same command again goes on from here"),
            );
        }
        said = Some(now);
        tokio::time::sleep(LOOK).await;
    }
}

/// The kinds that the API server does not serve yet.
async fn kinds(cluster: &Cluster, plan: &Plan) -> Outcome<Option<String>> {
    let mut missing = Vec::new();
    for manifest in &plan.crds {
        let live = manifest.live(cluster).await;
        let live = live.map_err(|error| refused(&format!("cannot see {manifest}"), &error))?;
        if !live.is_some_and(|live| holds(&live, "Established")) {
            missing.push(manifest.name().to_owned());
        }
    }
    Ok((!missing.is_empty()).then(|| format!("{} not served yet", missing.join(", "))))
}

/// Whether a condition of an object is true.
pub(crate) fn holds(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut fitting = conditions.filter(|it| it["type"] == condition);
    fitting.any(|it| it["status"] == "True")
}

/// What the control plane lacks to be ready.
async fn ready(cluster: &Cluster) -> Outcome<Option<String>> {
    let deployment = cluster.own::<Deployment>().get("mesh-control").await;
    let deployment = deployment.map_err(|error| refused("cannot see Deployment mesh-control", &error))?;
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let status = deployment.status.unwrap_or_default();
    let current = status.observed_generation >= deployment.metadata.generation;
    let (updated, available) = (
        status.updated_replicas.unwrap_or_default(),
        status.available_replicas.unwrap_or_default(),
    );
    let all = status.replicas.unwrap_or_default();
    if current && updated == wanted && available == wanted && all == wanted {
        return Ok(None);
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for pod in replicas(cluster).await? {
        if let Some(reason) = held_up(&pod) {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let ready = if current { updated.min(available) } else { 0 };
    let mut text = format!("{ready} of {wanted} replicas ready");
    if all > wanted && ready == wanted {
        text.push_str(", earlier ones are ending");
    }
    for (reason, _) in reasons {
        text.push_str(&format!("; {reason}"));
    }
    Ok(Some(text))
}

/// Why a pod does not run, in the kubelet's or the scheduler's words.
pub(crate) fn held_up(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten();
    let containers = containers.chain(status.container_statuses.iter().flatten());
    for container in containers {
        let state = container.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.clone().unwrap_or_default();
            // The message of a container that is only being made says nothing.
            let message = waiting.message.as_ref().filter(|_| reason != "ContainerCreating");
            return Some(match message {
                Some(message) => format!("{reason}: {message}"),
                None => reason,
            });
        }
    }
    let conditions = status.conditions.iter().flatten();
    let mut unscheduled = conditions.filter(|it| it.type_ == "PodScheduled" && it.status == "False");
    unscheduled.next().and_then(|condition| condition.message.clone())
}

/// The webhooks that no CA bundle is written to yet: the API server would not trust them.
async fn trusted(cluster: &Cluster, plan: &Plan) -> Outcome<Option<String>> {
    for manifest in &plan.webhooks {
        let live = manifest.live(cluster).await;
        let live = live.map_err(|error| refused(&format!("cannot see {manifest}"), &error))?;
        let webhooks = live.as_ref().and_then(|live| live["webhooks"].as_array());
        let without = |webhook: &Value| {
            webhook["clientConfig"]["caBundle"]
                .as_str()
                .is_none_or(str::is_empty)
        };
        if webhooks.is_none_or(|webhooks| webhooks.iter().any(without)) {
            return Ok(Some(format!("{manifest} has no CA bundle yet")));
        }
    }
    Ok(None)
}
