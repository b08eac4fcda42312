//! Bad bytes at every listener, HTTP smuggling attempts among them: an error or a closed connection, and the process
//! behind the sidecars gets exactly the requests that were answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::client;
use mesh_e2e::documents::{NAMESPACE, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::{free_port, local};
use mesh_e2e::server::Server;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a listener may leave a client without a word after it has all of its bytes. Nothing hangs on it but how
/// long a test takes that fails, and those clients that the proxy rightly waits for.
const SILENCE: Duration = Duration::from_secs(1);

/// What may come of some bytes.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// An error, or a closed connection; nothing reaches the process.
    Refused,
    /// So many requests are served, each once; whatever follows them is refused.
    Served(u64),
    /// It is refused, or it is one request.
    Either,
    /// The head may reach the process, but never a whole request.
    Broken,
}
use Outcome::{Broken, Either, Refused, Served};

/// Heads and bodies for a listener of plain HTTP.
fn http1() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    let get = |head: &str| format!("GET / HTTP/1.1\r\nHost: web\r\n{head}\r\n").into_bytes();
    let post = |head: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{head}\r\n\r\n{body}").into_bytes()
    };
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: web\r\n\r\n";
    let headers: String = (0..1_000).map(|number| format!("x-{number}: 1\r\n")).collect();
    vec![
        ("garbage", (0..=255).collect(), Refused),
        ("zeros", vec![0; 4_096], Refused),
        (
            "a TLS handshake",
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".to_vec(),
            Refused,
        ),
        ("no target", b"GET\r\n\r\n".to_vec(), Refused),
        ("no version", b"GET /\r\n\r\n".to_vec(), Refused),
        (
            "an unknown version",
            b"GET / HTTP/9.9\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "HTTP/2.0 in a line",
            b"GET / HTTP/2.0\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "a target without a slash",
            b"GET web HTTP/1.1\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "an absolute target that is none",
            b"GET http://[::1 HTTP/1.1\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "a method that is none",
            b"G@T / HTTP/1.1\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "a space in the target",
            b"GET /a b HTTP/1.1\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "a control character in the target",
            b"GET /\x01 HTTP/1.1\r\nHost: web\r\n\r\n".to_vec(),
            Refused,
        ),
        ("a header without a colon", get("nonsense\r\n"), Refused),
        ("a space before the colon", get("Content-Length : 5\r\n"), Refused),
        ("a header name that is none", get("x(y): 1\r\n"), Refused),
        ("a zero in a header", get("x: a\0b\r\n"), Refused),
        ("a return in a header", get("x: a\rb\r\n"), Refused),
        ("a folded header", get("x: a\r\n b\r\n"), Refused),
        (
            "a folded Transfer-Encoding",
            post("Transfer-Encoding:\r\n chunked", smuggled),
            Refused,
        ),
        (
            "bare line feeds",
            b"GET / HTTP/1.1\nHost: web\nConnection: close\n\n".to_vec(),
            Either,
        ),
        (
            "an endless header",
            get(&format!("x: {}\r\n", "y".repeat(600_000))),
            Refused,
        ),
        ("a thousand headers", get(&headers), Refused),
        (
            "an endless target",
            format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "y".repeat(600_000)).into_bytes(),
            Refused,
        ),
        (
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6", "12345"),
            Refused,
        ),
        (
            "two lengths in one",
            post("Content-Length: 5, 6", "12345"),
            Refused,
        ),
        (
            "the same length twice",
            post("Content-Length: 5\r\nContent-Length: 5", "12345"),
            Either,
        ),
        (
            "a length with a sign",
            post("Content-Length: +5", "12345"),
            Refused,
        ),
        ("a negative length", post("Content-Length: -1", ""), Refused),
        (
            "a length in hexadecimal",
            post("Content-Length: 0x5", "12345"),
            Refused,
        ),
        (
            "a length beyond all lengths",
            post("Content-Length: 99999999999999999999", "1"),
            Refused,
        ),
        (
            "a length and chunks",
            post("Content-Length: 4\r\nTransfer-Encoding: chunked", smuggled),
            Either,
        ),
        (
            "chunks and a length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 46", smuggled),
            Either,
        ),
        (
            "chunks in HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "an encoding that is not the last",
            post("Transfer-Encoding: chunked, gzip", smuggled),
            Refused,
        ),
        (
            "an encoding that looks like one",
            post("Transfer-Encoding: xchunked", smuggled),
            Refused,
        ),
        (
            "an unknown encoding",
            post("Transfer-Encoding: identity", smuggled),
            Refused,
        ),
        (
            "two encodings",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                smuggled,
            ),
            Refused,
        ),
        (
            "a chunk size that is none",
            post("Transfer-Encoding: chunked", "ZZ\r\nabc\r\n0\r\n\r\n"),
            Broken,
        ),
        (
            "a negative chunk size",
            post("Transfer-Encoding: chunked", "-1\r\nabc\r\n0\r\n\r\n"),
            Broken,
        ),
        (
            "a chunk size with a prefix",
            post("Transfer-Encoding: chunked", "0x3\r\nabc\r\n0\r\n\r\n"),
            Broken,
        ),
        (
            "a chunk size beyond all sizes",
            post("Transfer-Encoding: chunked", "fffffffffffffffff\r\nabc"),
            Broken,
        ),
        (
            "a chunk longer than its size",
            post("Transfer-Encoding: chunked", "3\r\nabcdef\r\n0\r\n\r\n"),
            Broken,
        ),
        (
            "a line feed in a chunk extension",
            post("Transfer-Encoding: chunked", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
            Broken,
        ),
        (
            "a body that breaks off",
            post("Content-Length: 10", "123"),
            Broken,
        ),
        (
            "chunks that break off",
            post("Transfer-Encoding: chunked", "5\r\nab"),
            Broken,
        ),
        (
            "a second request behind the first",
            [post("Content-Length: 0", ""), get("\r\n")].concat(),
            Served(1),
        ),
        (
            "a length named as a hop's own",
            post("Connection: content-length\r\nContent-Length: 5", "12345"),
            Served(1),
        ),
        (
            "an upgrade to HTTP/2",
            post(
                "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0",
                "",
            ),
            Served(1),
        ),
    ]
}

