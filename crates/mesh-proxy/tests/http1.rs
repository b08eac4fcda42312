//! HTTP/1.1 and 1.0 as it is on the wire, both ways, through the outbound listener and the inbound one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::peer::{Peer, Scripted};
use common::{Proxy, service};

/// A proxy before a server, and the ports by which the server is reached: outbound and inbound.
async fn start() -> (Proxy, Scripted, [u16; 2]) {
    let server = Scripted::start().await;
    let proxy = Proxy::start_before(
        server.address(),
        "http",
        &service("fraud", "http", &[server.address()]),
    );
    let ports = [proxy.fraud_port, proxy.inbound_port];
    (proxy, server, ports)
}

/// A request and its response, and what must (`+`) and must not (`-`) be on the wire behind the proxy.
struct Exchange {
    name: &'static str,
    request: &'static str,
    /// The end of the request, as the server sees it.
    request_ends: &'static str,
    at_server: &'static [&'static str],
    response: &'static str,
    /// The end of the response, as the client sees it; empty: of the connection.
    response_ends: &'static str,
    at_client: &'static [&'static str],
}

const PLAIN: Exchange = Exchange {
    name: "a plain request",
    request: "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    request_ends: "\r\n\r\n",
    at_server: &["+get /a?b http/1.1\r\n", "+host: x\r\n"],
    response: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    response_ends: "ok",
    at_client: &["+http/1.1 200 ok\r\n", "+content-length: 2\r\n"],
};

const EXCHANGES: &[Exchange] = &[
    PLAIN,
    Exchange {
        name: "an absolute target",
        request: "GET http://named/a?b HTTP/1.1\r\nHost: other\r\n\r\n",
        at_server: &["+get /a?b http/1.1\r\n", "+host: named\r\n"],
        ..PLAIN
    },
    Exchange {
        name: "a length that is kept",
        request: "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        request_ends: "\r\n\r\nabc",
        at_server: &["+content-length: 3\r\n", "-transfer-encoding"],
        ..PLAIN
    },
    Exchange {
        name: "chunks and trailers of a request",
        request: "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
        request_ends: "x-sum: 7\r\n\r\n",
        at_server: &[
            "+transfer-encoding: chunked\r\n",
            "+trailer: x-sum\r\n",
            "+3\r\nabc\r\n0\r\n",
        ],
        ..PLAIN
    },
    Exchange {
        name: "chunks and trailers of a response",
        request: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers, deflate;q=0.5\r\nConnection: TE\r\n\r\n",
        at_server: &["+te: trailers\r\n"],
        response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        response_ends: "x-sum: 7\r\n\r\n",
        at_client: &[
            "+transfer-encoding: chunked\r\n",
            "+trailer: x-sum\r\n",
            "+2\r\nok\r\n0\r\n",
        ],
        ..PLAIN
    },
    Exchange {
        name: "a response to HEAD has the length of what it does not bring",
        request: "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
        at_server: &["+head / http/1.1\r\n"],
        response: "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
        response_ends: "\r\n\r\n",
        at_client: &["+content-length: 1000\r\n"],
        ..PLAIN
    },
    Exchange {
        name: "a response that has no body by its status",
        response: "HTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n",
        response_ends: "\r\n\r\n",
        at_client: &[
            "+http/1.1 204 no content\r\n",
            "+x-a: b\r\n",
            "-content-length",
            "-transfer-encoding",
        ],
        ..PLAIN
    },
    Exchange {
        name: "a response that has not changed",
        response: "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n",
        response_ends: "\r\n\r\n",
        at_client: &["+http/1.1 304 not modified\r\n", "+etag: \"a\"\r\n"],
        ..PLAIN
    },
    Exchange {
        name: "informational responses end at the mesh, the final one passes",
        response: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        at_client: &["+http/1.1 200 ok\r\n", "-link", "-103"],
        ..PLAIN
    },
    Exchange {
        name: "a phrase of the server's own",
        response: "HTTP/1.1 200 Quite Fine\r\ncontent-length: 2\r\n\r\nok",
        at_client: &["+http/1.1 200 quite fine\r\n"],
        ..PLAIN
    },
    Exchange {
        name: "a server of HTTP/1.0, whose response ends with its connection",
        response: "HTTP/1.0 200 OK\r\nx-a: b\r\n\r\nok",
        response_ends: "2\r\nok\r\n0\r\n\r\n",
        at_client: &["+http/1.1 200 ok\r\n", "+transfer-encoding: chunked\r\n"],
        ..PLAIN
    },
    Exchange {
        name: "a client of HTTP/1.0 without a host",
        request: "GET / HTTP/1.0\r\n\r\n",
        at_server: &["+get / http/1.1\r\n", "+host: \r\n"],
        response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        response_ends: "",
        at_client: &["+http/1.0 200 ok\r\n", "-transfer-encoding", "+\r\n\r\nok"],
        ..PLAIN
    },
    Exchange {
        name: "a client of HTTP/1.0 that keeps its connection",
        request: "GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
        at_server: &["+get / http/1.1\r\n", "+host: x\r\n", "-connection"],
        at_client: &[
            "+http/1.0 200 ok\r\n",
            "+connection: keep-alive\r\n",
            "+content-length: 2\r\n",
        ],
        ..PLAIN
    },
    Exchange {
        name: "a client that wants to close",
        request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        at_server: &["-connection"],
        response_ends: "",
        at_client: &["+connection: close\r\n", "+\r\n\r\nok"],
        ..PLAIN
    },
    Exchange {
        name: "h2c is not switched to",
        request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        at_server: &["-upgrade", "-http2-settings", "-connection"],
        ..PLAIN
    },
];

