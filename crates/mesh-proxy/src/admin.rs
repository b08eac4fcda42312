//! The admin endpoint: what the proxy does and how it is, for people, probes and Prometheus. Never a secret.
//!
//! By default it listens on loopback only. It answers one request after the other on few connections; nothing it does
//! is in the way of the proxy's own requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_api::document::MtlsMode;
use mesh_api::snapshot::Snapshot;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::drain::Drain;
use crate::limits::Limits;
use crate::observe::{Observe, exposition};
use crate::tls::{Credentials, CredentialsCell};

/// The most connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);

const PATHS: &str = "GET /live          200 as long as the process runs
GET /ready         200 when requests are served, else 503 and why not
GET /metrics       metrics, in Prometheus' text format
GET /table         the configuration in effect, as JSON
GET /limits        what peers may do at most, as JSON
GET /certificates  the certificate in use, as JSON; no key
POST /drain        take no new connections, finish what is in flight, end
";

/// What the endpoint tells about.
pub struct Admin {
    /// What is counted.
    pub observe: Arc<Observe>,
    /// The credentials of the moment.
    pub credentials: Arc<CredentialsCell>,
    /// The configuration in effect.
    pub latest: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Whether the proxy is about to end, and what makes it.
    pub drain: Drain,
    /// What peers may do at most.
    pub limits: Limits,
}

type Answer = Response<Full<Bytes>>;

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, mostly: those that end make room.
                tracing::warn!("admin: a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answer = admin.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = served.await {
                tracing::debug!("admin: {error}");
            }
        });
    }
}

impl Admin {
    /// Answers a request; its body, if it has one, is not looked at.
    pub fn answer<B>(&self, request: &Request<B>) -> Answer {
        match (request.uri().path(), request.method()) {
            ("/drain", &Method::POST) => self.drain(request),
            ("/drain", _) => not_allowed("POST"),
            ("/live" | "/ready" | "/metrics" | "/table" | "/limits" | "/certificates", method)
                if method != Method::GET =>
            {
                not_allowed("GET")
            }
            ("/live", _) => text(StatusCode::OK, "live\n"),
            ("/ready", _) => self.ready(),
            ("/metrics", _) => with_type(exposition::CONTENT_TYPE, exposition::render(&self.observe)),
            ("/table", _) => self.table(),
            ("/limits", _) => self.limits(),
            ("/certificates", _) => self.certificates(),
            _ => text(StatusCode::NOT_FOUND, PATHS),
        }
    }

    fn ready(&self) -> Answer {
        match self.not_ready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    }

    /// Why no requests should be sent here; none: they should.
    pub fn not_ready(&self) -> Option<&'static str> {
        let latest = self.latest.borrow();
        let Some(snapshot) = latest.as_deref() else {
            return Some("no configuration yet");
        };
        if self.drain.is_started() {
            return Some("draining");
        }
        let now = SystemTime::now();
        let holds = |credentials: &Arc<Credentials>| credentials.valid_at(now);
        let certified = self.credentials.load().as_ref().is_some_and(holds);
        (needs_credentials(snapshot) && !certified).then_some("no certificate that holds")
    }

    fn table(&self) -> Answer {
        let latest = self.latest.borrow().clone();
        json_answer(&json!({
            "workload": self.observe.workload,
            "proxyId": self.observe.proxy_id,
            "software": env!("CARGO_PKG_VERSION"),
            "version": latest.as_ref().map_or(0, |snapshot| snapshot.version.0),
            "snapshot": latest.as_deref(),
        }))
    }

    fn limits(&self) -> Answer {
        let mut limits = json!(self.limits);
        // As they are in effect, whatever the flags leave open.
        limits["maxConnections"] = json!(self.limits.connections_of_worker(1));
        limits["memoryLimit"] = json!(self.limits.memory());
        json_answer(&limits)
    }

    fn certificates(&self) -> Answer {
        let credentials = self.credentials.load_full();
        json_answer(&json!({
            "certificate": credentials.as_deref().map(|credentials| json!({
                "identity": credentials.identity,
                "serial": credentials.serial,
                "notBefore": rfc3339(credentials.not_before),
                "notAfter": rfc3339(credentials.not_after),
                "generation": credentials.generation,
                "chainLength": credentials.chain().len(),
                "roots": credentials.roots().len(),
            })),
        }))
    }

    fn drain<B>(&self, request: &Request<B>) -> Answer {
        // A page in somebody's browser can post here too; browsers say where such a request is from.
        if request.headers().contains_key(ORIGIN) {
            return text(StatusCode::FORBIDDEN, "not from a web page\n");
        }
        self.drain.start();
        text(StatusCode::ACCEPTED, "draining\n")
    }
}

/// Whether something the configuration asks for can't be done without a certificate.
fn needs_credentials(snapshot: &Snapshot) -> bool {
    let workload = &snapshot.workload;
    // What is intercepted, or asked for when it is called, may turn out to need one: whoever was told that this proxy is
    // ready must not be the one who finds out.
    if workload.interception.is_some() || workload.on_demand {
        return true;
    }
    let inbound = snapshot.mtls() == MtlsMode::Strict && !workload.ports.is_empty();
    let mut endpoints = snapshot
        .services
        .values()
        .flat_map(|service| service.endpoints.iter());
    inbound || endpoints.any(|endpoint| endpoint.identity.is_some())
}

