//! A control plane in this process that reads a real API server, with the rights that the chart gives it and no others, and
//! writes what has come of objects to their status. No pod runs.
//!
//! It needs an API server alone: `e2e/cluster/provision api`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mesh_api::name::ObjectName;
use mesh_api::snapshot::Service;
use mesh_control::catalog::documents::Settings;
use mesh_control::plane::Plane;
use mesh_control::replicas::Board;
use mesh_control::view::View;
use mesh_control::{source, status};
use mesh_e2e::kubernetes::{ApiServer, Kubectl};
use mesh_e2e::wait;
use serde_json::Value;
use tokio::task::JoinSet;

const CLUSTER_ROLE: &str = include_str!("../../../charts/mesh/templates/cluster-role.yaml");
/// Who has those rights.
const USER: &str = "mesh-control";
const BINDING: &str = "
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: mesh-control}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mesh-control}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: mesh-control}]
";

/// The control plane and its API server.
pub(crate) struct Control {
    server: ApiServer,
    plane: Arc<Plane>,
    _running: JoinSet<()>,
}

impl Control {
    /// Starts both, with these objects there already.
    pub(crate) async fn start(objects: &str) -> Result<Self> {
        let server = ApiServer::start().await?;
        server.kubectl().apply(&rights()?)?;
        server.kubectl().apply(objects)?;
        let client = client(&server).await?;
        let plane = Arc::new(Plane::kubernetes(Settings {
            trust_domain: "cluster.local".parse()?,
            cluster_domain: "cluster.local".into(),
            namespace: "mesh-system".parse()?,
        }));
        let objects = plane.objects().context("the objects")?.clone();
        let mut running = JoinSet::new();
        running.spawn(source::kubernetes::follow(objects.clone(), client.clone()));
        let proxies = plane.proxies().clone();
        // It is alone, and may not ask who else there is: that does not keep it.
        let board = Board::new(client.clone(), "mesh-system", status::others::BOARD);
        running.spawn(async move { status::keep(&objects, &proxies, &client, &board, "alone").await });
        Ok(Self {
            server,
            plane,
            _running: running,
        })
    }

    /// `kubectl` as the administrator.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        self.server.kubectl()
    }

    /// What is published.
    pub(crate) fn view(&self) -> Arc<View> {
        self.plane.publisher().current().view
    }

    /// Waits until a service is as it should be.
    pub(crate) async fn service(&self, name: &str, what: &str, is: impl Fn(&Service) -> bool) -> Result<()> {
        let name: ObjectName = name.parse()?;
        wait::until(what, async || {
            let view = self.view();
            Ok(view
                .service(&name)
                .is_some_and(|service| is(service))
                .then_some(()))
        })
        .await
    }

    /// Waits until the status of an object in `ml` is as it should be.
    pub(crate) async fn status(
        &self,
        object: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(what, async || {
            last = self.kubectl().get(&[object, "--namespace", "ml"])?["status"].clone();
            Ok(is(&last).then(|| last.clone()))
        });
        let found = found.await;
        found.with_context(|| format!("{object} says {last}"))
    }
}

/// What the chart grants in every namespace.
fn rights() -> Result<String> {
    let (role, _) = CLUSTER_ROLE
        .split_once("\n---\n")
        .context("the role ends nowhere")?;
    // Only labels are filled in.
    let lines = role.lines().filter(|line| !line.contains("{{"));
    Ok(lines.collect::<Vec<_>>().join("\n") + BINDING)
}

async fn client(server: &ApiServer) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = Some(USER.into());
    Ok(Client::try_from(config)?)
}

/// A condition's status, reason and message.
pub(crate) fn condition<'a>(conditions: &'a Value, name: &str) -> [&'a str; 3] {
    let mut conditions = conditions.as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == name);
    ["status", "reason", "message"]
        .map(|field| found.and_then(|found| found[field].as_str()).unwrap_or_default())
}
