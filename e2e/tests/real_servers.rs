//! The real servers and the unmodified clients, without a mesh between them: what the scenarios stand on. When one of
//! these fails, a package, a model or a client script is at fault, not the mesh.

mod kit;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use meshctl::demo::servers::{self, Flow, Flows, Ports, Process, Ready, Server, Versions};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use kit::{FreePorts, address, client, here, kit, output};

/// A server that takes longer to start or to stop than this hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn triton_answers_its_own_clients() -> anyhow::Result<()> {
    let kit = kit()?;
    let ports = free_ports()?;
    let _server = Running::server(&servers::triton(&kit, ports, Versions::Both))?;
    let (rest, grpc) = (address(ports.http), address(ports.grpc));

    let latest = client(&kit, "triton_rest.py", &[&rest, "--requests", "3"])?;
    assert_eq!(latest["answers"], json!({"2": 3}), "{latest}");
    let first = client(
        &kit,
        "triton_rest.py",
        &[&rest, "--version", "1", "--json", "--key-header", "x-user-id"],
    )?;
    assert_eq!(first["keys"], json!({"user-0": "1"}), "{first}");
    let unknown = client(&kit, "triton_rest.py", &[&rest, "--model", "nope"])?;
    assert_eq!(unknown["errors"][0]["status"], "404", "{unknown}");

    let first = client(
        &kit,
        "triton_grpc.py",
        &[&grpc, "--version", "1", "--host", "fraud"],
    )?;
    assert_eq!(first["answers"], json!({"1": 1}), "{first}");
    let unknown = client(&kit, "triton_grpc.py", &[&grpc, "--model", "nope"])?;
    assert_eq!(unknown["errors"][0]["status"], "NOT_FOUND", "{unknown}");

    let stream = client(
        &kit,
        "triton_stream.py",
        &[&grpc, "--requests", "3", "--tokens", "5"],
    )?;
    assert_eq!(
        (&stream["chunks"], &stream["finished"]),
        (&json!(15), &json!(3)),
        "{stream}"
    );
    Ok(())
}

#[test]
fn triton_with_one_version_answers_with_it() -> anyhow::Result<()> {
    let kit = kit()?;
    let ports = free_ports()?;
    let _server = Running::server(&servers::triton(&kit, ports, Versions::First))?;
    let only = client(&kit, "triton_grpc.py", &[&address(ports.grpc)])?;
    assert_eq!(only["answers"], json!({"1": 1}), "{only}");
    Ok(())
}

#[test]
fn mlserver_answers_plain_json() -> anyhow::Result<()> {
    let kit = kit()?;
    let ports = free_ports()?;
    let _server = Running::server(&servers::mlserver(&kit, ports, Versions::Both))?;
    let url = format!("http://{}", address(ports.http));
    for version in ["v1", "v2"] {
        let answer = client(&kit, "mlserver_v2.py", &[&url, "--version", version])?;
        assert_eq!(answer["answers"], json!({version: 1}), "{answer}");
    }
    let unknown = client(&kit, "mlserver_v2.py", &[&url, "--version", "v9"])?;
    assert_eq!(unknown["errors"][0]["status"], "404", "{unknown}");
    Ok(())
}

#[test]
fn the_openai_client_streams_with_usage() -> anyhow::Result<()> {
    let kit = kit()?;
    let port = free_port()?;
    let _server = Running::server(&servers::chat(&kit, port, "chat"))?;
    let url = format!("http://{}/v1", address(port));
    let stream = client(
        &kit,
        "openai_chat.py",
        &[&url, "--requests", "2", "--tokens", "7"],
    )?;
    assert_eq!(
        (&stream["chunks"], &stream["completion_tokens"]),
        (&json!(14), &json!(14)),
        "{stream}"
    );
    assert_eq!(
        (&stream["answers"], &stream["without_usage"]),
        (&json!({"chat": 2}), &json!(0)),
        "{stream}"
    );
    let whole = client(&kit, "openai_chat.py", &[&url, "--no-stream", "--tokens", "7"])?;
    assert_eq!(whole["completion_tokens"], 7, "{whole}");
    Ok(())
}

