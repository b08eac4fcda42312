//! Sidecars for pods: decides whether a pod is to have one, and adds it, or says why it can't be.
//!
//! Pure: JSON in, JSON out. The webhook and `meshctl inject` call this one code, so that a pod is the same whichever way it
//! came to its sidecar, and what one has injected the other leaves alone.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

mod annotations;
mod checks;
mod consent;
mod containers;
mod objects;
mod patch;
pub mod probe;
mod quantity;
mod rewrite;
mod settings;
mod undo;

pub use annotations::{ANNOTATIONS, Annotation, INJECT, INJECTED, PROXY, PULL_SECRETS};
pub use objects::{Of, inject_all, uninject_all};
pub use patch::{Step, aligned, patch};
pub use quantity::Quantity;
pub use settings::{Amounts, LogFormat, PullPolicy, PullSecret, Resources, Settings, SettingsError};
pub use undo::uninject;

/// The sidecar's container.
pub const PROXY_CONTAINER: &str = "mesh-proxy";
/// The init container that leads connections to the sidecar.
pub const INIT_CONTAINER: &str = "mesh-init";
/// Where the sidecar takes intercepted connections to others.
pub const OUTBOUND_PORT: u16 = 15_001;
/// Where the sidecar takes intercepted connections from others.
pub const INBOUND_PORT: u16 = 15_006;
/// Where the sidecar answers the kubelet's probes.
pub const PROBE_PORT: u16 = 15_020;
/// Where the sidecar tells metrics and its table, on the pod's loopback.
pub const ADMIN_PORT: u16 = 15_000;

/// What a pod's Namespace says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Namespace {
    /// One that wants sidecars and says nothing else.
    pub fn enabled() -> Self {
        Self {
            labels: BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]),
            ..Self::default()
        }
    }
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a sidecar now.
    Injected {
        /// The pod with it.
        pod: Value,
        /// What is to be looked at, such as an annotation that nobody reads. Each names its field.
        warnings: Vec<String>,
    },
    /// It stays as it is.
    Unchanged(Reason),
    /// It should have a sidecar, and can't as it is.
    Refused(Refusal),
}

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Neither it nor its Namespace asks for a sidecar.
    NotEnabled,
    /// It says that it wants none.
    OptedOut,
    /// It has one.
    AlreadyInjected,
    /// It uses its node's network, where there is more than itself to intercept.
    HostNetwork,
    /// The kubelet runs it from a file, and nobody can change it.
    Static,
    /// The sidecar runs on Linux.
    Windows,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEnabled => "not enabled",
            Self::OptedOut => "opted out",
            Self::AlreadyInjected => "already injected",
            Self::HostNetwork => "hostNetwork",
            Self::Static => "static pod",
            Self::Windows => "runs on Windows",
        })
    }
}

/// Why a pod can't have the sidecar that it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refusal {
    /// Such as `spec.containers[0].ports[1].containerPort`.
    pub field: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Refusal {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Gives a pod its sidecar. `pod` is a Pod, or the template of one: whatever has `metadata` and `spec`. Doing it twice is
/// doing it once.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &Settings) -> Outcome {
    match attempt(pod, namespace, settings) {
        Ok(outcome) => outcome,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn attempt(pod: &Value, namespace: &Namespace, settings: &Settings) -> Result<Outcome, Refusal> {
    if let Some(reason) = consent::withheld(pod, namespace)? {
        return Ok(Outcome::Unchanged(reason));
    }
    if checks::is_injected(pod)? {
        return Ok(Outcome::Unchanged(Reason::AlreadyInjected));
    }
    let (settings, mut warnings) = annotations::settings_of(pod, namespace, settings)?;
    checks::check(pod, &settings)?;
    let mut next = pod.clone();
    let probes = match settings.rewrite_probes {
        true => rewrite::probes(&mut next, &mut warnings)?,
        false => probe::Probes::default(),
    };
    containers::add(&mut next, &settings, &probes, &mut warnings)?;
    Ok(Outcome::Injected { pod: next, warnings })
}

#[cfg(test)]
mod tests;
