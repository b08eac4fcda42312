//! This project: a control plane and two sidecars, as anybody would start them. Model recognition, a weighted model
//! route, mutual TLS with SPIFFE identities and metrics are on; the access log is off, as in the peers.

mod admin;
mod documents;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Contender, Ground, Pair, Sources, free_address};
use crate::{
    install::Found,
    process::{Place, Running, Start, write_private},
};

/// How long the control plane may take until it listens.
const READY: Duration = Duration::from_secs(10);

pub(crate) struct Mesh {
    control: PathBuf,
    proxy: PathBuf,
    version: String,
    workers: usize,
    /// Whether proxies have all cores, not only their own.
    every_core: bool,
    /// Whether proxies run under callgrind.
    is_counted: bool,
}

impl Mesh {
    /// With one worker for each proxy, on the proxies' core.
    pub(crate) fn prepare(sources: &Sources) -> Result<Self> {
        let program = |name: &str| {
            let path = sources.mesh.join(name);
            let hint = "cargo build --profile dist -p mesh-control -p mesh-proxy, and --mesh DIR if they are elsewhere";
            ensure!(path.is_file(), "{} is not there ({hint})", path.display());
            Ok(path)
        };
        let (control, proxy) = (program("mesh-control")?, program("mesh-proxy")?);
        let version = Found::of_system(proxy.clone()).version("--version")?;
        Ok(Self {
            version: format!("{version} from {}", sources.mesh.display()),
            control,
            proxy,
            workers: 1,
            every_core: false,
            is_counted: false,
        })
    }

    /// With so many workers for each proxy, on all cores.
    pub(crate) fn on_every_core(self, workers: usize) -> Self {
        Self {
            workers,
            every_core: true,
            ..self
        }
    }

    /// Starts the control plane with `documents` and waits until it listens.
    fn control(&self, ground: &Ground<'_>, documents: &str) -> Result<Control> {
        let (config, state) = (ground.folder.join("config"), ground.folder.join("control"));
        for folder in [&config, &state] {
            fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let path = config.join("mesh.yaml");
        fs::write(&path, documents).with_context(|| format!("cannot write {}", path.display()))?;
        let start = Start {
            name: "mesh-control",
            program: &self.control,
            place: ground.elsewhere,
            folder: ground.folder,
            libraries: None,
        };
        let mut process = start.quiet(&[
            "--config",
            &config.to_string_lossy(),
            "--state",
            &state.to_string_lossy(),
            "--listen",
            "127.0.0.1:0",
            "--trust-domain",
            documents::TRUST_DOMAIN,
        ])?;
        let patience = Instant::now() + READY;
        loop {
            if let Ok(text) = fs::read_to_string(state.join("control.addr"))
                && let Ok(address) = text.trim().parse()
            {
                return Ok(Control {
                    process,
                    address,
                    state,
                });
            }
            process.check()?;
            if Instant::now() > patience {
                bail!(
                    "mesh-control does not listen after {} s\n{}",
                    READY.as_secs(),
                    process.last_words()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the sidecar of a workload.
    fn sidecar(&self, ground: &Ground<'_>, control: &Control, name: &str, workload: &str) -> Result<Running> {
        let token = ground.folder.join(format!("{name}.token"));
        write_private(
            &token,
            &admin::join_token(&control.state.join("control.sock"), workload)?,
        )?;
        let mut start = Start {
            name,
            program: &self.proxy,
            place: Place {
                every_core: self.every_core,
                ..ground.place
            },
            folder: ground.folder,
            libraries: None,
        };
        let out = format!(
            "--callgrind-out-file={}",
            ground.folder.join(format!("{name}.callgrind")).display()
        );
        let proxy = self.proxy.to_string_lossy();
        let mut command = Vec::new();
        if self.is_counted {
            start.program = Path::new("valgrind");
            command = vec!["--tool=callgrind", "--instr-atstart=no", &out, &proxy];
        }
        let (state, bundle) = (ground.folder.join(name), control.state.join("ca/root.pem"));
        let (address, admin) = (control.address.to_string(), free_address()?.to_string());
        let (state, bundle, token) = (
            state.to_string_lossy(),
            bundle.to_string_lossy(),
            token.to_string_lossy(),
        );
        let workers = self.workers.to_string();
        command.extend([
            "--workload",
            workload,
            "--control",
            &address,
            "--trust-bundle",
            &bundle,
            "--token-file",
            &token,
            "--state",
            &state,
            "--admin",
            &admin,
            "--workers",
            &workers,
        ]);
        start.quiet(&command)
    }

    /// The same with that proxy under callgrind, which counts nothing until it is told to.
    pub(crate) fn counted(self, proxy: PathBuf) -> Self {
        Self {
            proxy,
            is_counted: true,
            ..self
        }
    }

    /// Starts control plane and sidecars.
    pub(crate) fn start_pair(&self, ground: &Ground<'_>) -> Result<Pair> {
        let pair = || Ok::<_, anyhow::Error>((free_address()?, free_address()?));
        let ports = documents::Ports {
            infer: pair()?,
            chat: pair()?,
            opaque: pair()?,
        };
        let control = self.control(
            ground,
            &documents::all(&ports, [ground.backend, ground.chat, ground.opaque]),
        )?;
        let inbound = self.sidecar(ground, &control, "inbound", documents::SERVER)?;
        let outbound = self.sidecar(ground, &control, "outbound", documents::CLIENT)?;
        Ok(Pair {
            http1: ports.infer.0,
            grpc: ports.infer.0,
            chat: ports.chat.0,
            opaque: ports.opaque.0,
            between: ports.infer.1,
            // What the outbound proxy proves itself with.
            identity: ground.folder.join("outbound/credentials.pem"),
            authority: documents::AUTHORITY.to_owned(),
            proxies: vec![outbound, inbound],
            others: vec![control.process],
        })
    }
}

impl Contender for Mesh {
    fn version(&self) -> &str {
        &self.version
    }

    fn start(&self, ground: &Ground<'_>) -> Result<Pair> {
        self.start_pair(ground)
    }
}

/// A control plane that runs.
struct Control {
    process: Running,
    address: SocketAddr,
    state: PathBuf,
}