/// Frames and what is none for a listener of plain HTTP, behind HTTP/2's preface.
fn http2() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let behind = |bytes: &[u8]| [PREFACE, b"\0\0\0\x04\0\0\0\0\0", bytes].concat();
    vec![
        ("half a preface", PREFACE[..10].to_vec(), Refused),
        (
            "another preface",
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
            Refused,
        ),
        (
            "garbage behind the preface",
            [PREFACE, &[0xff; 64]].concat(),
            Refused,
        ),
        (
            "a frame beyond all frames",
            behind(b"\xff\xff\xff\x00\0\0\0\0\x01"),
            Refused,
        ),
        (
            "data on no stream",
            behind(b"\0\0\x01\x00\x01\0\0\0\x01x"),
            Refused,
        ),
        (
            "headers that are not packed",
            behind(b"\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff"),
            Refused,
        ),
        (
            "settings of odd length",
            behind(b"\0\0\x05\x04\0\0\0\0\0\0\x01\0\0\0"),
            Refused,
        ),
        (
            "a stream of the server's",
            behind(b"\0\0\x01\x01\x05\0\0\0\x02\x82"),
            Refused,
        ),
        (
            "a continuation of nothing",
            behind(b"\0\0\x01\x09\x04\0\0\0\x01\x82"),
            Refused,
        ),
        (
            "headers without a method",
            behind(b"\0\0\x01\x01\x05\0\0\0\x01\x84"),
            Refused,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_bad_reaches_the_process() -> Result<()> {
    let server = Server::start("web").await?;
    let (listen, local_port, proxy_port) = (free_port()?, free_port()?, free_port()?);
    let client = json!({
        "apiVersion": "mesh.dev/v1alpha1", "kind": "Workload",
        "metadata": {"name": "client", "namespace": NAMESPACE},
        "spec": {"serviceAccount": "client", "outbound": {
            "proxyPort": proxy_port,
            "localPorts": [{"listen": local_port, "service": "web"}],
        }},
    });
    let documents = [
        service("web", "http"),
        workload("web", "web", server.port(), listen, "http"),
        client,
    ];
    let mut mesh = Mesh::start(&documents).await?;
    let pids = [
        mesh.proxy("client")?.process().id(),
        mesh.proxy("web")?.process().id(),
    ];

    for (listener, port) in [("a service's port", local_port), ("the proxy port", proxy_port)] {
        for (what, bytes, outcome) in http1().into_iter().chain(http2()) {
            check(&server, local(port), &bytes, outcome)
                .await
                .with_context(|| format!("{what}, at {listener}"))?;
        }
    }
    let raw = |text: &str| text.as_bytes().to_vec();
    for (what, bytes, outcome) in [
        ("no host", raw("GET / HTTP/1.1\r\n\r\n"), Refused),
        (
            "two hosts",
            raw("GET / HTTP/1.1\r\nHost: web\r\nHost: other\r\n\r\n"),
            Refused,
        ),
        (
            "a host that is none",
            raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
            Refused,
        ),
        (
            "a service that is none",
            raw("GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n"),
            Refused,
        ),
        (
            "another port",
            raw("GET http://web:81/ HTTP/1.1\r\nHost: web\r\n\r\n"),
            Refused,
        ),
        (
            "a tunnel to nowhere",
            raw("CONNECT nowhere:80 HTTP/1.1\r\nHost: nowhere:80\r\n\r\n"),
            Refused,
        ),
        (
            "a tunnel out of the mesh",
            raw("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n"),
            Refused,
        ),
        (
            "a way out of the mesh",
            raw("GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: web\r\n\r\n"),
            Refused,
        ),
        (
            "garbage in a tunnel",
            raw("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n\0\x01\x02\x03"),
            Refused,
        ),
        (
            "one host in the target, another beside it",
            raw("GET http://web/ HTTP/1.1\r\nHost: nowhere\r\nConnection: close\r\n\r\n"),
            Served(1),
        ),
    ] {
        check(&server, local(proxy_port), &bytes, outcome)
            .await
            .with_context(|| format!("{what}, at the proxy port"))?;
    }
    for (what, bytes) in [
        ("garbage", vec![0xff; 512]),
        ("plaintext", raw("GET / HTTP/1.1\r\nHost: web\r\n\r\n")),
        ("HTTP/2 in plaintext", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("a record of no version", b"\x16\xff\xff\x00\x05hello".to_vec()),
        (
            "a handshake that is none",
            b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff".to_vec(),
        ),
        (
            "a record beyond all records",
            b"\x16\x03\x01\xff\xff\x01\x00".to_vec(),
        ),
        ("half a handshake", b"\x16\x03\x01\x00\xa5\x01\x00".to_vec()),
    ] {
        check(&server, local(listen), &bytes, Refused)
            .await
            .with_context(|| format!("{what}, at the inbound listener"))?;
        check(&server, mesh.control_address(), &bytes, Refused)
            .await
            .with_context(|| format!("{what}, at the control plane"))?;
    }
    let client = mesh.proxy("client")?;
    for (method, path, status) in [
        ("GET", "/drain", 405),
        ("POST", "/metrics", 405),
        ("GET", "/etc/passwd", 404),
    ] {
        let request = client::request(method.parse()?, path).body(client::full(""))?;
        let answer = client::Http1::connect(client.admin())
            .await?
            .send(request)
            .await?;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
    }
    let page = client::request(http::Method::POST, "/drain").header("origin", "https://evil.test");
    let answer = client::Http1::connect(client.admin())
        .await?
        .send(page.body(client::full(""))?)
        .await?;
    assert!(
        answer.status.is_client_error(),
        "a web page can't drain a proxy: {answer:?}"
    );

    // What only the mesh may say is not believed from a client.
    let spoof = "GET / HTTP/1.1\r\nHost: web\r\nMesh-Peer: spiffe://mesh.local/ns/ml/sa/admin\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(exchange(local(local_port), spoof.as_bytes()).await?)?;
    assert!(
        answer.contains(r#""peer":"spiffe://mesh.local/ns/ml/sa/client""#),
        "{answer}"
    );

    assert_eq!(
        pids,
        [
            mesh.proxy("client")?.process().id(),
            mesh.proxy("web")?.process().id()
        ]
    );
    for proxy in mesh.proxies() {
        proxy.process().check()?;
        assert!(
            !proxy.process().log().contains("panicked"),
            "{}",
            proxy.process().log()
        );
    }
    Ok(())
}

/// Sends some bytes, looks what comes of them, and sends a good request to the same listener afterwards.
async fn check(server: &Server, address: SocketAddr, bytes: &[u8], outcome: Outcome) -> Result<()> {
    let (requests, whole) = (server.requests(), server.whole());
    let answer = exchange(address, bytes).await?;
    let text = String::from_utf8_lossy(&answer);
    // Of an HTTP/2 answer, a GOAWAY is as good as silence here.
    let served = text.matches("HTTP/1.1 200").count() as u64 - u64::from(bytes.starts_with(b"CONNECT web"));
    let errors = text.matches("HTTP/1.1 4").count();
    let (requests, whole) = (server.requests() - requests, server.whole() - whole);
    let seen =
        format!("{requests} requests reached the process, {whole} of them whole; answered: {text:.600}");
    match outcome {
        Refused => ensure!(requests == 0 && served == 0, "{seen}"),
        Served(expected) => ensure!(
            requests == expected && served == expected && whole == expected,
            "{seen}"
        ),
        Either => ensure!(
            requests == served && whole == served && (served > 0 || errors > 0),
            "{seen}"
        ),
        Broken => ensure!(whole == 0 && served == 0, "{seen}"),
    }
    Ok(())
}

/// Sends some bytes, and reads until the listener closes the connection, or has nothing more to say; then the client is
/// done too.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // A listener that has heard enough may close before it has heard all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    let mut done = false;
    loop {
        match tokio::time::timeout(SILENCE, stream.read(&mut piece)).await {
            Ok(Ok(0) | Err(_)) => return Ok(answer),
            Ok(Ok(length)) => answer.extend_from_slice(&piece[..length]),
            Err(_) if done => return Ok(answer),
            Err(_) => {
                done = true;
                let _ = stream.shutdown().await;
            }
        }
    }
}
