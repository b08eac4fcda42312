use std::io;
use std::sync::Mutex;

use http::HeaderValue;
use mesh_api::inference::Operation;
use mesh_api::snapshot::Tracing;

use super::super::series::{Labels, Totals};
use super::super::spans::FinishedSpan;
use super::super::{Observe, Settings};
use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Case {
    observe: Arc<Observe>,
    worker: Rc<WorkerObserve>,
    log: Kept,
    spans: tokio::sync::mpsc::Receiver<FinishedSpan>,
}

fn case(access_log_percent: Option<f64>, tracing_percent: Option<f64>) -> Case {
    let log = Kept::default();
    let (observe, spans) = Observe::new("ml/web".parse().unwrap(), Box::new(log.clone()));
    observe.configure(Settings {
        access_log_percent,
        tracing: tracing_percent.map(|percent| Tracing {
            endpoint: "http://127.0.0.1:4317".to_owned(),
            percent,
        }),
    });
    let worker = observe.worker();
    Case {
        observe,
        worker,
        log,
        spans,
    }
}

fn fraud() -> SeriesKeyRef<'static> {
    SeriesKeyRef {
        service: "ml/fraud",
        rule: "all",
        backend: "canary",
        model: "fraud",
        version: "2",
        operation: Some(Operation::Infer),
        ..SeriesKeyRef::unrouted(Direction::Outbound)
    }
}

impl Case {
    fn open(&self) -> Record {
        Record::open(&self.worker, Direction::Outbound)
    }

