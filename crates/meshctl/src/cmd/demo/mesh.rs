//! The documents of the demo: real servers behind sidecars, services, and a route with a canary.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::demo::Kit;
use crate::demo::servers::{self, Flow, Flows, Ports, Process, Server, Versions};
use crate::error::Outcome;
use crate::mesh_home::write_private;

/// Calls a second of each of the two flows to `fraud`: enough for shares, little enough for a laptop.
const FRAUD_RATE: f64 = 50.0;

/// Writes the documents into a folder, with ports that are free now.
pub(super) fn write(kit: &Kit, folder: &Path) -> Outcome {
    let mut ports = FreePorts::default();
    for (file, documents) in documents(kit, &mut ports)? {
        let texts = documents.iter().map(serde_saphyr::to_string);
        let texts: Vec<String> = texts.collect::<Result<_, _>>().context("cannot write YAML")?;
        write_private(&folder.join(file), &texts.join("---\n"))?;
    }
    Ok(())
}

/// Ports that are held until all are chosen, so that no two are the same.
#[derive(Default)]
struct FreePorts(Vec<TcpListener>);

impl FreePorts {
    fn next(&mut self) -> Outcome<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let port = listener.local_addr().context("no port is free")?.port();
        self.0.push(listener);
        Ok(port)
    }
}

type Files = Vec<(&'static str, Vec<Value>)>;

fn documents(kit: &Kit, free: &mut FreePorts) -> Outcome<Files> {
    let mut servers = Vec::new();
    for (name, versions) in [("triton-v1", Versions::First), ("triton-v2", Versions::Second)] {
        let ports = three(free)?;
        let labels = json!({"app": "fraud", "version": name.trim_start_matches("triton-")});
        let server = servers::triton(kit, ports, versions);
        servers.push(served(
            name,
            &labels,
            &server,
            &[("http", ports.http), ("grpc", ports.grpc)],
            OPEN,
            free,
        )?);
    }
    let ports = three(free)?;
    let server = servers::mlserver(kit, ports, Versions::Both);
    let open = [("http", ports.http), ("grpc", ports.grpc)];
    servers.push(served(
        "mlserver",
        &json!({"app": "iris"}),
        &server,
        &open,
        OPEN,
        free,
    )?);
    let port = free.next()?;
    let server = servers::chat(kit, port, "chat");
    servers.push(served(
        "llm",
        &json!({"app": "llm"}),
        &server,
        &[("http", port)],
        OPENAI,
        free,
    )?);

    let services = vec![
        service("fraud", None, &["http", "grpc"], OPEN),
        service(
            "fraud-v1",
            Some(json!({"app": "fraud", "version": "v1"})),
            &["http", "grpc"],
            OPEN,
        ),
        service(
            "fraud-v2",
            Some(json!({"app": "fraud", "version": "v2"})),
            &["http", "grpc"],
            OPEN,
        ),
        service("iris", Some(json!({"app": "iris"})), &["http", "grpc"], OPEN),
        service("llm", Some(json!({"app": "llm"})), &["http"], OPENAI),
    ];
    Ok(vec![
        ("servers.yaml", servers),
        ("services.yaml", services),
        ("client.yaml", vec![client(kit, free)?]),
        ("route.yaml", vec![route()]),
    ])
}

const OPEN: &str = "mesh.dev/open-inference";
const OPENAI: &str = "mesh.dev/openai";

fn three(free: &mut FreePorts) -> Outcome<Ports> {
    Ok(Ports {
        http: free.next()?,
        grpc: free.next()?,
        metrics: free.next()?,
    })
}

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let mut metadata = json!({"namespace": "ml", "name": name});
    if !labels.is_null() {
        metadata["labels"] = labels.clone();
    }
    json!({"apiVersion": mesh_api::document::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
}

/// The Workload of a server.
fn served(
    name: &str,
    labels: &Value,
    server: &Server,
    ports: &[(&str, u16)],
    protocol: &str,
    free: &mut FreePorts,
) -> Outcome<Value> {
    let mut listed = Vec::new();
    for (name, port) in ports {
        listed.push(json!({"name": name, "port": port, "listen": free.next()?, "appProtocol": protocol}));
    }
    let mut command = command(&server.process);
    command["ready"] = json!({"port": server.ready.port, "path": server.ready.path, "timeout": "90s"});
    let spec = json!({"serviceAccount": name, "ports": listed, "command": command});
    Ok(object("Workload", name, labels, &spec))
}

fn command(process: &Process) -> Value {
    let mut run = vec![process.program.display().to_string()];
    run.extend(process.args.iter().cloned());
    json!({"run": run, "env": process.env, "dir": process.directory})
}

fn service(name: &str, selector: Option<Value>, ports: &[&str], protocol: &str) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .zip([80, 81])
        .map(|(port, number)| json!({"name": port, "port": number, "appProtocol": protocol}))
        .collect();
    let mut spec = json!({"ports": ports});
    if let Some(selector) = selector {
        spec["selector"] = selector;
    }
    object("Service", name, &Value::Null, &spec)
}

/// The Workload that calls them all, each through a port of its own sidecar.
fn client(kit: &Kit, free: &mut FreePorts) -> Outcome<Value> {
    let (rest, grpc, iris, chat) = (free.next()?, free.next()?, free.next()?, free.next()?);
    let flow = |address: String, rate: f64| Some(Flow { address, rate });
    let flows = Flows {
        fraud_rest: flow(format!("127.0.0.1:{rest}"), FRAUD_RATE),
        fraud_grpc: flow(format!("127.0.0.1:{grpc}"), FRAUD_RATE),
        iris: flow(format!("http://127.0.0.1:{iris}"), 5.0),
        chat: flow(format!("http://127.0.0.1:{chat}"), 1.0),
    };
    let spec = json!({
        "serviceAccount": "client",
        "outbound": {"localPorts": [
            {"listen": rest, "service": "fraud", "port": "http"},
            {"listen": grpc, "service": "fraud", "port": "grpc"},
            {"listen": iris, "service": "iris", "port": "http"},
            {"listen": chat, "service": "llm"},
        ]},
        "command": command(&servers::client(kit, &flows)),
    });
    Ok(object("Workload", "client", &Value::Null, &spec))
}

fn route() -> Value {
    let spec = json!({
        "service": "fraud",
        "rules": [{
            "name": "canary",
            "matches": [{"model": "fraud", "operation": ["infer"]}],
            "split": {"backends": [
                {"name": "stable", "service": "fraud-v1", "weight": 100},
                {"name": "canary", "service": "fraud-v2", "weight": 0},
            ]},
        }],
    });
    object("ModelRoute", "fraud", &Value::Null, &spec)
}
