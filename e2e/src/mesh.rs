//! A mesh on this machine: a control plane and a sidecar for each Workload, as processes of their own, in a folder of
//! their own. Any of them can be killed and started again; all end with the value.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hyper_util::rt::TokioIo;
use mesh_api::wire::admin::admin_client::AdminClient;
use mesh_api::wire::admin::{
    ApplyRequest, CreateJoinTokenRequest, GetStatusRequest, ListProxiesRequest, Proxy as Seen,
    SetSplitRequest, Status,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::documents::{self, NAMESPACE};
use crate::net::{free_port, local};
use crate::process::{self, Process};
use crate::proxy::Proxy;
use crate::wait;

/// The Admin service of the control plane.
pub type Admin = AdminClient<Channel>;

/// A mesh that runs.
#[derive(Debug)]
pub struct Mesh {
    // Processes end before their folder goes.
    proxies: BTreeMap<String, Proxy>,
    control: Option<Process>,
    control_at: SocketAddr,
    started_by: Vec<String>,
    leaf_lifetime: String,
    workers: usize,
    drain_limit: &'static str,
    proxy_flags: Vec<String>,
    admin: Admin,
    folder: TempDir,
}

/// How a mesh is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long certificates last, as `mesh-control --leaf-lifetime` takes it.
    pub leaf_lifetime: &'static str,
    /// How many workers each sidecar has.
    pub workers: usize,
    /// How long a sidecar that ends has for what is in flight, as `mesh-proxy --drain-limit` takes it.
    pub drain_limit: &'static str,
    /// Where the control plane listens; none: on a free port of loopback.
    pub control_at: Option<SocketAddr>,
    /// What starts the control plane's process: on another machine, for instance. None: this process.
    pub started_by: Vec<String>,
    /// More flags of each sidecar.
    pub proxy_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leaf_lifetime: "24h",
            workers: 1,
            drain_limit: "10m",
            control_at: None,
            started_by: Vec::new(),
            proxy_flags: Vec::new(),
        }
    }
}

impl Mesh {
    /// Starts a mesh with these documents, and waits until every Workload's sidecar is ready.
    ///
    /// # Errors
    /// When a binary is not built, or something does not get ready.
    pub async fn start(documents: &[Value]) -> Result<Self> {
        Self::start_with(documents, &Options::default()).await
    }

    /// As [`start`](Self::start), with other options.
    ///
    /// # Errors
    /// When a binary is not built, or something does not get ready.
    pub async fn start_with(documents: &[Value], options: &Options) -> Result<Self> {
        let mut mesh = Self::control_alone(documents, options).await?;
        for document in documents.iter().filter(|document| document["kind"] == "Workload") {
            let name = document["metadata"]["name"]
                .as_str()
                .context("a Workload has no name")?;
            mesh.start_proxy(name).await?;
        }
        mesh.everyone_at(0).await?;
        Ok(mesh)
    }

    /// Starts the control plane only.
    ///
    /// # Errors
    /// When its binary is not built, or it does not get ready.
    pub async fn control_alone(documents: &[Value], options: &Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("mesh-").tempdir()?;
        let socket = folder.path().join("control/control.sock");
        let mut mesh = Self {
            proxies: BTreeMap::new(),
            control: None,
            control_at: match options.control_at {
                Some(address) => address,
                None => local(free_port()?),
            },
            started_by: options.started_by.clone(),
            leaf_lifetime: options.leaf_lifetime.to_owned(),
            workers: options.workers,
            drain_limit: options.drain_limit,
            proxy_flags: options.proxy_flags.clone(),
            admin: admin(socket),
            folder,
        };
        for name in ["documents", "aside"] {
            fs::create_dir(mesh.folder.path().join(name))?;
        }
        for document in documents {
            mesh.write(&documents::file_name(document), &documents::yaml(document)?)?;
        }
        mesh.start_control().await?;
        Ok(mesh)
    }

    /// The folder with everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the control plane listens for sidecars.
    pub fn control_address(&self) -> SocketAddr {
        self.control_at
    }

