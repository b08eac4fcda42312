//! What is wrong with a mesh on Kubernetes: what is there is gathered here, and judged in `control` and `pods`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{DynamicObject, ListParams, PostParams};
use mesh_api::wire::admin::{GetRootRotationRequest, GetStatusRequest, ListProxiesRequest};
use serde_json::{Value, json};

use super::{control, pods, proxies, told};
use crate::client::answer;
use crate::cmd::install::plan::{Installed, Plan, installed};
use crate::cmd::install::preflight::{self, Intent};
use crate::error::Outcome;
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::kubernetes::{self, Cluster, Resource, refused};
use crate::output::{ago, clock};

/// The ConfigMap with the roots that proxies trust.
const BUNDLE: &str = "mesh-trust-bundle";

/// Whether an installation could be done.
pub(super) async fn before(cluster: &Cluster) -> Outcome<Vec<Finding>> {
    let (there, plan, unseen) = match planned(cluster).await {
        Ok((there, plan)) => (there, plan, None),
        Err(failure) => (
            None,
            Plan::of(&json!({}), &cluster.namespace)?,
            Some(told(failure)?),
        ),
    };
    let mut findings = preflight::look(cluster, &plan, Intent::Look, there.as_ref()).await;
    if findings.iter().all(|finding| finding.verdict != Verdict::Failed) {
        findings.extend(unseen);
    }
    Ok(findings)
}

/// Looks at everything.
pub(super) async fn look(cluster: &Cluster) -> Outcome<Vec<Finding>> {
    let (there, plan) = planned(cluster).await?;
    let Some(there) = there else {
        let says = format!(
            "no mesh is installed in namespace {} of {}",
            cluster.namespace, cluster.context
        );
        return Ok(vec![wrong(
            "control",
            Verdict::Failed,
            says,
            "`meshctl install` installs one",
        )]);
    };
    let mut live = Vec::new();
    for manifest in plan.all() {
        live.push((manifest, manifest.live(cluster).await));
    }
    let bundles: Result<Vec<ConfigMap>, _> = list(cluster, &format!("metadata.name={BUNDLE}")).await;
    let roots = bundles
        .as_ref()
        .ok()
        .and_then(|bundles| roots(bundles, cluster.namespace.as_str()));
    let mut findings = control::replicas(&kubernetes::replicas(cluster).await?, there.release.as_deref());
    findings.extend(control::objects(&live, roots.as_deref()));
    findings.push(validating(cluster).await);
    findings.push(injecting(cluster).await);
    findings.extend(answers(cluster, bundles).await?);
    Ok(findings)
}

async fn planned(cluster: &Cluster) -> Outcome<(Option<Installed>, Plan)> {
    let there = installed(cluster).await?;
    let values = there
        .as_ref()
        .map_or_else(|| json!({}), |there| there.values.clone());
    let plan = Plan::of(&values, &cluster.namespace)?;
    Ok((there, plan))
}

/// Objects of all namespaces.
async fn list<K>(cluster: &Cluster, fields: &str) -> Outcome<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let params = ListParams::default().fields(fields);
    let listed = cluster.all::<K>().list(&params).await;
    let what = format!("cannot see the {} of all namespaces", K::plural(&()));
    Ok(listed.map_err(|error| refused(&what, &error))?.items)
}

fn roots(bundles: &[ConfigMap], namespace: &str) -> Option<String> {
    let mut own = bundles
        .iter()
        .filter(|it| it.metadata.namespace.as_deref() == Some(namespace));
    own.next()?.data.as_ref()?.get("roots.pem").cloned()
}

