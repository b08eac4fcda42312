//! A control plane alone: etcd and kube-apiserver on loopback, as any user, in seconds. Objects are stored, validated,
//! watched, guarded by RBAC and shown to webhooks; nothing acts on them, and no pod runs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use super::kubectl::Kubectl;
use super::network::{API_SERVICE, Node, SERVICES};
use super::pki::Pki;
use super::programs::Program;
use super::state::State;
use crate::net::free_port;
use crate::process::Process;
use crate::wait;

/// An API server that runs until this value is dropped.
///
/// There is no controller: a namespace gets no ServiceAccount `default` and no root certificates, a Pod gets none either
/// and stays pending, what is deleted takes nothing with it, and a Namespace stays terminating.
#[derive(Debug)]
pub struct ApiServer {
    // Processes end before their folder goes.
    api_server: Process,
    etcd: Process,
    kubeconfig: PathBuf,
    kubectl: Kubectl,
    folder: TempDir,
}

impl ApiServer {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// When `e2e/cluster/provision api` did not run ([`super::Missing`]), or it does not get ready.
    pub async fn start() -> Result<Self> {
        let (etcd, api_server) = (Program::ETCD.path()?, Program::API_SERVER.path()?);
        let folder = tempfile::tempdir()?;
        let pki = Pki::new(&folder.path().join("pki"))?;
        pki.issue("apiserver", "kube-apiserver", &[], &["127.0.0.1", "localhost"])?;
        let (port, store, peers) = (free_port()?, free_port()?, free_port()?);
        let address = format!("https://127.0.0.1:{port}");
        let kubeconfig = pki.kubeconfig("admin", "admin", &["system:masters"], &address)?;
        let (store, peers) = (format!("127.0.0.1:{store}"), format!("127.0.0.1:{peers}"));
        let etcd = Process::start_by(
            &[],
            "etcd",
            &etcd,
            &self::etcd(&folder.path().join("etcd"), &store, &peers),
            folder.path(),
        )?;
        let mut arguments = arguments(&folder.path().join("pki"), &store);
        arguments.extend([
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--authorization-mode=RBAC".into(),
            // Nobody makes the accounts that this would wait for.
            "--disable-admission-plugins=ServiceAccount".into(),
            // Loopback is no endpoint of the Service `kubernetes`.
            "--advertise-address=127.0.0.1".into(),
            "--endpoint-reconciler-type=none".into(),
        ]);
        let api_server = Process::start_by(&[], "kube-apiserver", &api_server, &arguments, folder.path())?;
        let kubectl = Kubectl::new(&kubeconfig)?;
        let mut started = Self {
            api_server,
            etcd,
            kubeconfig,
            kubectl,
            folder,
        };
        started.ready().await?;
        Ok(started)
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` as its administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// A folder of its own, for what belongs to it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn ready(&mut self) -> Result<()> {
        wait::until("the API server", async || {
            self.etcd.check()?;
            self.api_server.check()?;
            // The ServiceAccounts of kube-system come with its namespace, and that after readiness.
            let ready = self.kubectl.run(&["get", "--raw", "/readyz"]).is_ok();
            Ok((ready && self.kubectl.run(&["get", "namespace", "default"]).is_ok()).then_some(()))
        })
        .await
    }
}

/// The arguments of an etcd that keeps nothing through a crash of the machine.
pub(super) fn etcd(folder: &Path, clients: &str, peers: &str) -> Vec<String> {
    let (clients, peers) = (format!("http://{clients}"), format!("http://{peers}"));
    vec![
        format!("--data-dir={}", folder.display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

/// The arguments of an API server with nodes.
pub(super) fn in_cluster(state: &State, node: Node) -> Vec<String> {
    let pki = state.pki();
    let file = |name: &str| pki.join(name).display().to_string();
    let mut arguments = arguments(&pki, "127.0.0.1:2379");
    arguments.extend([
        "--bind-address=0.0.0.0".into(),
        "--secure-port=6443".into(),
        format!("--advertise-address={}", node.address()),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--audit-policy-file={}", state.audit_policy(node).display()),
        format!("--audit-log-path={}", state.audit(node).display()),
    ]);
    arguments
}

/// The names and addresses that an API server with nodes is reached by.
pub(super) fn names(node: Node) -> Vec<String> {
    let names = [
        "127.0.0.1",
        &node.address(),
        API_SERVICE,
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    names.map(str::to_owned).to_vec()
}

fn arguments(pki: &Path, etcd: &str) -> Vec<String> {
    let file = |name: &str| pki.join(name).display().to_string();
    vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allow-privileged=true".into(),
    ]
}
