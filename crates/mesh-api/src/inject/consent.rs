//! Whether a pod is to have a sidecar.

use serde_json::Value;

use super::annotations::{INJECT, field, text_of};
use super::{Namespace, Reason, Refusal};

/// Why the pod is to be left alone; none: it is to have a sidecar.
///
/// # Errors
/// When what it, or its Namespace, says can't be understood.
pub(super) fn withheld(pod: &Value, namespace: &Namespace) -> Result<Option<Reason>, Refusal> {
    let own = [
        ("labels", text_of(pod, "labels", INJECT)?),
        ("annotations", text_of(pod, "annotations", INJECT)?),
    ];
    let theirs = [
        ("labels", namespace.labels.get(INJECT).map(String::as_str)),
        (
            "annotations",
            namespace.annotations.get(INJECT).map(String::as_str),
        ),
    ];
    let wanted = match said("", own)? {
        Some(false) => return Ok(Some(Reason::OptedOut)),
        Some(true) => true,
        None => said("the Namespace's ", theirs)?.unwrap_or(false),
    };
    if !wanted {
        return Ok(Some(Reason::NotEnabled));
    }
    Ok(unable(&pod["spec"], &pod["metadata"]))
}

/// What a label and an annotation say together; none: nothing.
fn said(whose: &str, words: [(&str, Option<&str>); 2]) -> Result<Option<bool>, Refusal> {
    let mut said = None;
    for (kind, text) in words {
        let wanted = match text {
            None => continue,
            Some("enabled") => true,
            Some("disabled") => false,
            Some(other) => {
                return Err(Refusal {
                    field: format!("{whose}{}", field(kind, INJECT)),
                    reason: format!("{other:?} is neither \"enabled\" nor \"disabled\""),
                });
            }
        };
        if said.is_some_and(|said| said != wanted) {
            return Err(Refusal {
                field: format!("{whose}{}", field(kind, INJECT)),
                reason: "the label of this name says the opposite".to_owned(),
            });
        }
        said = Some(wanted);
    }
    Ok(said)
}

/// Why such a pod can't have a sidecar.
fn unable(spec: &Value, metadata: &Value) -> Option<Reason> {
    if spec["hostNetwork"] == true {
        return Some(Reason::HostNetwork);
    }
    // The kubelet's own: nobody can change what it runs.
    if metadata["annotations"]
        .get("kubernetes.io/config.mirror")
        .is_some()
    {
        return Some(Reason::Static);
    }
    let selector = &spec["nodeSelector"]["kubernetes.io/os"];
    (spec["os"]["name"] == "windows" || selector == "windows").then_some(Reason::Windows)
}
