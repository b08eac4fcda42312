//! The kinds of the Gateway API that a mesh reads, as a release of it has them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kubectl::Kubectl;
use super::programs::gateway_kind;

/// How long a kind may take until it can be used.
const PATIENCE: Duration = Duration::from_secs(60);
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
        established(kubectl, &name)?;
    }
    Ok(())
}

/// Waits until the API server serves a kind. For its first moment it has no conditions at all, which `kubectl wait` takes for an
/// error.
fn established(kubectl: &Kubectl, name: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let done = kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", name]);
        match done {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("{name} can't be used"));
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