    fn totals(&self) -> Vec<(Labels, Totals)> {
        let mut all = self.observe.series().read();
        all.retain(|(_, totals)| totals.requests() > 0 || totals.in_flight != 0);
        all
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        self.observe.close();
        let text = String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn a_request_counts_once_where_it_was_routed() {
    let case = case(None, None);
    let mut record = case.open();
    assert_eq!(case.totals()[0].1.in_flight, 1);
    record.request(&Method::POST, "/v2/models/fraud/infer", Some("fraud.ml"));
    record.route(fraud());
    let all = case.totals();
    assert_eq!(
        (all.len(), &*all[0].0.service, all[0].1.in_flight),
        (1, "ml/fraud", 1)
    );
    record.request_bytes(3);
    record.request_bytes(4);
    record.status(StatusCode::OK);
    record.first_byte();
    record.response_bytes(11);
    record.retried();
    drop(record);
    let all = case.totals();
    let totals = &all[0].1;
    assert_eq!(all.len(), 1);
    assert_eq!(totals.outcomes, [(Code::Http(200), "", 1)]);
    assert_eq!((totals.in_flight, totals.failures, totals.retries), (0, 0, 1));
    assert_eq!((totals.request_bytes, totals.response_bytes), (7, 11));
    assert_eq!(totals.latency.buckets.iter().sum::<u64>(), 1);
    assert_eq!(totals.first_byte.buckets.iter().sum::<u64>(), 1);
}

#[test]
fn a_request_that_is_dropped_anywhere_is_counted() {
    let case = case(None, None);
    drop(case.open());
    let (labels, totals) = &case.totals()[0];
    assert_eq!(
        (&*labels.service, totals.failures),
        ("", 0),
        "unrouted, unanswered"
    );
    assert_eq!(totals.outcomes, [(Code::None, CLIENT_LEFT, 1)]);
}

#[test]
fn a_request_that_the_end_of_the_proxy_cuts_off_has_failed() {
    let case = case(Some(0.0), None);
    let open = || {
        let mut record = case.open();
        record.request(&Method::GET, "/", None);
        record
    };
    let (unanswered, mut answered, mut opaque, mut refused) = (open(), open(), open(), open());
    answered.status(StatusCode::OK);
    opaque.opaque();
    refused.status(StatusCode::FORBIDDEN);
    refused.fail("denied", None);
    case.worker.end();
    answered.cancelled();
    drop((unanswered, answered, opaque, refused));
    let (_, totals) = &case.totals()[0];
    assert_eq!(
        totals.outcomes,
        [
            (Code::None, DRAIN_LIMIT, 1),
            (Code::Http(200), DRAIN_LIMIT, 1),
            (Code::Http(403), "denied", 1),
            (Code::Tcp, DRAIN_LIMIT, 1),
        ]
    );
    assert_eq!(totals.failures, 3);
    assert_eq!(case.lines().len(), 3, "failures are logged");
}

#[test]
fn what_is_a_failure() {
    type Steps = fn(&mut Record);
    let cases: [(&str, Steps, bool, &str, &str); 14] = [
        ("ok", |r| r.status(StatusCode::OK), false, "200", ""),
        ("not found", |r| r.status(StatusCode::NOT_FOUND), false, "404", ""),
        (
            "server error",
            |r| r.status(StatusCode::INTERNAL_SERVER_ERROR),
            true,
            "500",
            "",
        ),
        (
            "refused by the mesh",
            |r| {
                r.status(StatusCode::NOT_FOUND);
                r.fail("no-route", None);
            },
            false,
            "404",
            "no-route",
        ),
        (
            "failed by the mesh",
            |r| {
                r.status(StatusCode::BAD_GATEWAY);
                r.fail("connect", None);
            },
            true,
            "502",
            "connect",
        ),
        (
            "broken stream",
            |r| {
                r.status(StatusCode::OK);
                r.fail("reset", None);
            },
            true,
            "200",
            "reset",
        ),
        (
            "grpc ok",
            |r| {
                r.status(StatusCode::OK);
                r.grpc_status(0);
            },
            false,
            "OK",
            "",
        ),
        (
            "grpc caller's fault",
            |r| {
                r.status(StatusCode::OK);
                r.grpc_status(3);
            },
            false,
            "INVALID_ARGUMENT",
            "",
        ),
        (
            "grpc server's fault",
            |r| {
                r.status(StatusCode::OK);
                r.grpc_status(14);
            },
            true,
            "UNAVAILABLE",
            "",
        ),
        (
            "grpc no such method",
            |r| {
                r.status(StatusCode::OK);
                r.grpc_status(12);
            },
            false,
            "UNIMPLEMENTED",
            "",
        ),
        ("left before an answer", |_| {}, false, "", CLIENT_LEFT),
        (
            "refused",
            |r| r.fail("peer-refused", None),
            true,
            "",
            "peer-refused",
        ),
        (
            "left in a stream",
            |r| {
                r.status(StatusCode::OK);
                r.cancelled();
            },
            false,
            "200",
            CLIENT_LEFT,
        ),
        (
            "its own request broke off in a stream",
            |r| {
                r.status(StatusCode::OK);
                r.fail("client-aborted", None);
                r.cancelled();
            },
            false,
            "200",
            "client-aborted",
        ),
    ];
    for (what, steps, failed, code, reason) in cases {
        let case = case(None, None);
        let mut record = case.open();
        record.route(fraud());
        steps(&mut record);
        assert_eq!(record.is_failure(), failed, "{what}");
        drop(record);
        let all = case.totals();
        let (of, why, count) = all[0].1.outcomes[0];
        assert_eq!((of.to_string().as_str(), why, count), (code, reason, 1), "{what}");
        assert_eq!(all[0].1.failures, u64::from(failed), "{what}");
    }
}

#[test]
fn a_line_says_what_is_known_and_nothing_else() {
    let case = case(Some(100.0), None);
    let mut record = case.open();
    record.request(&Method::POST, "/v2/\"q\"\n?secret=1", Some("fraud.ml:8080"));
    record.route(fraud());
    record.peer(&"spiffe://mesh.local/ns/ml/sa/triton".parse().unwrap());
    record.endpoint("127.0.0.1:9000".parse().unwrap());
    record.status(StatusCode::BAD_GATEWAY);
    record.fail("connect", Some("Service ml/fraud-v2".into()));
    drop(record);
    let lines = case.lines();
    let line = &lines[0];
    for (key, value) in [
        ("mesh.direction", "outbound"),
        ("http.request.method", "POST"),
        ("url.path", "/v2/\"q\"\n"),
        ("server.address", "fraud.ml:8080"),
        ("mesh.service", "ml/fraud"),
        ("mesh.rule", "all"),
        ("mesh.backend", "canary"),
        ("mesh.model", "fraud"),
        ("mesh.model_version", "2"),
        ("mesh.operation", "infer"),
        ("mesh.reason", "connect"),
        ("mesh.object", "Service ml/fraud-v2"),
        ("mesh.peer", "spiffe://mesh.local/ns/ml/sa/triton"),
        ("network.peer.address", "127.0.0.1:9000"),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert_eq!(line["http.response.status_code"], 502);
    assert!(line["duration_seconds"].as_f64().unwrap() >= 0.0);
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    for absent in [
        "trace_id",
        "rpc.grpc.status_code",
        "mesh.caller",
        "first_byte_seconds",
        "mesh.retries",
    ] {
        assert!(line.get(absent).is_none(), "{absent}");
    }
    assert!(!line.to_string().contains("secret"));
}

#[test]
fn failures_are_logged_always_and_others_by_percentage() {
    let case = case(Some(0.0), None);
    for status in [StatusCode::OK, StatusCode::BAD_GATEWAY, StatusCode::NOT_FOUND] {
        case.open().status(status);
        let mut record = case.open();
        record.request(&Method::GET, "/", None);
        record.status(status);
    }
    let statuses: Vec<_> = case
        .lines()
        .iter()
        .map(|line| line["http.response.status_code"].clone())
        .collect();
    assert_eq!(statuses, [502]);
}

#[test]
fn details_of_one_request_are_not_in_the_next_one_s_line() {
    let case = case(Some(100.0), None);
    for path in ["/first", "/"] {
        let mut record = case.open();
        record.request(&Method::GET, path, None);
        if path == "/first" {
            record.route(fraud());
        }
        record.status(StatusCode::OK);
    }
    let lines = case.lines();
    assert_eq!(
        (lines[1]["url.path"].as_str(), lines[1].get("mesh.model")),
        (Some("/"), None)
    );
}

#[test]
fn spans_continue_the_caller_s_trace() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut case = case(Some(100.0), Some(0.0));
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, HeaderValue::from_static(PARENT));
    headers.insert("tracestate", HeaderValue::from_static("a=b"));
    let mut record = case.open();
    record.trace(&mut headers);
    record.request(&Method::POST, "/", None);
    record.route(fraud());
    record.status(StatusCode::OK);
    drop(record);
    let sent = headers[TRACEPARENT].to_str().unwrap();
    assert_eq!((&sent[..36], &sent[52..]), (&PARENT[..36], "-01"));
    assert_ne!(&sent[36..52], &PARENT[36..52]);
    assert_eq!(headers["tracestate"], "a=b");
    let span: opentelemetry_sdk::trace::SpanData = case.spans.try_recv().unwrap().into();
    assert_eq!(span.name, "infer ml/fraud");
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(span.span_context.span_id().to_string(), &sent[36..52]);
    assert_eq!(case.lines()[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn headers_stay_as_they_are_when_nothing_is_sampled() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    for tracing in [None, Some(100.0)] {
        let mut case = case(None, tracing);
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(PARENT));
        let mut record = case.open();
        record.trace(&mut headers);
        drop(record);
        assert_eq!(headers[TRACEPARENT], PARENT);
        assert!(case.spans.try_recv().is_err());
    }
    let case = case(None, None);
    let mut headers = HeaderMap::new();
    case.open().trace(&mut headers);
    assert!(headers.is_empty(), "tracing is off");
}

#[test]
fn a_change_of_settings_holds_for_the_next_request() {
    let case = case(None, None);
    case.open().status(StatusCode::OK);
    case.observe.configure(Settings {
        access_log_percent: Some(100.0),
        tracing: None,
    });
    let mut record = case.open();
    record.request(&Method::GET, "/logged", None);
    drop(record);
    assert_eq!(case.lines().len(), 1);
}

#[test]
fn long_texts_are_cut_at_a_letter() {
    let mut text = String::new();
    set(&mut text, &"ü".repeat(MAX_TEXT));
    assert_eq!(text.len(), MAX_TEXT);
    set(&mut text, &format!("a{}", "ü".repeat(MAX_TEXT)));
    assert_eq!(text.len(), MAX_TEXT - 1);
}
