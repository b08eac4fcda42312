//! Acceptance: `meshctl explain` and the proxy agree on 10,000 generated requests, which are sent through a proxy: the
//! backend that answers is the one that is explained, and what is refused is refused for the reason that is explained.

#[path = "explain_agrees/generate.rs"]
mod generate;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mesh_api::document::{Document, parse_all};
use mesh_api::explain::{Decision, Question, explain};
use mesh_api::identity::Identity;
use mesh_e2e::client::{Answer, Http1, Http2, full};
use mesh_e2e::documents::{NAMESPACE, caller, object, route, yaml};
use mesh_e2e::draw::Draw;
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use generate::{Generated, SERVICES};

const REQUESTS: usize = 10_000;
/// How many clients send them, each on connections of its own.
const CLIENTS: usize = 8;
const BACKENDS: [&str; 6] = ["a", "b", "c", "d", "e", "own"];
/// Small, so that bodies can be longer.
const READ_AHEAD: usize = 16 << 10;

/// What a request comes to: the name of the backend, or the mesh's status and reason.
type Outcome = Result<String, (u16, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_does_what_is_explained() -> Result<()> {
    let mut servers = Vec::new();
    for name in BACKENDS {
        servers.push(Server::start(name).await?);
    }
    let accounts = ["trainer", "web"];
    let mut addresses = Vec::new();
    let mut documents = services(&servers);
    for account in accounts {
        let ports = (0..SERVICES.len())
            .map(|_| free_port())
            .collect::<Result<Vec<_>>>()?;
        let calls: Vec<_> = ports
            .iter()
            .copied()
            .zip(SERVICES.map(|(service, _)| service))
            .collect();
        documents.push(caller(account, &calls));
        addresses.push(ports);
    }
    let mesh = Mesh::start(&documents).await?;
    for (seed, beyond) in [(1, "route-without-model"), (2, "refuse")] {
        let config = object(
            "MeshConfig",
            "mesh",
            &json!({"inference": {"readAheadBytes": READ_AHEAD, "beyondReadAhead": beyond}}),
        );
        mesh.everyone_at(mesh.apply(&config).await?).await?;
        let known = parsed(documents.iter().chain([&config]))?;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let account = accounts[client % accounts.len()];
            let ports = addresses[client % accounts.len()].clone();
            let draw = Draw::new(seed << 32 | client as u64);
            clients.spawn(compare(
                Arc::clone(&known),
                account,
                ports,
                draw,
                REQUESTS / 2 / CLIENTS,
            ));
        }
        let mut tally = Tally::default();
        while let Some(compared) = clients.join_next().await {
            tally.add(compared??);
        }
        eprintln!("{beyond}: {} served, {} refused", tally.served, tally.refused);
        let wrong = tally.disagreements.len();
        assert_eq!(wrong, 0, "{:#?}", &tally.disagreements[..wrong.min(20)]);
        assert!(
            tally.served > REQUESTS / 8 && tally.refused > REQUESTS / 40,
            "requests are of both kinds"
        );
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    served: usize,
    refused: usize,
    disagreements: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.disagreements.extend(other.disagreements);
    }
}

/// Sends requests one after the other, and compares what comes of each with what is explained.
async fn compare(
    documents: Arc<Vec<Document>>,
    account: &'static str,
    ports: Vec<u16>,
    mut draw: Draw,
    count: usize,
) -> Result<Tally> {
    let identity: Identity = format!("spiffe://mesh.local/ns/{NAMESPACE}/sa/{account}").parse()?;
    let mut connections: Vec<Connections> = ports
        .into_iter()
        .map(|port| Connections::to(local(port)))
        .collect();
    let mut tally = Tally::default();
    for _ in 0..count {
        let service = draw.below(SERVICES.len());
        let generated = Generated::draw(&mut draw, SERVICES[service].1);
        let expected = explained(&documents, SERVICES[service].0, &identity, &generated)?;
        let answer = connections[service]
            .send(&generated)
            .await
            .with_context(|| format!("{generated:?}"))?;
        let seen = match answer.mesh_error() {
            "" => Ok(answer.server().to_owned()),
            reason => Err((answer.status.as_u16(), reason.to_owned())),
        };
        match &expected {
            Ok(_) => tally.served += 1,
            Err(_) => tally.refused += 1,
        }
        if !same(&expected, &seen, generated.grpc) {
            let service = SERVICES[service].0;
            tally.disagreements.push(format!(
                "{service}: {generated:?} of {account}: explained {expected:?}, seen {seen:?}"
            ));
        }
    }
    Ok(tally)
}

/// A gRPC answer has HTTP status 200, and its own status in headers.
fn same(expected: &Outcome, seen: &Outcome, grpc: bool) -> bool {
    match (expected, seen) {
        (Err((_, expected)), Err((200, seen))) if grpc => expected == seen,
        (expected, seen) => expected == seen,
    }
}

