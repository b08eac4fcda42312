//! The kinds of the Gateway API that a mesh reads, as a release of it has them.

use anyhow::Result;

use super::kubectl::Kubectl;
use super::programs::gateway_kind;

const KINDS: [&str; 3] = ["httproutes", "grpcroutes", "referencegrants"];

/// Installs those that are not there, and waits until they can be used. They stay: whoever has them may have them of another
/// release.
///
/// # Errors
/// When `e2e/cluster/provision` did not run ([`super::Missing`]), or the API server refuses one.
pub fn install(kubectl: &Kubectl) -> Result<()> {
    for plural in KINDS {
        let name = format!("customresourcedefinition/{plural}.gateway.networking.k8s.io");
        if kubectl.run(&["get", &name]).is_err() {
            let file = gateway_kind(plural)?.display().to_string();
            // Too large for the annotation that applying keeps otherwise.
            kubectl.run(&["apply", "--server-side", "--filename", &file])?;
        }
        kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", &name])?;
    }
    Ok(())
}
