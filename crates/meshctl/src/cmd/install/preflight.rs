//! What must hold before an installation, each finding with its fix.

use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;

use super::plan::{Installed, PART_OF, Plan};
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::kubernetes::{Cluster, Resource};

/// The first release of Kubernetes that has native sidecars by default.
const OLDEST: (u32, u32) = (1, 29);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A first installation, or the same one again.
    Install,
    /// Another release over the one that is there.
    Upgrade,
    /// Nothing: it is only looked.
    Look,
}

/// Looks at the Kubernetes cluster.
pub(crate) async fn look(
    cluster: &Cluster,
    plan: &Plan,
    intent: Intent,
    there: Option<&Installed>,
) -> Vec<Finding> {
    let version = version(cluster).await;
    // Where nobody answers, or too old a release does, the rest says nothing.
    if version.verdict == Verdict::Failed {
        return vec![version];
    }
    let mut findings = vec![version];
    findings.push(permissions(cluster, plan).await);
    findings.push(kinds(cluster, plan).await);
    findings.push(elsewhere(cluster).await);
    findings.extend(earlier(intent, there));
    findings
}

async fn version(cluster: &Cluster) -> Finding {
    let version = match cluster.client.apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            let failure = crate::kubernetes::refused("the API server does not answer", &error);
            return wrong(
                "kubernetes",
                Verdict::Failed,
                failure.to_string(),
                "is the API server reachable, and is this the --context you mean?",
            );
        }
    };
    // Some providers write 29+.
    let number = |text: &str| text.trim_end_matches('+').parse::<u32>().unwrap_or_default();
    let found = (number(&version.major), number(&version.minor));
    if found < OLDEST {
        return wrong(
            "kubernetes",
            Verdict::Failed,
            format!(
                "Kubernetes is {}, and the mesh wants {}.{}",
                version.git_version, OLDEST.0, OLDEST.1
            ),
            "upgrade the Kubernetes cluster: proxies are native sidecars, which it does not have",
        );
    }
    ok(
        "kubernetes",
        format!("Kubernetes {} at {}", version.git_version, cluster.context),
    )
}

async fn permissions(cluster: &Cluster, plan: &Plan) -> Finding {
    let mut resources: Vec<&Resource> = plan.all().map(|manifest| manifest.resource).collect();
    resources.dedup();
    let asked = resources
        .iter()
        .flat_map(|resource| ["get", "create", "patch"].map(|verb| (*resource, verb)));
    let denied: Vec<String> = join_all(asked.map(|(resource, verb)| async move {
        match allowed(cluster, resource, verb).await {
            Ok(true) => None,
            Ok(false) => Some(format!("{verb} {}", resource.plural)),
            Err(error) => Some(format!("{verb} {} ({error})", resource.plural)),
        }
    }))
    .await
    .into_iter()
    .flatten()
    .collect();
    if denied.is_empty() {
        return ok("permissions", "you may create everything that is installed");
    }
    wrong(
        "permissions",
        Verdict::Failed,
        format!("you may not {}", denied.join(", ")),
        "use credentials that may, or let their owner apply what `meshctl install -o yaml` prints",
    )
}

