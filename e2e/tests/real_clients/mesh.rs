//! A mesh with one caller, run by `meshctl up` in a folder of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use meshctl::demo::servers::{Process, Ready};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kit::{FreePorts, output};

pub(crate) const OPEN_INFERENCE: &str = "mesh.dev/open-inference";
pub(crate) const OPENAI: &str = "mesh.dev/openai";
pub(crate) const TENSORFLOW: &str = "mesh.dev/tensorflow";

/// What takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many lines of each log are shown when a test fails.
const LAST_WORDS: usize = 25;
/// The name of the mesh; each is in a home of its own.
const NAME: &str = "real";
/// The Workload whose sidecar the clients use.
const CALLER: &str = "client";

/// A mesh that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Mesh {
    up: Child,
    home: TempDir,
}

impl Mesh {
    /// Runs a mesh with these documents and the access log on, and waits until its servers are ready.
    pub(crate) fn up(mut documents: Vec<Value>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("mesh-").tempdir()?;
        let folder = home.path().join("documents");
        fs::create_dir(&folder)?;
        let telemetry = json!({"telemetry": {"accessLog": {"enabled": true}}});
        documents.push(object("MeshConfig", "mesh", &telemetry));
        for (number, document) in documents.iter().enumerate() {
            // JSON is YAML.
            fs::write(folder.join(format!("{number}.yaml")), document.to_string())?;
        }
        let log = File::create(home.path().join("up.log"))?;
        let up = meshctl(&home)?
            .args(["up", "--quiet"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut mesh = Self { up, home };
        let ready = mesh.file("up.ready");
        until("the mesh", || {
            let ended = mesh.up.try_wait()?;
            ensure!(ended.is_none(), "meshctl up ended: {}", mesh.last_words());
            Ok(ready.exists().then_some(()))
        })?;
        Ok(mesh)
    }

    /// What the caller's sidecar (none) or that of a Workload counts, in Prometheus' text format.
    pub(crate) fn metrics(&self, workload: Option<&str>) -> Result<String> {
        let workload = workload.unwrap_or(CALLER);
        let address = fs::read_to_string(self.file(&format!("proxies/ml.{workload}/admin.addr")))?;
        let mut stream = TcpStream::connect(address.trim())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What the caller's sidecar (none) or that of a Workload has logged.
    pub(crate) fn log(&self, workload: Option<&str>) -> Result<String> {
        let workload = workload.unwrap_or(CALLER);
        Ok(fs::read_to_string(
            self.file(&format!("logs/ml.{workload}.proxy.log")),
        )?)
    }

    /// What meshctl prints.
    pub(crate) fn meshctl(&self, args: &[&str]) -> Result<String> {
        output(meshctl(&self.home)?.args(args))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("meshes").join(NAME).join(name)
    }

    /// The end of every log.
    fn last_words(&self) -> String {
        let logs = fs::read_dir(self.file("logs")).into_iter().flatten().flatten();
        let mut files: Vec<_> = logs.map(|entry| entry.path()).collect();
        files.push(self.home.path().join("up.log"));
        files.sort();
        let mut words = String::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let name = file.file_name().unwrap_or_default().display();
            for line in &lines[lines.len().saturating_sub(LAST_WORDS)..] {
                words.push_str(&format!("\n{name}: {line}"));
            }
        }
        words
    }
}

impl Drop for Mesh {
    /// Shows the logs, which test runners keep to themselves unless the test fails.
    fn drop(&mut self) {
        eprintln!("{}", self.last_words());
        if let Some(id) = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process(id, Signal::TERM);
        }
        let ended = until("the end of the mesh", || Ok(self.up.try_wait()?));
        if ended.is_err() {
            let _ = self.up.kill();
        }
        let _ = self.up.wait();
    }
}

/// Asks until the answer is there.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if started.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn meshctl(home: &TempDir) -> Result<Command> {
    let test = std::env::current_exe()?;
    // target/PROFILE/deps/TEST
    let folder = test
        .ancestors()
        .nth(2)
        .context("the test stands in no target folder")?;
    let program = folder.join("meshctl");
    ensure!(
        program.is_file(),
        "{} is not built: run `cargo build --workspace --bins` first, as `./test` does",
        program.display()
    );
    let mut command = Command::new(program);
    command.env("MESH_HOME", home.path()).env("MESH", NAME);
    Ok(command)
}

/// A document of any kind.
pub(crate) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "mesh.dev/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": "ml", "name": name, "labels": {"app": name}},
        "spec": spec,
    })
}

/// A Service whose endpoints are the Workloads of its name. Its ports are numbered from 80.
pub(crate) fn service(name: &str, protocol: &str, ports: &[&str]) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .zip(80..)
        .map(|(name, number)| json!({"name": name, "port": number, "appProtocol": protocol}))
        .collect();
    object(
        "Service",
        name,
        &json!({"ports": ports, "selector": {"app": name}}),
    )
}

/// The rules of a Service.
pub(crate) fn route(service: &str, rules: &Value) -> Value {
    object(
        "ModelRoute",
        service,
        &json!({"service": service, "rules": rules}),
    )
}

/// The Workload of a server, with a sidecar before each of its ports.
pub(crate) fn workload(
    name: &str,
    protocol: &str,
    process: &Process,
    ready: Option<&Ready>,
    ports: &[(&str, u16)],
    free: &mut FreePorts,
) -> Result<Value> {
    let mut served = Vec::new();
    for (name, port) in ports {
        served.push(json!({"name": name, "port": port, "listen": free.next()?, "appProtocol": protocol}));
    }
    let ready = match ready {
        Some(ready) => json!({"port": ready.port, "path": ready.path, "timeout": "90s"}),
        // Whatever accepts connections is ready.
        None => json!({"port": ports[0].1, "timeout": "90s"}),
    };
    let run: Vec<_> = [process.program.display().to_string()]
        .into_iter()
        .chain(process.args.iter().cloned())
        .collect();
    let command = json!({"run": run, "env": process.env, "dir": process.directory, "ready": ready});
    Ok(object(
        "Workload",
        name,
        &json!({"serviceAccount": name, "ports": served, "command": command}),
    ))
}

/// The Workload that calls: through ports that stand for a Service's port each (`service`, `service port`), and through
/// one that takes requests for any.
pub(crate) fn caller(proxy: u16, calls: &[(u16, &str)]) -> Value {
    let ports: Vec<_> = calls
        .iter()
        .map(|(listen, called)| match called.split_once(' ') {
            Some((service, port)) => json!({"listen": listen, "service": service, "port": port}),
            None => json!({"listen": listen, "service": called}),
        })
        .collect();
    let outbound = json!({"proxyPort": proxy, "localPorts": ports});
    object(
        "Workload",
        CALLER,
        &json!({"serviceAccount": CALLER, "outbound": outbound}),
    )
}
