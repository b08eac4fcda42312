//! Requests that are HTTP as it should be and have more than one meaning, or none: refused with a reason, before any
//! server sees them.

use std::net::SocketAddr;

use anyhow::Result;
use http::Method;
use mesh_e2e::client::{Answer, Http1, Http2, framed, full, grpc, request};
use mesh_e2e::documents::{backend, caller, route, routed, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_refused_with_a_reason() -> Result<()> {
    let mut servers = Vec::new();
    let (v2, openai, tensorflow) = (
        "mesh.dev/open-inference",
        "mesh.dev/openai",
        "mesh.dev/tensorflow",
    );
    let ports = [free_port()?, free_port()?, free_port()?];
    let mut documents = vec![caller(
        "client",
        &[(ports[0], "v2"), (ports[1], "chat"), (ports[2], "tf")],
    )];
    for (name, protocol) in [("v2", v2), ("chat", openai), ("tf", tensorflow)] {
        let behind = format!("{name}-model");
        servers.push(Server::start(&behind).await?);
        let port = servers.last().map_or(0, Server::port);
        let split = json!({"backends": [backend(&behind, 1)]});
        documents.push(routed(name, protocol));
        documents.push(route(
            name,
            &json!([{"matches": [{"model": "m"}], "split": split}, {"split": split}]),
        ));
        documents.push(service(&behind, protocol));
        documents.push(workload(&behind, &behind, port, free_port()?, protocol));
    }
    let mut mesh = Mesh::start(&documents).await?;
    let [v2, chat, tf] = ports.map(local);

    for (address, path, reason) in [
        (v2, "/v2/models/../models/m/infer", "ambiguous-path"),
        (v2, "/v2/models/./m/infer", "ambiguous-path"),
        (v2, "/v2//models/m/infer", "ambiguous-path"),
        (v2, "/v2/models/m;x=y/infer", "ambiguous-path"),
        (v2, "/v2/models/a%2Fb/infer", "ambiguous-path"),
        (v2, "/v2/models/%6d/infer", "ambiguous-path"),
        (v2, "/v2/models/%2e%2e/infer", "ambiguous-path"),
        (v2, "/v2/models/m%00/infer", "ambiguous-path"),
        (v2, "/v2/models/m%5c/infer", "ambiguous-path"),
        (v2, "/v2/models/m%/infer", "ambiguous-path"),
        (v2, "/v2/models/m%zz/infer", "ambiguous-path"),
        (v2, "/v2/models/%ff%fe/infer", "bad-name"),
        (v2, "/v2/models/m/versions/007/infer", "ambiguous-version"),
        (tf, "/v1/models/../m:predict", "ambiguous-path"),
        (tf, "/V1//models/m:predict", "ambiguous-path"),
        (chat, "/v1/chat/../chat/completions", "ambiguous-path"),
    ] {
        let mut client = Http1::connect(address).await?;
        let answer = client.send(request(Method::POST, path).body(full("{}"))?).await?;
        refused(&servers, path, &answer, reason);
    }
    for (what, body, reason) in [
        ("two names", r#"{"model": "m", "model": "n"}"#, "duplicate-model"),
        (
            "two names, one of them escaped",
            r#"{"model": "m", "mod\u0065l": "n"}"#,
            "duplicate-model",
        ),
        (
            "two names, far apart",
            r#"{"model": "m", "messages": [{"content": "x"}], "model": "m"}"#,
            "duplicate-model",
        ),
        ("a number", r#"{"model": 7}"#, "bad-name"),
        ("a list", r#"{"model": ["m"]}"#, "bad-name"),
        ("a control character", r#"{"model": "a\u0000b"}"#, "bad-name"),
        ("half a surrogate", r#"{"model": "\ud800"}"#, "bad-name"),
        ("an open brace", "{", "malformed-body"),
        ("no JSON", "model=m", "malformed-body"),
        ("a list of requests", r#"[{"model": "m"}]"#, "malformed-body"),
    ] {
        let mut client = Http1::connect(chat).await?;
        let request = request(Method::POST, CHAT).header("content-type", "application/json");
        let answer = client.send(request.body(full(body))?).await?;
        refused(&servers, what, &answer, reason);
    }
    let form = |parts: &[&str]| -> String {
        let part = |value: &&str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{value}\r\n")
        };
        parts.iter().map(part).collect::<String>() + "--b--\r\n"
    };
    for (what, path, kind, body, reason) in [
        (
            "two fields",
            "/v1/audio/transcriptions",
            "multipart/form-data; boundary=b",
            form(&["m", "n"]),
            "duplicate-model",
        ),
        (
            "two boundaries",
            "/v1/audio/transcriptions",
            "multipart/form-data; boundary=b; boundary=c",
            form(&["m"]),
            "unsupported-media",
        ),
        (
            "a form where JSON is due",
            CHAT,
            "multipart/form-data; boundary=b",
            form(&["m"]),
            "unsupported-media",
        ),
    ] {
        let mut client = Http1::connect(chat).await?;
        let answer = client
            .send(
                request(Method::POST, path)
                    .header("content-type", kind)
                    .body(full(body))?,
            )
            .await?;
        refused(&servers, what, &answer, reason);
    }
    calls(&servers, v2).await?;

    for proxy in mesh.proxies() {
        proxy.process().check()?;
        assert!(
            !proxy.process().log().contains("panicked"),
            "{}",
            proxy.process().log()
        );
    }
    let good = request(Method::POST, CHAT)
        .header("content-type", "application/json")
        .body(full(r#"{"model": "m"}"#))?;
    Http1::connect(chat).await?.send(good).await?.success()?;
    Ok(())
}

/// gRPC messages that are none.
async fn calls(servers: &[Server], address: SocketAddr) -> Result<()> {
    let client = Http2::connect(address).await?;
    let method = "/inference.GRPCInferenceService/ModelInfer";
    for (what, body, reason) in [
        (
            "a name that is not UTF-8",
            framed(b"\x0a\x02\xff\xfe").to_vec(),
            "bad-name",
        ),
        (
            "a field that breaks off",
            framed(b"\x0a\x05m").to_vec(),
            "malformed-body",
        ),
        (
            "a field of no type",
            framed(b"\x0f\x01").to_vec(),
            "malformed-body",
        ),
        (
            "a varint without end",
            framed(&[0xff; 11]).to_vec(),
            "malformed-body",
        ),
        (
            "a message that breaks off",
            b"\0\0\0\0\x09\x0a\x01m".to_vec(),
            "malformed-body",
        ),
        ("a prefix that breaks off", b"\0\0\0".to_vec(), "malformed-body"),
        (
            "a flag that is none",
            b"\x07\0\0\0\x03\x0a\x01m".to_vec(),
            "malformed-body",
        ),
    ] {
        let answer = client.send(grpc(method, &[], full(body))?).await?;
        assert_eq!(answer.mesh_error(), reason, "{what}: {answer:?}");
        assert_eq!(answer.grpc_status(), Some(3), "{what}: {answer:?}");
        assert!(
            servers.iter().all(|server| server.requests() == 0),
            "{what} reaches a server"
        );
    }
    Ok(())
}

fn refused(servers: &[Server], what: &str, answer: &Answer, reason: &str) {
    assert_eq!(answer.mesh_error(), reason, "{what}: {answer:?}");
    assert!(answer.status.is_client_error(), "{what}: {answer:?}");
    assert!(
        answer.text().contains(reason),
        "the body of the answer tells the reason too: {answer:?}"
    );
    assert!(
        servers.iter().all(|server| server.requests() == 0),
        "{what} reaches a server"
    );
}