    /// The root certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("control/ca/root.pem")
    }

    /// Writes a file among the documents, as a whole.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let aside = self.folder.path().join("aside").join(file);
        fs::write(&aside, text)?;
        Ok(fs::rename(
            aside,
            self.folder.path().join("documents").join(file),
        )?)
    }

    /// Removes a file from among the documents.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, file: &str) -> Result<()> {
        Ok(fs::remove_file(self.folder.path().join("documents").join(file))?)
    }

    /// Applies a document, and returns the version that has it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, document: &Value) -> Result<u64> {
        let request = ApplyRequest {
            yaml: documents::yaml(document)?,
            name: documents::file_name(document),
            dry_run: false,
        };
        let answer = self.admin.clone().apply(request).await?.into_inner();
        ensure!(answer.problems.is_empty(), "{:?}", answer.problems);
        Ok(answer.version)
    }

    /// Sets weights of a route, and returns the version that has them.
    ///
    /// # Errors
    /// When they are refused.
    pub async fn set_split(&self, route: &str, weights: &[(&str, u32)]) -> Result<u64> {
        let request = SetSplitRequest {
            namespace: NAMESPACE.into(),
            route: route.into(),
            rule: String::new(),
            weights: weights
                .iter()
                .map(|(backend, weight)| ((*backend).to_owned(), *weight))
                .collect(),
        };
        Ok(self.admin.clone().set_split(request).await?.into_inner().version)
    }

    /// What the control plane says about itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Status> {
        Ok(self
            .admin
            .clone()
            .get_status(GetStatusRequest {})
            .await?
            .into_inner())
    }

    /// What the control plane knows of the sidecars.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn seen(&self) -> Result<Vec<Seen>> {
        let list = self.admin.clone().list_proxies(ListProxiesRequest {}).await?;
        Ok(list.into_inner().proxies)
    }

    /// Waits until every sidecar serves this version or a later one.
    ///
    /// # Errors
    /// When one does not get there, or refuses it.
    pub async fn everyone_at(&self, version: u64) -> Result<()> {
        wait::until(&format!("every proxy at version {version}"), async || {
            let seen = self.seen().await?;
            for proxy in &seen {
                ensure!(
                    proxy.refusal.is_empty(),
                    "{} refuses: {}",
                    proxy.workload,
                    proxy.refusal
                );
            }
            let there = |workload: &String| {
                let name = format!("{NAMESPACE}/{workload}");
                seen.iter()
                    .any(|proxy| proxy.workload == name && proxy.connected && proxy.version >= version.max(1))
            };
            Ok(self.proxies.keys().all(there).then_some(()))
        })
        .await
    }

    /// Starts the control plane, and waits until it answers.
    ///
    /// # Errors
    /// When its binary is not built, or it does not answer.
    pub async fn start_control(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let arguments = [
            "--config".into(),
            folder.join("documents").into_os_string(),
            "--state".into(),
            folder.join("control").into_os_string(),
            "--listen".into(),
            self.control_at.to_string().into(),
            "--leaf-lifetime".into(),
            self.leaf_lifetime.clone().into(),
        ];
        let binary = process::binary("mesh-control")?;
        let mut process = Process::start_by(&self.started_by, "control", &binary, &arguments, folder)?;
        wait::until("the control plane", async || {
            process.check()?;
            Ok(self.status().await.ok().map(|_| ()))
        })
        .await?;
        self.control = Some(process);
        Ok(())
    }

    /// Kills the control plane, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_control(&mut self) -> Result<()> {
        self.control
            .take()
            .context("the control plane does not run")?
            .kill()?;
        Ok(())
    }

    /// Restarts the control plane so that new certificates last otherwise.
    ///
    /// # Errors
    /// When it does not run, or does not come again.
    pub async fn restart_control_with_lifetime(&mut self, leaf_lifetime: &str) -> Result<()> {
        let mut process = self.control.take().context("the control plane does not run")?;
        process.signal(Signal::TERM);
        process.ended().await?;
        self.leaf_lifetime = leaf_lifetime.to_owned();
        self.start_control().await
    }

    /// Starts the sidecar of a Workload, with a join token of its own, and waits until it is ready.
    ///
    /// # Errors
    /// When its binary is not built, or it does not get ready.
    pub async fn start_proxy(&mut self, workload: &str) -> Result<()> {
        let token = self.join_token(workload).await?;
        let folder = self.folder.path();
        let token_file = folder.join(format!("{workload}.token"));
        write_private(&token_file, &token)?;
        let admin = local(free_port()?);
        let path = |path: PathBuf| path.display().to_string();
        let arguments = [
            ("--workload", format!("{NAMESPACE}/{workload}")),
            ("--control", self.control_at.to_string()),
            ("--trust-bundle", path(self.root())),
            ("--token-file", path(token_file)),
            ("--state", path(folder.join(format!("proxy-{workload}")))),
            ("--admin", admin.to_string()),
            ("--workers", self.workers.to_string()),
            ("--drain-limit", self.drain_limit.to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .chain(self.proxy_flags.iter().cloned())
        .collect::<Vec<_>>();
        let proxy = Proxy::start(workload, admin, arguments, folder)?;
        self.proxies.insert(workload.to_owned(), proxy);
        self.proxy(workload)?.ready().await
    }

    /// A new join token for a Workload.
    ///
    /// # Errors
    /// When there is no such Workload.
    pub async fn join_token(&self, workload: &str) -> Result<String> {
        let request = CreateJoinTokenRequest {
            workload: format!("{NAMESPACE}/{workload}"),
            ttl_seconds: 0,
        };
        Ok(self
            .admin
            .clone()
            .create_join_token(request)
            .await?
            .into_inner()
            .token)
    }

    /// The sidecar of a Workload.
    ///
    /// # Errors
    /// When it was never started.
    pub fn proxy(&mut self, workload: &str) -> Result<&mut Proxy> {
        let proxy = self.proxies.get_mut(workload);
        proxy.with_context(|| format!("there is no sidecar of {workload}"))
    }

    /// All sidecars.
    pub fn proxies(&mut self) -> impl Iterator<Item = &mut Proxy> {
        self.proxies.values_mut()
    }
}

impl Drop for Mesh {
    /// Shows the end of every log: test runners keep it to themselves unless the scenario fails.
    fn drop(&mut self) {
        let control = self.control.iter().map(Process::last_words);
        for words in control.chain(self.proxies.values().map(Proxy::last_words)) {
            eprintln!("{words}");
        }
    }
}

fn admin(socket: PathBuf) -> Admin {
    // The socket is the address; the authority is only there because HTTP wants one.
    let endpoint = Endpoint::from_static("http://control.local").timeout(wait::PATIENCE);
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }));
    AdminClient::new(channel)
}

/// Writes a file that only its owner may read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