/// What the control plane says, and what its proxies' pods are like.
async fn answers(cluster: &Cluster, bundles: Outcome<Vec<ConfigMap>>) -> Outcome<Vec<Finding>> {
    let mut admin = match kubernetes::admin(cluster).await {
        Ok(admin) => admin,
        Err(failure) => return Ok(vec![told(failure)?]),
    };
    let now = clock();
    let status = match answer(admin.get_status(GetStatusRequest {})).await {
        Ok(status) => status,
        Err(failure) => return Ok(vec![told(failure)?]),
    };
    let list_of_proxies = answer(admin.list_proxies(ListProxiesRequest {})).await?;
    let mut findings = vec![ok(
        "control",
        format!("the control plane answers, up for {}", ago(status.started, now)),
    )];
    findings.push(proxies::versions(&status, &list_of_proxies));
    findings.push(proxies::root(
        &status,
        now,
        "`meshctl rotate` replaces it, and nobody is interrupted",
    ));
    if let Ok(rotation) = answer(admin.get_root_rotation(GetRootRotationRequest {})).await {
        findings.extend(proxies::rotation(&rotation));
    }
    findings.extend(proxies::documents(&status));
    let seen = async {
        Ok(pods::Seen {
            pods: list::<Pod>(cluster, "").await?,
            namespaces: list::<Namespace>(cluster, "").await?,
            bundles: bundles?
                .into_iter()
                .filter_map(|it| it.metadata.namespace)
                .collect::<BTreeSet<_>>(),
            proxies: list_of_proxies,
            mesh: cluster.namespace.to_string(),
        })
    };
    match seen.await {
        Ok(seen) => findings.extend(pods::look(&seen, now)),
        Err(failure) => findings.push(told(failure)?),
    }
    Ok(findings)
}

/// Whether the API server asks the control plane about documents: one that can't be is sent, to be checked alone.
async fn validating(cluster: &Cluster) -> Finding {
    let object = json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "meshctl-check", "namespace": cluster.namespace.as_str()},
        // Two rules of one name would be refused by the API server itself; a backend's service that is no name is not.
        "spec": {"service": "meshctl-check", "rules": [{
            "name": "check",
            "split": {"backends": [{"name": "check", "service": "Not/A/Service", "weight": 1}]},
        }]},
    });
    let fix = "see the control plane's log, and whether the API server reaches Service mesh-control";
    match tried(cluster, object).await {
        Err(kube::Error::Api(status)) if status.message.contains("validate.mesh.dev") => {
            if status.message.contains("failed calling webhook") {
                return wrong("webhooks", Verdict::Failed, status.message, fix);
            }
            ok("webhooks", "documents are checked when they are written")
        }
        Ok(_) => wrong(
            "webhooks",
            Verdict::Failed,
            "documents are not checked when they are written: a wrong one was taken in a dry run",
            fix,
        ),
        Err(error) => untried("whether documents are checked when they are written", &error),
    }
}

/// Whether the API server has pods injected: one that asks for it is sent, to be looked at alone.
async fn injecting(cluster: &Cluster) -> Finding {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "meshctl-check",
            "namespace": "default",
            "labels": {"mesh.dev/inject": "enabled"},
        },
        "spec": {"containers": [{"name": "check", "image": "check"}]},
    });
    let fix = "see the control plane's log, and whether the API server reaches Service mesh-control";
    match tried(cluster, object).await {
        Ok(pod) if pod["metadata"]["annotations"]["mesh.dev/injected"].is_string() => {
            ok("webhooks", "pods that ask for a proxy get one")
        }
        Ok(_) => wrong(
            "webhooks",
            Verdict::Failed,
            "a pod that asks for a proxy gets none",
            fix,
        ),
        Err(kube::Error::Api(status)) if status.message.contains("inject.mesh.dev") => {
            wrong("webhooks", Verdict::Failed, status.message, fix)
        }
        Err(error) => untried("whether pods get a proxy", &error),
    }
}

/// Creates an object in a dry run: everything is checked, and nothing kept.
async fn tried(cluster: &Cluster, object: Value) -> Result<Value, kube::Error> {
    let resource = match object["kind"].as_str() {
        Some("Pod") => Resource::POD,
        _ => Resource::of("ModelRoute").unwrap_or(Resource::POD),
    };
    let params = PostParams {
        dry_run: true,
        field_manager: Some("meshctl-check".into()),
    };
    let api = resource.api(&cluster.client, object["metadata"]["namespace"].as_str());
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let made = api.create(&params, &object).await?;
    serde_json::to_value(made).map_err(kube::Error::SerdeError)
}

fn untried(what: &str, error: &kube::Error) -> Finding {
    let failure = refused(&format!("{what} can't be tried"), error);
    wrong(
        "webhooks",
        Verdict::Warning,
        failure.to_string(),
        "check with credentials that may create pods and ModelRoutes",
    )
}
