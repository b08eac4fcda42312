//! One process of a mesh: how it is started, and how to tell that it is ready.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesh_api::name::ObjectName;
use mesh_api::wire::admin::{CreateJoinTokenRequest, GetStatusRequest};

use super::Guard;
use super::logs::{Log, Logs};
use super::plan::Process;
use super::process::Command;
use crate::client::{self, answer};
use crate::error::{Failure, Outcome};
use crate::http_get;
use crate::mesh_home::{Mesh, write_private};
use crate::output::Printer;

/// How long one look at a process may take.
const LOOK: Duration = Duration::from_secs(2);
/// How long a join token may be used, in seconds.
const TOKEN_SECONDS: u32 = 600;

/// What all processes of a mesh share.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) mesh: Mesh,
    /// The documents: a folder or a file.
    pub(super) config: PathBuf,
    pub(super) control: PathBuf,
    pub(super) proxy: PathBuf,
    pub(super) workers: usize,
    pub(super) guard: Arc<Guard>,
    pub(super) logs: Arc<Logs>,
    pub(super) printer: Printer,
}

/// A process of the mesh.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// The control plane.
    Control,
    /// The sidecar of a Workload.
    Sidecar(ObjectName),
    /// A Workload's own process.
    Own(ObjectName, Process),
}

/// How to tell that a process is ready.
#[derive(Clone, Debug)]
pub(super) enum Probe {
    /// It is ready when it runs.
    Running,
    /// The Admin service of this mesh answers, and proxies can know its address.
    Admin(Mesh),
    /// A connection is accepted.
    Accepts(SocketAddr),
    /// A GET is answered with 2xx.
    Get(SocketAddr, String),
}

impl Unit {
    /// What it is called on the terminal.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Control => "control".into(),
            Self::Sidecar(workload) => format!("{workload} proxy"),
            Self::Own(workload, _) => workload.to_string(),
        }
    }

    /// Its log.
    pub(super) fn log(&self, site: &Site) -> Arc<Log> {
        let file = match self {
            Self::Control => "control".into(),
            Self::Sidecar(workload) => format!("{}.{}.proxy", workload.namespace, workload.name),
            Self::Own(workload, _) => format!("{}.{}", workload.namespace, workload.name),
        };
        site.logs.open(&self.name(), site.mesh.log(&file))
    }

    /// How long it may take to be ready.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Control | Self::Sidecar(_) => Duration::from_secs(20),
            Self::Own(_, process) => process
                .ready
                .as_ref()
                .map_or(Duration::from_secs(60), |ready| ready.timeout.get()),
        }
    }

    /// How long it may take to end. A sidecar finishes the streams it has.
    pub(super) fn farewell(&self) -> Duration {
        match self {
            Self::Control => Duration::from_secs(5),
            Self::Sidecar(_) => Duration::from_secs(15),
            Self::Own(..) => Duration::from_secs(10),
        }
    }

    /// What to run now, and how to tell that it is ready.
    pub(super) async fn command(&self, site: &Site) -> Outcome<(Command, Probe)> {
        match self {
            Self::Control => Ok(control(site)),
            Self::Sidecar(workload) => sidecar(site, workload).await,
            Self::Own(_, process) => Ok((process.command.clone(), own_probe(process))),
        }
    }
}

fn control(site: &Site) -> (Command, Probe) {
    let mesh = &site.mesh;
    // Proxies know the address of the control plane that was here first: the next one takes the same.
    let listen = fs::read_to_string(mesh.control_address()).unwrap_or_default();
    let listen = match listen.trim() {
        "" => "127.0.0.1:0",
        address => address,
    };
    let args = [
        "--config".into(),
        text(&site.config),
        "--state".into(),
        text(&mesh.dir),
        "--listen".into(),
        listen.into(),
    ];
    let command = Command {
        program: site.control.clone(),
        args: args.into(),
        dir: mesh.dir.clone(),
        ..Command::default()
    };
    (command, Probe::Admin(mesh.clone()))
}

async fn sidecar(site: &Site, workload: &ObjectName) -> Outcome<(Command, Probe)> {
    let mesh = &site.mesh;
    let state = mesh.proxy(workload);
    let token = state.join("token");
    // Without the control plane, a proxy starts with the credentials it has saved.
    match join_token(mesh, workload).await {
        Ok(secret) => write_private(&token, &secret)?,
        Err(_) if token.is_file() => {}
        Err(failure) => return Err(failure),
    }
    let control = fs::read_to_string(mesh.control_address()).context("the control plane has no address")?;
    let admin = free_port().context("no port is free for a proxy's admin endpoint")?;
    write_private(&mesh.proxy_admin(workload), &format!("{admin}\n"))?;
    let args = [
        ("--workload", workload.to_string()),
        ("--control", control.trim().to_owned()),
        ("--trust-bundle", text(&mesh.root_certificates())),
        ("--token-file", text(&token)),
        ("--state", text(&state)),
        ("--admin", admin.to_string()),
        ("--workers", site.workers.to_string()),
    ];
    let command = Command {
        program: site.proxy.clone(),
        args: args
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect(),
        dir: mesh.dir.clone(),
        ..Command::default()
    };
    Ok((command, Probe::Get(admin, "/ready".into())))
}

async fn join_token(mesh: &Mesh, workload: &ObjectName) -> Outcome<String> {
    let mut admin = client::connect(mesh).await?;
    let request = CreateJoinTokenRequest {
        workload: workload.to_string(),
        ttl_seconds: TOKEN_SECONDS,
    };
    Ok(answer(admin.create_join_token(request)).await?.token)
}

fn own_probe(process: &Process) -> Probe {
    match &process.ready {
        None => Probe::Running,
        Some(ready) => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ready.port));
            match &ready.path {
                Some(path) => Probe::Get(address, path.clone()),
                None => Probe::Accepts(address),
            }
        }
    }
}

impl Probe {
    /// Whether it is ready now.
    pub(super) async fn answers(&self) -> bool {
        match self {
            Self::Running => true,
            Self::Admin(mesh) => match client::connect_to(&mesh.socket()).await {
                Ok(mut admin) => {
                    let address = fs::read_to_string(mesh.control_address()).unwrap_or_default();
                    address.trim().parse::<SocketAddr>().is_ok()
                        && answer(admin.get_status(GetStatusRequest {})).await.is_ok()
                }
                Err(_) => false,
            },
            Self::Accepts(address) => {
                let connecting = tokio::net::TcpStream::connect(address);
                matches!(tokio::time::timeout(LOOK, connecting).await, Ok(Ok(_)))
            }
            Self::Get(address, path) => http_get::ask(*address, "GET", path, LOOK)
                .await
                .is_ok_and(|answer| (200..300).contains(&answer.status)),
        }
    }
}

/// A port that is free now.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Where a program of the mesh is: beside meshctl, or in PATH.
pub(super) fn program(name: &str) -> Outcome<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|meshctl| {
        // A test's program is in a folder beneath.
        let folders = meshctl.ancestors().skip(1).take(2);
        let mut files = folders.map(|folder| folder.join(name));
        files.find(|file| file.is_file())
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || {
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    };
    beside.or_else(in_path).ok_or_else(|| {
        Failure::new(format!(
            "the program {name} is neither beside meshctl nor in PATH"
        ))
        .hint("build all of them with `cargo build --release`, or install them into one folder")
    })
}
