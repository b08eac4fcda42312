//! Acceptance: a server dies in the middle of a request: the client gets 502 or UNAVAILABLE with `mesh-error`, the
//! request was sent once (counted at the server), and the next one goes elsewhere. A server that is not there at all
//! costs no request.

use anyhow::Result;
use http::{Method, StatusCode};
use mesh_e2e::client::{Answer, Http1, Http2, full, request};
use mesh_e2e::documents::{caller, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::{Conduct, Server};
use serde_json::Value;

const PROTOCOL: &str = "mesh.dev/open-inference";
/// gRPC's status "unavailable".
const UNAVAILABLE: u32 = 14;

/// A Service with two Workloads, and a caller of it.
struct Pair {
    mesh: Mesh,
    one: Server,
    other: Server,
    caller: std::net::SocketAddr,
}

impl Pair {
    async fn start() -> Result<Self> {
        let (one, other) = (Server::start("one").await?, Server::start("other").await?);
        let port = free_port()?;
        let documents: [Value; 4] = [
            service("model", PROTOCOL),
            workload("one", "model", one.port(), free_port()?, PROTOCOL),
            workload("other", "model", other.port(), free_port()?, PROTOCOL),
            caller("client", &[(port, "model")]),
        ];
        let mesh = Mesh::start(&documents).await?;
        Ok(Self {
            mesh,
            one,
            other,
            caller: local(port),
        })
    }

    /// Both servers die of their next request.
    fn doom(&self) {
        self.one.conduct(Conduct::Die);
        self.other.conduct(Conduct::Die);
    }

    /// The server that has seen this request, and how often all of them together have.
    fn seen(&self, id: &str) -> (&Server, u32) {
        let (one, other) = (self.one.times_seen(id), self.other.times_seen(id));
        (if one > 0 { &self.one } else { &self.other }, one + other)
    }
}

async fn infer(client: &mut Http1, id: &str) -> Result<Answer> {
    let request = request(Method::POST, "/v2/models/m/infer")
        .header("x-id", id)
        .body(full("{}"))?;
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_not_sent_again() -> Result<()> {
    let pair = Pair::start().await?;
    let mut client = Http1::connect(pair.caller).await?;
    pair.doom();
    let answer = infer(&mut client, "first").await?;
    assert_eq!(
        (answer.status, answer.mesh_error()),
        (StatusCode::BAD_GATEWAY, "reset"),
        "{answer:?}"
    );
    let (dead, times) = pair.seen("first");
    assert_eq!(times, 1, "a request that a server has seen is sent once");

    // The other one lives; the dead one would die again, and that would be seen.
    let alive = if dead.name() == "one" {
        &pair.other
    } else {
        &pair.one
    };
    alive.conduct(Conduct::Answer);
    for number in 0..20 {
        let answer = infer(&mut client, &format!("next-{number}")).await?.success()?;
        assert_eq!(answer.server(), alive.name(), "request {number} after it");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_that_share_a_connection_each_is_sent_once() -> Result<()> {
    let pair = Pair::start().await?;
    let (waves, clients) = (4, 60);
    for wave in 0..waves {
        // The last ones, by then carried together, find servers that die of one of them.
        if wave == waves - 1 {
            pair.doom();
        }
        let asking = (0..clients).map(async |number| {
            let mut client = Http1::connect(pair.caller).await?;
            infer(&mut client, &format!("{wave}-{number}")).await
        });
        let answers = futures_util::future::try_join_all(asking).await?;
        for (number, answer) in answers.into_iter().enumerate() {
            let id = format!("{wave}-{number}");
            let (_, times) = pair.seen(&id);
            if wave < waves - 1 {
                assert_eq!((answer.status, times), (StatusCode::OK, 1), "{id}: {answer:?}");
                continue;
            }
            assert!(!answer.status.is_success(), "{id}: {answer:?}");
            assert!(times <= 1, "{id} was sent {times} times: {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_is_not_sent_again() -> Result<()> {
    let mut pair = Pair::start().await?;
    let client = Http2::connect(pair.caller).await?;
    pair.doom();
    let method = "/inference.GRPCInferenceService/ModelInfer";
    // ModelInferRequest { model_name: "m" }
    let answer = client.call(method, &[("x-id", "first")], b"\x0a\x01m").await?;
    assert_eq!(
        (answer.grpc_status(), answer.mesh_error()),
        (Some(UNAVAILABLE), "reset"),
        "{answer:?}"
    );
    let (dead, times) = pair.seen("first");
    assert_eq!(times, 1, "a call that a server has seen is sent once");
    let alive = if dead.name() == "one" {
        &pair.other
    } else {
        &pair.one
    };
    alive.conduct(Conduct::Answer);
    let answer = client
        .call(method, &[("x-id", "second")], b"\x0a\x01m")
        .await?
        .success()?;
    assert_eq!(answer.server(), alive.name());

    let metrics = pair.mesh.proxy("client")?.metrics().await?;
    assert_eq!(metrics.sum("mesh_requests_total", &[("reason", "reset")]), 1.0);
    assert_eq!(metrics.sum("mesh_retries_total", &[]), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_costs_no_request() -> Result<()> {
    let Pair {
        mut mesh,
        one,
        other,
        caller,
    } = Pair::start().await?;
    let mut client = Http1::connect(caller).await?;
    // Its process has ended: its sidecar finds nobody to connect to.
    drop(one);
    for number in 0..100 {
        let answer = infer(&mut client, &format!("process-{number}"))
            .await?
            .success()?;
        assert_eq!(answer.server(), "other");
    }
    // Its sidecar has ended too.
    mesh.proxy("one")?.process().kill()?;
    for number in 0..100 {
        let answer = infer(&mut client, &format!("sidecar-{number}"))
            .await?
            .success()?;
        assert_eq!(answer.server(), "other");
    }
    assert_eq!(other.requests(), 200, "each request is sent once");
    Ok(())
}