#[test]
fn the_tensorflow_serving_stubs_reach_their_server() -> anyhow::Result<()> {
    let kit = kit()?;
    let port = free_port()?;
    let server = here("servers/tfs_server.py");
    let mut command = Command::new(kit.python());
    command
        .arg(server)
        .args(["127.0.0.1", &port.to_string()])
        .stdout(Stdio::piped());
    let mut running = Running::start(&mut command)?;
    let mut ready = [0; 6];
    running
        .child
        .stdout
        .take()
        .context("its output")?
        .read_exact(&mut ready)?;

    let latest = client(&kit, "tfs_grpc.py", &[&address(port), "--requests", "2"])?;
    assert_eq!(latest["answers"], json!({"2": 2}), "{latest}");
    assert_eq!(
        (&latest["metadata_version"], &latest["statuses"]),
        (&json!(2), &json!([1, 2])),
        "{latest}"
    );
    let stable = client(&kit, "tfs_grpc.py", &[&address(port), "--label", "stable"])?;
    assert_eq!(stable["answers"], json!({"1": 1}), "{stable}");
    let unknown = client(&kit, "tfs_grpc.py", &[&address(port), "--version", "7"])?;
    assert_eq!(unknown["errors"][0]["status"], "NOT_FOUND", "{unknown}");
    Ok(())
}

#[test]
fn the_demos_client_counts_answers_and_survives_errors() -> anyhow::Result<()> {
    let kit = kit()?;
    let (ports, nobody) = (free_ports()?, free_port()?);
    let _server = Running::server(&servers::triton(&kit, ports, Versions::Both))?;
    let flow = |address: String| Some(Flow { address, rate: 20.0 });
    let flows = Flows {
        fraud_grpc: flow(address(ports.grpc)),
        iris: flow(format!("http://{}", address(nobody))),
        ..Flows::default()
    };
    let mut command = command(&servers::client(&kit, &flows));
    let lines = output(command.args(["--seconds", "2"]))?;
    let total: Value = serde_json::from_str(lines.lines().last().context("no line")?)?;
    let answered = total["total"]["fraud-grpc"]["answers"]["2"]
        .as_u64()
        .unwrap_or_default();
    let failed = total["total"]["iris"]["errors"]["ConnectionError"]
        .as_u64()
        .unwrap_or_default();
    assert!(
        (1..=41).contains(&answered) && (1..=41).contains(&failed),
        "{lines}"
    );
    Ok(())
}

fn command(process: &Process) -> Command {
    let mut command = Command::new(&process.program);
    command
        .args(&process.args)
        .envs(&process.env)
        .current_dir(&process.directory);
    command
}

fn free_port() -> anyhow::Result<u16> {
    FreePorts.next()
}

fn free_ports() -> anyhow::Result<Ports> {
    FreePorts.three()
}

/// A process group that ends with this value.
struct Running {
    child: Child,
}

impl Running {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child })
    }

    /// Starts a server and waits until it is ready.
    fn server(server: &Server) -> anyhow::Result<Self> {
        let mut running = Self::start(command(&server.process).stdout(Stdio::null()))?;
        let started = Instant::now();
        while !is_ready(&server.ready) {
            ensure!(
                running.child.try_wait()?.is_none(),
                "{} ended instead of getting ready",
                server.name
            );
            ensure!(started.elapsed() < PATIENCE, "{} does not get ready", server.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // The group may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let told = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && told.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.signal(Signal::KILL);
        drop(self.child.wait());
    }
}

fn is_ready(ready: &Ready) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", ready.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            ready.path
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        std::io::Result::Ok(status)
    };
    ask().is_ok_and(|status| status.ends_with(b"200"))
}
