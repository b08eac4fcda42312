//! What the API server refused, in words.

use kube::Error;

use crate::error::Failure;

/// A field that another owner holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Conflict {
    /// Such as `kubectl-client-side-apply`.
    pub(crate) owner: String,
    /// Such as `.spec.rules[name="canary"].split.backends[name="stable"].weight`.
    pub(crate) field: String,
}

/// A failure of what was tried, such as `cannot apply ModelRoute ml/fraud`.
pub(crate) fn refused(what: &str, error: &Error) -> Failure {
    match error {
        Error::Api(status) if status.code == 401 => {
            Failure::new(format!("{what}: the API server does not know who you are"))
                .hint("log in to the Kubernetes cluster again, or choose another --context")
        }
        Error::Api(status) if status.is_forbidden() && !status.message.contains("admission webhook") => {
            Failure::new(format!("{what}: {}", status.message))
                .hint("ask for the permission it names, or use credentials that have it")
        }
        Error::Api(status) => Failure::new(format!("{what}: {}", status.message)),
        other => Failure::new(format!("{what}: {}", innermost(other)))
            .hint("is the API server reachable, and is this the --context you mean?"),
    }
}

/// Whether the object, or the kind of object, is not there.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// Whether the user may not.
pub(crate) fn is_forbidden(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403)
}

/// Who owns the fields that kept a server-side apply from being done; empty when it failed for something else.
pub(crate) fn conflicts(error: &Error) -> Vec<Conflict> {
    let Error::Api(status) = error else {
        return Vec::new();
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    conflicts
        .map(|cause| {
            // Such as: conflict with "kubectl" using mesh.dev/v1alpha1
            let owner = cause.message.split('"').nth(1).unwrap_or(&cause.message);
            Conflict {
                owner: owner.to_owned(),
                field: cause.field.clone(),
            }
        })
        .collect()
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_name_owner_and_field() {
        let status = serde_json::json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict",
                "message": "conflict with \"kubectl-client-side-apply\" using mesh.dev/v1alpha1",
                "field": ".spec.rules[name=\"canary\"].split.backends[name=\"stable\"].weight",
            }]},
        });
        let error = Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        let conflict = Conflict {
            owner: "kubectl-client-side-apply".into(),
            field: ".spec.rules[name=\"canary\"].split.backends[name=\"stable\"].weight".into(),
        };
        assert_eq!(conflicts(&error), [conflict]);
    }
}