fn rfc3339(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).format(&Rfc3339).ok()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = with_type("text/plain; charset=utf-8", body);
    *answer.status_mut() = status;
    answer
}

fn not_allowed(method: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, PATHS);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    answer
}

fn json_answer(value: &serde_json::Value) -> Answer {
    with_type("application/json", format!("{value:#}\n"))
}

fn with_type(media: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::{Authority, snapshot};

    struct Case {
        admin: Admin,
        latest: watch::Sender<Option<Arc<Snapshot>>>,
    }

    fn case() -> Case {
        let (observe, _) = Observe::new("ml/web".parse().unwrap(), Box::new(std::io::sink()));
        let (latest, watched) = watch::channel(None);
        let admin = Admin {
            observe,
            credentials: Arc::default(),
            latest: watched,
            drain: Drain::default(),
            limits: Limits::default(),
        };
        Case { admin, latest }
    }

    async fn ask(admin: &Admin, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        let (parts, body) = admin.answer(&request).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_is_said_when_everything_needed_is_there() {
        let case = case();
        let ready = async || ask(&case.admin, "GET", "/ready").await;
        assert_eq!(ready().await, (503, "no configuration yet\n".to_owned()));
        case.latest.send_replace(Some(Arc::new(snapshot(1))));
        assert_eq!(ready().await.0, 200, "nothing in it needs a certificate");
        let mut inbound = snapshot(2);
        inbound.workload.ports.push(mesh_api::snapshot::InboundPort {
            name: "http".parse().unwrap(),
            listen: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:2".parse().unwrap(),
            app_protocol: "http".parse().unwrap(),
            service: None,
        });
        case.latest.send_replace(Some(Arc::new(inbound)));
        assert_eq!(ready().await, (503, "no certificate that holds\n".to_owned()));
        let credentials = Authority::new().credentials("spiffe://mesh.local/ns/ml/sa/web");
        case.admin.credentials.store(Some(Arc::new(credentials)));
        assert_eq!(ready().await.0, 200);
        assert_eq!(ask(&case.admin, "POST", "/drain").await.0, 202);
        assert_eq!(ready().await, (503, "draining\n".to_owned()));
        assert_eq!(ask(&case.admin, "GET", "/live").await.0, 200);
    }

    #[tokio::test]
    async fn each_path_has_its_method_and_unknown_ones_list_them() {
        let case = case();
        for (method, path, status) in [
            ("GET", "/metrics", 200),
            ("GET", "/table", 200),
            ("GET", "/table?x=1", 200),
            ("GET", "/certificates", 200),
            ("GET", "/limits", 200),
            ("POST", "/metrics", 405),
            ("GET", "/drain", 405),
            ("DELETE", "/table", 405),
            ("GET", "/", 404),
            ("GET", "/metrics/", 404),
            ("GET", "//metrics", 404),
        ] {
            assert_eq!(ask(&case.admin, method, path).await.0, status, "{method} {path}");
        }
        assert!(
            ask(&case.admin, "GET", "/nothing")
                .await
                .1
                .contains("GET /metrics")
        );
        assert!(!case.admin.drain.is_started());
    }

    #[tokio::test]
    async fn a_web_page_can_t_drain() {
        let case = case();
        let request = Request::builder()
            .method("POST")
            .uri("/drain")
            .header("origin", "http://evil")
            .body(())
            .unwrap();
        assert_eq!(case.admin.answer(&request).status(), 403);
        assert!(!case.admin.drain.is_started());
    }

    #[tokio::test]
    async fn table_and_certificates_are_json_without_secrets() {
        let case = case();
        case.latest.send_replace(Some(Arc::new(snapshot(7))));
        let credentials = Authority::new().credentials("spiffe://mesh.local/ns/ml/sa/web");
        case.admin.credentials.store(Some(Arc::new(credentials)));
        let table: serde_json::Value =
            serde_json::from_str(&ask(&case.admin, "GET", "/table").await.1).unwrap();
        assert_eq!(table["version"], 7);
        assert_eq!(
            table["snapshot"]["services"]["ml/fraud"]["hosts"][0],
            "fraud.example"
        );
        let text = ask(&case.admin, "GET", "/certificates").await.1;
        let certificates: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            certificates["certificate"]["identity"],
            "spiffe://mesh.local/ns/ml/sa/web"
        );
        assert!(!text.contains("PRIVATE"));
    }

    #[tokio::test]
    async fn limits_are_told_as_they_are_in_effect() {
        let text = ask(&case().admin, "GET", "/limits").await.1;
        let limits: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(limits["headTimeout"], "10s");
        assert_eq!(limits["maxHeadBytes"], 65536);
        assert!(limits["memoryLimit"].as_u64().unwrap() > 32 << 20);
    }

    #[tokio::test]
    async fn it_answers_on_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(case().admin)));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("live\n"),
            "{answer}"
        );
    }
}
