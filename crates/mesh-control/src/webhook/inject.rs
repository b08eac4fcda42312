//! How a pod comes to its sidecar: `mesh_api::inject`, with the settings of ConfigMap `mesh-inject`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse};
use kube::{Api, Client};
use mesh_api::inject::{self, Settings};

use super::{Decision, Unreadable};
use crate::api;
use crate::metrics::Outcome;

/// How often the file is looked at. The kubelet brings changes of a ConfigMap within about a minute anyway.
const LOOK: Duration = Duration::from_secs(2);
/// How long the API server may take to say what a pod's Namespace says; pods wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who adds sidecars.
pub struct Injector {
    client: Client,
    settings: Arc<SettingsFile>,
}

impl std::fmt::Debug for Injector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Injector").finish_non_exhaustive()
    }
}

impl Injector {
    /// Adds sidecars as the settings say.
    pub fn new(client: Client, settings: Arc<SettingsFile>) -> Self {
        Self { client, settings }
    }

    /// Looks at a pod that is created.
    pub(super) async fn decide(
        &self,
        request: &AdmissionRequest<DynamicObject>,
    ) -> Result<Decision, Unreadable> {
        let response = AdmissionResponse::from(request);
        let is_pod = request.kind.kind == "Pod" && request.kind.group.is_empty();
        let (Some(object), true) = (&request.object, is_pod) else {
            return Ok(Decision::allowed(response));
        };
        let failed = |reason: String| Unreadable::new(StatusCode::INTERNAL_SERVER_ERROR, reason);
        let pod = serde_json::to_value(object).map_err(|error| failed(error.to_string()))?;
        let namespace = request.namespace.as_deref().unwrap_or_default();
        // Asked now, not remembered: a pod that comes right after its namespace was labelled must not slip past.
        let says = self.namespace(namespace).await.map_err(failed)?;
        match inject::inject(&pod, &says, &self.settings.current()) {
            inject::Outcome::Unchanged(_) => Ok(Decision::allowed(response)),
            inject::Outcome::Refused(refusal) => {
                let name = object
                    .metadata
                    .name
                    .as_ref()
                    .or(object.metadata.generate_name.as_ref());
                let name = name.map_or("", String::as_str);
                Ok(Decision::denied(
                    response,
                    &format!("Pod {namespace}/{name}: {refusal}"),
                ))
            }
            inject::Outcome::Injected { pod: next, warnings } => {
                let patch = serde_json::from_value(inject::patch(&pod, &next))
                    .map_err(|error| failed(format!("the patch: {error}")))?;
                let mut response = response
                    .with_patch(patch)
                    .map_err(|error| failed(error.to_string()))?;
                response.warnings = (!warnings.is_empty()).then_some(warnings);
                Ok(Decision {
                    response,
                    outcome: Outcome::Patched,
                })
            }
        }
    }

    async fn namespace(&self, name: &str) -> Result<inject::Namespace, String> {
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        let found = api::within(PATIENCE, namespaces.get(name)).await;
        let metadata = found
            .map_err(|error| format!("namespace {name}: {error}"))?
            .metadata;
        Ok(inject::Namespace {
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
        })
    }
}

/// The file with the settings: what it said last that was good.
#[derive(Debug)]
pub struct SettingsFile {
    path: PathBuf,
    current: ArcSwap<Settings>,
}

impl SettingsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read, or its settings can't be used.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let settings = parse(&read(path)?).map_err(anyhow::Error::msg)?;
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(settings),
        })
    }

    /// The settings.
    pub fn current(&self) -> Arc<Settings> {
        self.current.load_full()
    }

    /// Follows the file for as long as it is run.
    pub async fn follow(&self) {
        let mut seen = read(&self.path).ok();
        loop {
            tokio::time::sleep(LOOK).await;
            let path = self.path.clone();
            let text = match tokio::task::spawn_blocking(move || read(&path)).await {
                Ok(Ok(text)) => text,
                Ok(Err(error)) if seen.is_some() => {
                    tracing::error!("the settings of injection stay as they are: {error:#}");
                    seen = None;
                    continue;
                }
                _ => continue,
            };
            if seen.as_ref() == Some(&text) {
                continue;
            }
            match parse(&text) {
                Ok(settings) => {
                    tracing::info!("the settings of injection have changed: they count for pods from now on");
                    self.current.store(Arc::new(settings));
                }
                Err(error) => tracing::error!("the settings of injection stay as they are: {error}"),
            }
            seen = Some(text);
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    use anyhow::Context;
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text).map_err(|error| error.to_string())
}