fn explained(
    documents: &[Document],
    service: &str,
    caller: &Identity,
    request: &Generated,
) -> Result<Outcome> {
    let question = Question {
        service: &format!("{NAMESPACE}/{service}").parse()?,
        port: None,
        method: &request.method,
        target: &request.target,
        headers: &request.headers,
        body: &request.body,
        caller: Some(caller),
    };
    Ok(match explain(documents, [], &question)?.decision {
        Decision::Refused { status, reason, .. } => Err((status, reason)),
        Decision::Redirect { status, .. } => Err((status, String::new())),
        Decision::Own { .. } => Ok("own".to_owned()),
        Decision::Split { backends, .. } => {
            ensure!(backends.len() == 1, "every split of this mesh is certain");
            Ok(backends[0].name.to_string())
        }
    })
}

/// A client's connections to one port.
struct Connections {
    address: SocketAddr,
    http1: Option<Http1>,
    http2: Option<Http2>,
}

impl Connections {
    fn to(address: SocketAddr) -> Self {
        Self {
            address,
            http1: None,
            http2: None,
        }
    }

    async fn send(&mut self, generated: &Generated) -> Result<Answer> {
        let request = generated.request(full(generated.body.clone()))?;
        if generated.http2 {
            let client = match self.http2.take() {
                Some(client) => client,
                None => Http2::connect(self.address).await?,
            };
            return self.http2.insert(client).send(request).await;
        }
        let mut client = match self.http1.take() {
            Some(client) => client,
            None => Http1::connect(self.address).await?,
        };
        let answer = client.send(request).await?;
        // What is refused may leave a body unread, and the connection with it.
        if answer.mesh_error().is_empty() {
            self.http1 = Some(client);
        }
        Ok(answer)
    }
}

fn parsed<'a>(documents: impl Iterator<Item = &'a Value>) -> Result<Arc<Vec<Document>>> {
    let mut known = Vec::new();
    for document in documents {
        for parsed in parse_all("mesh.yaml".as_ref(), &yaml(document)?) {
            known.push(parsed?.0);
        }
    }
    Ok(Arc::new(known))
}

/// A Service for each protocol, with the same rules, and the backends they name.
fn services(servers: &[Server]) -> Vec<Value> {
    let address = |server: &Server| format!("127.0.0.1:{}", server.port());
    let plain = |name: &str, protocol: &str, server: &Server| {
        object(
            "Service",
            name,
            &json!({
                "ports": [{"name": "main", "port": 80, "appProtocol": protocol}],
                "external": [{"port": "main", "address": address(server)}],
            }),
        )
    };
    let own = &servers[BACKENDS.len() - 1];
    let mut documents = Vec::new();
    for server in &servers[..BACKENDS.len() - 1] {
        documents.push(plain(server.name(), "http", server));
    }
    for (service, protocol) in SERVICES {
        documents.push(plain(service, protocol, own));
        documents.push(route(service, &rules()));
    }
    documents
}

/// Rules of every kind, each of which gives a request to one backend for certain.
fn rules() -> Value {
    let to = |name: &str| json!({"backends": [{"name": name, "service": name}]});
    let weights = |pairs: &[(&str, u32)]| {
        pairs
            .iter()
            .map(|(name, weight)| json!({"name": name, "service": name, "weight": weight}))
            .collect::<Vec<_>>()
    };
    json!([
        {"matches": [{"operation": ["admin"]}, {"operation": ["health"], "method": "HEAD"}], "split": to("a")},
        {"matches": [{"headers": {"x-tier": "gold"}, "model": {"prefix": "fraud"}}], "split": to("b")},
        {"matches": [{"model": "fraud", "version": "2"}], "split": to("c")},
        {
            "matches": [{"model": "fraud"}],
            "split": {"by": {"header": "x-user-id"}, "backends": weights(&[("a", 50), ("b", 30), ("c", 20)])},
        },
        {
            "matches": [{"model": {"prefix": "llama"}, "caller": "ml/trainer"}],
            "split": {"by": {"caller": {}}, "backends": weights(&[("d", 1), ("e", 1)])},
        },
        {"matches": [{"model": {"prefix": "llama"}}], "split": to("d")},
        {"matches": [{"operation": ["generate", "embed"]}, {"path": {"prefix": "/custom/"}}], "split": to("e")},
        {"matches": [{"version": {"prefix": "v"}}], "split": to("a")},
        {"matches": [{"headers": {"x-tier": {"present": true}}, "method": "GET"}], "split": to("c")},
        {"matches": [{"caller": "ml/web", "path": "/"}], "split": to("b")},
    ])
}