async fn allowed(cluster: &Cluster, resource: &Resource, verb: &str) -> Result<bool, kube::Error> {
    let attributes = ResourceAttributes {
        group: Some(resource.group.into()),
        resource: Some(resource.plural.into()),
        verb: Some(verb.into()),
        namespace: resource.namespaced.then(|| cluster.namespace.to_string()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = cluster.all().create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Definitions of the same kinds that somebody else made.
async fn kinds(cluster: &Cluster, plan: &Plan) -> Finding {
    let mut foreign = Vec::new();
    for manifest in &plan.crds {
        let live = match manifest.live(cluster).await {
            Ok(live) => live,
            Err(error) => {
                let failure = crate::kubernetes::refused("cannot see the definitions of kinds", &error);
                return wrong(
                    "kinds",
                    Verdict::Failed,
                    failure.to_string(),
                    "ask for the permission",
                );
            }
        };
        let Some(live) = live else { continue };
        let annotations = &live["metadata"]["annotations"];
        if let Some(release) = annotations["meta.helm.sh/release-name"].as_str() {
            foreign.push(format!("{} is of Helm release {release}", manifest.name()));
        } else if live["spec"]["names"]["kind"] != manifest.object["spec"]["names"]["kind"] {
            foreign.push(format!("{} defines another kind", manifest.name()));
        }
    }
    if foreign.is_empty() {
        return ok(
            "kinds",
            format!(
                "the definitions of {} kinds are free, or the mesh's own",
                plan.crds.len()
            ),
        );
    }
    wrong(
        "kinds",
        Verdict::Failed,
        foreign.join(", "),
        "remove what defines them, or install the mesh the way that it was",
    )
}

/// Names without a namespace can be there once.
async fn elsewhere(cluster: &Cluster) -> Finding {
    let binding = match cluster.all::<ClusterRoleBinding>().get_opt("mesh-control").await {
        Ok(binding) => binding,
        Err(_) => return ok("namespace", "whether a mesh is installed elsewhere can't be seen"),
    };
    let subjects = binding
        .iter()
        .flat_map(|binding| binding.subjects.iter().flatten());
    let mut namespaces = subjects.filter_map(|subject| subject.namespace.as_deref());
    match namespaces.find(|namespace| *namespace != cluster.namespace.as_str()) {
        None => ok(
            "namespace",
            format!("the mesh's namespace is {}", cluster.namespace),
        ),
        Some(other) => wrong(
            "namespace",
            Verdict::Failed,
            format!("a mesh is installed in namespace {other}, and a Kubernetes cluster has one"),
            format!("say --mesh-namespace {other}, or uninstall that one"),
        ),
    }
}

fn earlier(intent: Intent, there: Option<&Installed>) -> Option<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let refuse = |says: String, fix: &str| Some(wrong("installation", Verdict::Failed, says, fix));
    let release = there.and_then(|there| there.release.as_deref());
    if let Some(helm) = there.and_then(|there| there.helm.as_deref()) {
        let says = format!("the mesh belongs to Helm release {helm}");
        return match intent {
            Intent::Look => Some(ok("installation", says)),
            Intent::Install | Intent::Upgrade => refuse(says, "use `helm upgrade`, which knows it"),
        };
    }
    match (intent, release) {
        (Intent::Upgrade, None) => refuse("no mesh is installed".into(), "`meshctl install` installs one"),
        (Intent::Install, Some(release)) if release != own => refuse(
            format!("mesh {release} is installed, and this is meshctl {own}"),
            "`meshctl upgrade` brings it to this release",
        ),
        (Intent::Upgrade, Some(release)) if numbers(release) > numbers(own) => refuse(
            format!("mesh {release} is installed, which is newer than this meshctl, {own}"),
            "use the meshctl of that release or a later one",
        ),
        (_, Some(release)) => Some(ok("installation", format!("mesh {release} is installed"))),
        (_, None) => None,
    }
}

/// A release's numbers, so that 0.10 is later than 0.9.
fn numbers(release: &str) -> Vec<u64> {
    let parts = release.split(['.', '-', '+']);
    parts.map_while(|part| part.parse().ok()).collect()
}

/// The label that tells an object is the mesh's.
pub(crate) fn is_ours(object: &serde_json::Value) -> bool {
    object["metadata"]["labels"][PART_OF] == "mesh"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn there(release: &str, helm: Option<&str>) -> Installed {
        Installed {
            release: Some(release.into()),
            helm: helm.map(Into::into),
            values: json!({}),
        }
    }

    #[test]
    fn what_is_installed_decides_what_can_be_done() {
        let own = env!("CARGO_PKG_VERSION");
        for (intent, there, verdict) in [
            (Intent::Install, None, None),
            (Intent::Install, Some(there(own, None)), Some(Verdict::Ok)),
            (Intent::Install, Some(there("0.0.9", None)), Some(Verdict::Failed)),
            (
                Intent::Install,
                Some(there(own, Some("mesh"))),
                Some(Verdict::Failed),
            ),
            (Intent::Upgrade, None, Some(Verdict::Failed)),
            (Intent::Upgrade, Some(there("0.0.9", None)), Some(Verdict::Ok)),
            (
                Intent::Upgrade,
                Some(there("99.0.0", None)),
                Some(Verdict::Failed),
            ),
            (
                Intent::Look,
                Some(there("0.0.9", Some("mesh"))),
                Some(Verdict::Ok),
            ),
        ] {
            let found = earlier(intent, there.as_ref()).map(|finding| finding.verdict);
            assert_eq!(found, verdict, "{intent:?} {there:?}");
        }
        assert!(numbers("0.10.0") > numbers("0.9.1"));
    }
}
