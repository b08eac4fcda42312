//! Whether the control plane is there as it was installed.

use base64::Engine as _;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use crate::cmd::install::steps::{held_up, holds};
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::kubernetes::{Manifest, contains, is_ready};

/// An object as it should be, and as it is.
type Beside<'a> = (&'a Manifest, Result<Option<Value>, kube::Error>);

/// Whether the control plane's replicas run.
pub(super) fn replicas(pods: &[Pod], release: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let says = format!(
        "{ready} of {} replicas are ready, release {}",
        pods.len(),
        release.unwrap_or("unknown")
    );
    findings.push(match ready {
        0 => wrong(
            "control",
            Verdict::Failed,
            says,
            "`kubectl describe pods` and `kubectl logs` in the mesh's namespace say why; `meshctl install` brings back \
             what is missing",
        ),
        _ => ok("control", says),
    });
    for pod in pods {
        if let Some(reason) = held_up(pod) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let fix = format!("`kubectl describe pod {name}` in the mesh's namespace says more");
            findings.push(wrong(
                "control",
                Verdict::Failed,
                format!("pod {name}: {reason}"),
                fix,
            ));
        }
    }
    findings
}

/// Whether every object of the installation is there, and says what it should. Namespace and Deployment may be changed
/// by others, and are looked at by what comes of them.
pub(super) fn objects(live: &[Beside<'_>], roots: Option<&str>) -> Vec<Finding> {
    let areas: [(&'static str, &[&str], &str); 3] = [
        (
            "kinds",
            &["CustomResourceDefinition"],
            "the definitions of the mesh's kinds are this release's",
        ),
        (
            "permissions",
            &[
                "ServiceAccount",
                "ClusterRole",
                "ClusterRoleBinding",
                "Role",
                "RoleBinding",
            ],
            "the control plane has the permissions it needs",
        ),
        (
            "objects",
            &["ConfigMap", "Service", "Deployment", "PodDisruptionBudget"],
            "everything installed is there",
        ),
    ];
    let mut findings = Vec::new();
    for (about, kinds, well) in areas {
        let of_area = live
            .iter()
            .filter(|(manifest, _)| kinds.contains(&manifest.resource.kind));
        let bad: Vec<Finding> = of_area.filter_map(|beside| object(about, beside)).collect();
        if bad.is_empty() {
            findings.push(ok(about, well));
        }
        findings.extend(bad);
    }
    let webhooks = live
        .iter()
        .filter(|(manifest, _)| manifest.resource.kind.ends_with("WebhookConfiguration"));
    for beside in webhooks {
        findings.push(object("webhooks", beside).unwrap_or_else(|| webhook(beside, roots)));
    }
    findings
}

/// What is wrong with one object.
fn object(about: &'static str, (manifest, live): &Beside<'_>) -> Option<Finding> {
    let fix = "`meshctl install` brings it back; `meshctl upgrade` brings it to this release";
    let live = match live {
        Ok(Some(live)) => live,
        Ok(None) => {
            return Some(wrong(
                about,
                Verdict::Failed,
                format!("{manifest} is missing"),
                fix,
            ));
        }
        Err(error) => {
            let failure = crate::kubernetes::refused(&format!("cannot see {manifest}"), error);
            return Some(wrong(
                about,
                Verdict::Warning,
                failure.to_string(),
                "check with credentials that may see it",
            ));
        }
    };
    if manifest.resource.kind == "CustomResourceDefinition" && !holds(live, "Established") {
        let says = format!("{} is not served", manifest.name());
        return Some(wrong(
            about,
            Verdict::Failed,
            says,
            "its conditions say why: `kubectl describe crd`",
        ));
    }
    // Quantities are written otherwise by the API server.
    if manifest.resource.kind == "Deployment" {
        return None;
    }
    let field = contains(live, &manifest.object).err()?;
    let says = format!("{manifest} differs from what this release installs: {field}");
    Some(wrong(about, Verdict::Warning, says, fix))
}

/// Whether the API server trusts a webhook's certificate.
fn webhook((manifest, live): &Beside<'_>, roots: Option<&str>) -> Finding {
    let webhooks = live.as_ref().ok().and_then(Option::as_ref);
    let webhooks = webhooks.and_then(|live| live["webhooks"].as_array());
    let bundles: Vec<Option<String>> = webhooks
        .into_iter()
        .flatten()
        .map(|webhook| {
            let text = webhook["clientConfig"]["caBundle"].as_str()?;
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
        })
        .collect();
    let fix = "the replica that holds Lease mesh-control writes it: see its log";
    if bundles.iter().any(Option::is_none) {
        return wrong(
            "webhooks",
            Verdict::Failed,
            format!("{manifest} has no CA bundle"),
            fix,
        );
    }
    let other = |bundle: &&String| roots.is_some_and(|roots| roots.trim() != bundle.trim());
    if bundles.iter().flatten().any(|bundle| other(&bundle)) {
        let says = format!("the CA bundle of {manifest} is not the mesh's roots");
        return wrong("webhooks", Verdict::Warning, says, fix);
    }
    ok(
        "webhooks",
        format!("{manifest} has the mesh's roots as CA bundle"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(kind: &str, more: &Value) -> Manifest {
        let mut object = json!({"kind": kind, "metadata": {"name": "mesh-control"}});
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        Manifest::of(object).unwrap()
    }

    #[test]
    fn what_is_missing_or_changed_is_named() {
        let role = manifest("ClusterRole", &json!({"rules": [{"verbs": ["list", "watch"]}]}));
        let mut less = role.object.clone();
        less["rules"][0]["verbs"] = json!(["list"]);
        let service = manifest("Service", &json!({"spec": {"ports": [{"port": 15010}]}}));
        let findings = objects(&[(&role, Ok(Some(less))), (&service, Ok(None))], None);
        let said: Vec<&str> = findings.iter().map(|it| it.says.as_str()).collect();
        assert_eq!(
            said,
            [
                "the definitions of the mesh's kinds are this release's",
                "ClusterRole mesh-control differs from what this release installs: rules[0].verbs",
                "Service mesh-control is missing",
            ]
        );
    }

    #[test]
    fn a_webhook_is_trusted_by_the_meshs_roots() {
        let wanted = manifest(
            "MutatingWebhookConfiguration",
            &json!({"webhooks": [{"name": "a"}]}),
        );
        let bundle = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for (live, verdict) in [
            (json!({}), Verdict::Failed),
            (json!({"caBundle": ""}), Verdict::Failed),
            (json!({"caBundle": bundle("another")}), Verdict::Warning),
            (json!({"caBundle": bundle("roots\n")}), Verdict::Ok),
        ] {
            let mut object = wanted.object.clone();
            object["webhooks"][0]["clientConfig"] = live.clone();
            let findings = objects(&[(&wanted, Ok(Some(object)))], Some("roots"));
            assert_eq!(findings.last().unwrap().verdict, verdict, "{live}");
        }
    }
}