fn check(name: &str, whose: &str, text: &str, expected: &[&str]) {
    let text = text.to_lowercase();
    for line in expected {
        let (wanted, line) = line.split_at(1);
        assert_eq!(
            text.contains(line),
            wanted == "+",
            "{name}: {line:?} at the {whose}: {text}"
        );
    }
}

#[tokio::test]
async fn what_one_hop_says_is_what_the_next_one_may_hear() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        for exchange in EXCHANGES {
            let mut client = Peer::connect(port).await;
            client.say(exchange.request).await;
            let mut at_server = server.accept().await;
            let request = at_server.hear(exchange.request_ends).await;
            check(exchange.name, "server", &request, exchange.at_server);
            at_server.say(exchange.response).await;
            // What a response says nothing about ends with its connection.
            drop(at_server);
            let response = match exchange.response_ends {
                "" => client.hear_all().await,
                end => client.hear(end).await,
            };
            check(exchange.name, "client", &response, exchange.at_client);
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn one_connection_carries_request_after_request() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        let mut at_server = None;
        for number in 0..5 {
            client
                .say(&format!(
                    "POST /{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
                ))
                .await;
            if at_server.is_none() {
                at_server = Some(server.accept().await);
            }
            let at_server = at_server.as_mut().unwrap();
            let head = at_server.hear_head().await;
            assert!(head.starts_with(&format!("post /{number} ")), "{head}");
            at_server.hear("hi").await;
            at_server.say(OK).await;
            client.hear("\r\n\r\nok").await;
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        let all: String = (0..4)
            .map(|number| format!("POST /{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{number}"))
            .collect();
        client.say(&all).await;
        let mut at_server = server.accept().await;
        for number in 0..4 {
            let head = at_server.hear_head().await;
            assert!(head.starts_with(&format!("post /{number} ")), "{head}");
            at_server.hear(&number.to_string()).await;
            at_server
                .say(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}"))
                .await;
        }
        for number in 0..4 {
            client.hear(&format!("\r\n\r\n{number}")).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_once_somebody_takes_the_body() {
    let (_proxy, server, ports) = start().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    for port in ports {
        let mut client = Peer::connect(port).await;
        client.say(head).await;
        let mut at_server = server.accept().await;
        let seen = at_server.hear_head().await;
        assert!(!seen.contains("expect"), "{seen}");
        client.hear("HTTP/1.1 100 Continue\r\n\r\n").await;
        client.say("body").await;
        at_server.hear("body").await;
        // A server that says it as well, although nobody asked it.
        at_server.say(&format!("HTTP/1.1 100 Continue\r\n\r\n{OK}")).await;
        client.hear("\r\n\r\nok").await;
    }
}

#[tokio::test]
async fn a_refused_request_is_not_asked_for_its_body() {
    let proxy = Proxy::start(&service("fraud", "http", &[]));
    let mut client = Peer::connect(proxy.fraud_port).await;
    client
        .say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let answer = client.hear_head().await;
    assert!(
        answer.starts_with("http/1.1 503 ") && answer.contains("mesh-error: no-endpoints"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_server_that_answers_early_is_heard_before_the_body_is_over() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        client
            .say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
            .await;
        let mut at_server = server.accept().await;
        at_server.hear("half").await;
        at_server
            .say("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
            .await;
        let answer = client.hear("\r\n\r\nno").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // The rest of the body is taken all the same.
        client.say("rest").await;
        at_server.hear("rest").await;
    }
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        client
            .say("GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
            .await;
        let mut at_server = server.accept().await;
        at_server.hear_head().await;
        at_server
            .say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        client.hear_head().await;
        // Each is heard before the next one is said: nothing waits for more.
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            at_server.say(&format!("{:x}\r\n{event}\r\n", event.len())).await;
            client.hear(&event).await;
            if number == 10 {
                // What is asked meanwhile is answered afterwards.
                client.say("GET /next HTTP/1.1\r\nHost: x\r\n\r\n").await;
            }
        }
        at_server.say("0\r\n\r\n").await;
        client.hear("0\r\n\r\n").await;
        for (path, next) in [("/next", "GET /last HTTP/1.1\r\nHost: x\r\n\r\n"), ("/last", "")] {
            let head = at_server.hear_head().await;
            assert!(head.starts_with(&format!("get {path} ")), "{head}");
            at_server.say(OK).await;
            client.hear("\r\n\r\nok").await;
            client.say(next).await;
        }
    }
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let (_proxy, server, ports) = start().await;
    for port in ports {
        let mut client = Peer::connect(port).await;
        client.say(PLAIN.request).await;
        let mut at_server = server.accept().await;
        at_server.hear_head().await;
        at_server
            .say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await;
        let answer = client.hear_head().await;
        assert!(
            answer.starts_with("http/1.1 502 ") && answer.contains("mesh-error: reset"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_tunnel_leads_to_a_service_in_its_protocol() {
    let (web, raw) = (Scripted::start().await, Scripted::start().await);
    let documents = service("web", "http", &[web.address()])
        + &service("raw", "tcp", &[raw.address()])
        + &service("fraud", "http", &[]);
    let proxy = Proxy::start(&documents);

    let mut client = Peer::connect(proxy.proxy_port).await;
    client
        .say("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n")
        .await;
    let answer = client.hear_head().await;
    assert!(answer.starts_with("http/1.1 200 "), "{answer}");
    for number in 0..2 {
        client
            .say(&format!("GET /{number} HTTP/1.1\r\nHost: anything\r\n\r\n"))
            .await;
    }
    let mut at_server = web.accept().await;
    for number in 0..2 {
        let head = at_server.hear_head().await;
        assert!(
            head.starts_with(&format!("get /{number} ")) && head.contains("host: anything"),
            "{head}"
        );
        at_server.say(OK).await;
        client.hear("\r\n\r\nok").await;
    }
    client
        .say("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n")
        .await;
    let answer = client.hear_head().await;
    assert!(
        answer.starts_with("http/1.1 400 "),
        "a tunnel in a tunnel: {answer}"
    );

    // A server that speaks first, and each side that ends for itself.
    let mut client = Peer::connect(proxy.proxy_port).await;
    client.say("CONNECT raw HTTP/1.1\r\nHost: raw\r\n\r\n").await;
    client.hear_head().await;
    let mut at_server = raw.accept().await;
    at_server.say("hello").await;
    client.hear("hello").await;
    client.say("question").await;
    client.done().await;
    assert_eq!(at_server.hear_all().await, "question");
    at_server.say("answer").await;
    drop(at_server);
    assert_eq!(client.hear_all().await, "answer");

    let mut client = Peer::connect(proxy.proxy_port).await;
    client
        .say("CONNECT nobody:80 HTTP/1.1\r\nHost: nobody:80\r\nContent-Type: application/grpc\r\n\r\n")
        .await;
    let answer = client.hear_head().await;
    assert!(
        answer.starts_with("http/1.1 404 ") && answer.contains("mesh-error: no-such-service"),
        "{answer}"
    );

    let mut client = Peer::connect(proxy.inbound_port).await;
    client
        .say("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n")
        .await;
    let answer = client.hear_head().await;
    assert!(
        answer.starts_with("http/1.1 400 ") && answer.contains("mesh-error: bad-request"),
        "{answer}"
    );

    let mut counted = Vec::new();
    for (labels, totals) in proxy.counted(6).await {
        for (code, reason, requests) in totals.outcomes {
            counted.push(format!(
                "{} {:?} {code} {reason:?} {requests}",
                labels.direction.as_str(),
                labels.service
            ));
        }
    }
    counted.sort();
    assert_eq!(
        counted,
        [
            "inbound \"\" 400 \"bad-request\" 1",
            "outbound \"\" 400 \"bad-request\" 1",
            "outbound \"\" 404 \"no-such-service\" 1",
            "outbound \"ml/raw\" tcp \"\" 1",
            "outbound \"ml/web\" 200 \"\" 2",
        ]
    );
}
