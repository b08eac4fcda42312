//! Machines with programs on them that know nothing of a mesh, and the mesh that carries what they send.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::documents::NAMESPACE;
use mesh_e2e::mesh::{Mesh, Options};
use mesh_e2e::metrics::Metrics;
use mesh_e2e::netns::{Machine, Network};
use mesh_e2e::process::{Process, binary};
use mesh_e2e::wait;
use serde_json::Value;

/// The user that sidecars run as, and nothing else.
const PROXY: u32 = 2102;
/// Where every sidecar tells about itself, on its own loopback.
const ADMIN: &str = "http://127.0.0.1:15000";

/// All of it, until this is dropped.
pub(crate) struct Place {
    // Processes end before the machines they are on.
    programs: Vec<Process>,
    sidecars: BTreeMap<&'static str, Process>,
    mesh: Mesh,
    machines: BTreeMap<&'static str, Machine>,
    network: Network,
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The status; 0: there was no answer.
    pub status: u16,
    /// The body, and the head if it was asked for.
    pub text: String,
    /// What curl said.
    pub error: String,
}

impl Place {
    /// Machines of these names, in the order of their numbers, and a sidecar on each that has a Workload of its name.
    pub(crate) async fn start(names: &[&'static str], documents: &[Value]) -> Result<Self> {
        let mut network = Network::new()?;
        let mut machines = BTreeMap::new();
        for name in names {
            machines.insert(*name, network.join()?);
        }
        let options = Options {
            control_at: Some(SocketAddr::new(network.hub().v4(), 15010)),
            started_by: network.hub().runs(),
            ..Options::default()
        };
        let mesh = Mesh::control_alone(documents, &options).await?;
        // Who is not root must find his own files.
        fs::set_permissions(mesh.folder(), fs::Permissions::from_mode(0o711))?;
        let mut place = Self {
            programs: Vec::new(),
            sidecars: BTreeMap::new(),
            mesh,
            machines,
            network,
        };
        for name in names {
            let is_its =
                |document: &&Value| document["kind"] == "Workload" && document["metadata"]["name"] == *name;
            if documents.iter().any(|document| is_its(&document)) {
                place.start_sidecar(name).await?;
            }
        }
        place.everyone_follows().await?;
        Ok(place)
    }

    /// The machine of this name.
    pub(crate) fn machine(&self, name: &str) -> Result<&Machine> {
        self.machines
            .get(name)
            .with_context(|| format!("there is no machine {name}"))
    }

    /// The bridge, where all that machines send each other is seen.
    pub(crate) fn hub(&self) -> &Machine {
        self.network.hub()
    }

    /// The folder for files.
    pub(crate) fn folder(&self) -> &Path {
        self.mesh.folder()
    }

    /// Ends the control plane at once.
    pub(crate) fn kill_control(&mut self) -> Result<()> {
        self.mesh.kill_control()
    }

    /// Runs `mesh-proxy init` on a machine, for its sidecar.
    pub(crate) fn init(&self, name: &str, flags: &[&str]) -> Result<String> {
        let program = binary("mesh-proxy")?;
        let mut command = self.machine(name)?.command(&program.display().to_string());
        command
            .args(["init", "--proxy-uid", &PROXY.to_string()])
            .args(flags);
        output(&mut command)
    }

    async fn start_sidecar(&mut self, name: &'static str) -> Result<()> {
        self.init(name, &[])?;
        let folder = self.mesh.folder().to_owned();
        let (root, token, state) = (
            folder.join("root.pem"),
            folder.join(format!("{name}.token")),
            folder.join(format!("proxy-{name}")),
        );
        fs::copy(self.mesh.root(), &root)?;
        fs::write(&token, self.mesh.join_token(name).await?)?;
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        fs::create_dir(&state)?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
        for path in [&root, &token, &state] {
            chown(path, Some(PROXY), Some(PROXY))?;
        }
        let arguments = [
            ("--workload", format!("{NAMESPACE}/{name}")),
            ("--control", self.mesh.control_address().to_string()),
            ("--trust-bundle", root.display().to_string()),
            ("--token-file", token.display().to_string()),
            ("--state", state.display().to_string()),
            ("--workers", "1".to_owned()),
        ];
        let arguments: Vec<_> = arguments
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect();
        let by = self.machine(name)?.runs_as(PROXY);
        let process = Process::start_by(&by, name, &binary("mesh-proxy")?, &arguments, &folder)?;
        self.sidecars.insert(name, process);
        Ok(())
    }

    async fn everyone_follows(&mut self) -> Result<()> {
        let (mesh, sidecars) = (&self.mesh, &mut self.sidecars);
        wait::until("every sidecar", async || {
            for sidecar in sidecars.values_mut() {
                sidecar.check()?;
            }
            let seen = mesh.seen().await?;
            for proxy in &seen {
                ensure!(
                    proxy.refusal.is_empty(),
                    "{} refuses: {}",
                    proxy.workload,
                    proxy.refusal
                );
            }
            let there = seen
                .iter()
                .filter(|proxy| proxy.connected && proxy.version > 0)
                .count();
            Ok((there == sidecars.len()).then_some(()))
        })
        .await
    }

    /// Starts a program on a machine, and waits until something takes connections there on a port of its loopback.
    pub(crate) async fn run(
        &mut self,
        machine: &str,
        by: &[String],
        program: &str,
        arguments: &[&str],
        port: u16,
    ) -> Result<()> {
        let name = format!("{machine}-{}", program.rsplit('/').next().unwrap_or_default());
        let by = [self.machine(machine)?.runs(), by.to_vec()].concat();
        let mut process = Process::start_by(&by, &name, Path::new(program), arguments, self.folder())?;
        let there = self.machine(machine)?.path();
        wait::until(&format!("{name} on port {port}"), async || {
            process.check()?;
            let connected = mesh_e2e::netns::on(&there, || {
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            })?;
            Ok(connected.then_some(()))
        })
        .await?;
        self.programs.push(process);
        Ok(())
    }

    /// Asks with curl, from a machine. Nothing that this machine has set for proxies counts.
    pub(crate) fn curl(&self, machine: &str, arguments: &[&str]) -> Result<Fetched> {
        self.curl_as(machine, 0, arguments)
    }

    /// The same, as another user.
    pub(crate) fn curl_as(&self, machine: &str, user: u32, arguments: &[&str]) -> Result<Fetched> {
        let by = self.machine(machine)?.runs_as(user);
        let output = Command::new(&by[0])
            .args(&by[1..])
            .args([
                "curl",
                "--noproxy",
                "*",
                "--silent",
                "--show-error",
                "--max-time",
                "30",
            ])
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (text, status) = text.rsplit_once('\n').unwrap_or_default();
        Ok(Fetched {
            status: status.parse().unwrap_or(0),
            text: text.to_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// What a sidecar counts.
    pub(crate) fn metrics(&self, name: &str) -> Result<Metrics> {
        let page = self.curl(name, &[&format!("{ADMIN}/metrics")])?;
        ensure!(page.status == 200, "{page:?}");
        Ok(Metrics::parse(&page.text))
    }

    /// How many connections that were led to a sidecar came to this.
    pub(crate) fn intercepted(&self, name: &str, direction: &str, result: &str) -> Result<u64> {
        let labels = [("direction", direction), ("result", result)];
        Ok(self
            .metrics(name)?
            .sum("mesh_intercepted_connections_total", &labels) as u64)
    }

    /// Waits for a line of a sidecar's access log that has all of these.
    pub(crate) async fn logged(&self, name: &str, has: &[(&str, &str)]) -> Result<Value> {
        self.logged_with(name, has, "timestamp").await
    }

    /// The same, with a field of whatever value besides.
    pub(crate) async fn logged_with(&self, name: &str, has: &[(&str, &str)], field: &str) -> Result<Value> {
        let sidecar = self
            .sidecars
            .get(name)
            .with_context(|| format!("{name} has no sidecar"))?;
        wait::until(&format!("{has:?} in the access log of {name}"), async || {
            let log = sidecar.log();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(lines.find(|line| {
                has.iter().all(|(key, value)| line[*key] == *value) && line.get(field).is_some()
            }))
        })
        .await
    }
}

impl Drop for Place {
    /// Shows the end of every log: test runners keep it to themselves unless the scenario fails.
    fn drop(&mut self) {
        for process in self.sidecars.values().chain(&self.programs) {
            eprintln!("{}", process.last_words());
        }
    }
}

/// Runs a command to its end and returns what it prints.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{command:?} failed: {said}{error}");
    Ok(said.into_owned())
}

/// A file of this crate.
pub(crate) fn here(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(name)
        .display()
        .to_string()
}
