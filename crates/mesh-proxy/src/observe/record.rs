//! The record of one request: opened first thing, told what becomes known, and closed exactly once, on drop, wherever
//! the request ends. Closing counts it, and writes its access-log line and its span where they are wanted.
//!
//! A request that fails, in metrics and reports, is one that the server or the mesh could not answer properly: see
//! [`Record::is_failure`]. What callers do wrong (4xx, INVALID_ARGUMENT …) is no failure.

use std::fmt::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode};
use mesh_api::identity::Identity;

use super::code::Code;
use super::series::{Finished, Series};
use super::series_key::SeriesKeyRef;
use super::trace::{Span, TRACEPARENT};
use super::{Direction, WorkerObserve};

/// The reason of a request whose client left.
pub const CLIENT_LEFT: &str = "client-left";
/// The reason of a request that was still open when the proxy ended, its drain limit over.
pub const DRAIN_LIMIT: &str = "drain-limit";
/// The most bytes of a path or an authority that are logged.
const MAX_TEXT: usize = 2_048;
/// How many closed records' memory a worker keeps.
const MAX_SPARE: usize = 64;

/// One request, from its head to its end.
pub struct Record {
    worker: Rc<WorkerObserve>,
    direction: Direction,
    started: Instant,
    series: Arc<Series>,
    status: Option<StatusCode>,
    grpc: Option<u16>,
    reason: &'static str,
    object: Option<Arc<str>>,
    endpoint: Option<SocketAddr>,
    cancelled: bool,
    opaque: bool,
    retries: u32,
    request_bytes: u64,
    response_bytes: u64,
    first_byte: Option<Duration>,
    log: Option<f64>,
    span: Option<Span>,
    // Boxed, so that a record that is not logged moves few bytes.
    details: Option<Box<Details>>,
}

/// What only access log and spans need.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub time: Option<SystemTime>,
    pub method: Option<Method>,
    pub path: String,
    pub authority: String,
    pub service: String,
    pub rule: String,
    pub backend: String,
    pub model: String,
    pub version: String,
    pub operation: &'static str,
    pub caller: String,
    pub peer: String,
}

/// A closed request, as access log and spans read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed<'a> {
    pub direction: Direction,
    pub details: &'a Details,
    pub finished: Finished,
    pub status: Option<StatusCode>,
    pub grpc: Option<u16>,
    pub object: Option<&'a str>,
    pub endpoint: Option<SocketAddr>,
    pub span: Option<Span>,
}

impl Record {
    /// Opens the record of a request whose head has arrived. It counts as in flight from here on.
    pub fn open(worker: &Rc<WorkerObserve>, direction: Direction) -> Self {
        let series = Arc::clone(&worker.unrouted[direction as usize]);
        series.enter();
        let log = worker.settings.borrow_mut().load().access_log_percent;
        Self {
            worker: Rc::clone(worker),
            direction,
            started: Instant::now(),
            series,
            status: None,
            grpc: None,
            reason: "",
            object: None,
            endpoint: None,
            cancelled: false,
            opaque: false,
            retries: 0,
            request_bytes: 0,
            response_bytes: 0,
            first_byte: None,
            log,
            span: None,
            details: None,
        }
    }

    /// When it was opened.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Continues the caller's trace or begins one, when the mesh traces, and says so in the headers that go on; else
    /// leaves the headers as they are. Call it before [`Self::request`], which copies nothing for requests that are
    /// neither logged nor sampled.
    pub fn trace(&mut self, headers: &mut HeaderMap) {
        let mut settings = self.worker.settings.borrow_mut();
        let tracing = settings.load().tracing.as_ref();
        let Some(percent) = tracing.map(|tracing| tracing.percent) else {
            return;
        };
        self.span = Span::begin(headers, percent, || self.worker.random.next());
        let Some(span) = self.span else { return };
        // A caller that decided against sampling is passed on as it was: there is no span of ours to name.
        if (span.context.sampled || span.parent.is_none())
            && let Some(value) = span.context.header()
        {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// What is asked. The path has no query: queries may hold secrets.
    pub fn request(&mut self, method: &Method, path: &str, authority: Option<&str>) {
        let Some(details) = self.details() else { return };
        details.method = Some(method.clone());
        set(&mut details.path, path.split('?').next().unwrap_or_default());
        set(&mut details.authority, authority.unwrap_or_default());
    }

    /// It is no request but a connection of opaque bytes, recorded as one.
    pub fn opaque(&mut self) {
        self.opaque = true;
    }

    /// The server that is asked for, where no request says it.
    pub fn authority(&mut self, name: &str) {
        let Some(details) = self.details() else { return };
        set(&mut details.authority, name);
    }

    /// Which path the request takes: from here on it counts there.
    pub fn route(&mut self, key: SeriesKeyRef<'_>) {
        let series = self.worker.series.get(&key);
        self.series.leave();
        series.enter();
        self.series = series;
        let Some(details) = self.details() else { return };
        set(&mut details.service, key.service);
        set(&mut details.rule, key.rule);
        set(&mut details.backend, key.backend);
        set(&mut details.model, key.model);
        set(&mut details.version, key.version);
        details.operation = key.operation.map_or("", mesh_api::inference::Operation::as_str);
        details.caller.clear();
        if let Some(caller) = key.peer {
            let _ = write!(details.caller, "{caller}");
        }
    }

    /// Who is at the other end of the connection: the caller inbound, the endpoint outbound.
    pub fn peer(&mut self, identity: &Identity) {
        let Some(details) = self.details() else { return };
        details.peer.clear();
        let _ = write!(details.peer, "{identity}");
    }

    /// Where it is sent; of several attempts, the last.
    pub fn endpoint(&mut self, address: SocketAddr) {
        self.endpoint = Some(address);
    }

    /// It is sent once more.
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// So many more bytes of the request's body went through.
    pub fn request_bytes(&mut self, more: u64) {
        self.request_bytes += more;
    }

    /// So many more bytes of the response's body went through.
    pub fn response_bytes(&mut self, more: u64) {
        self.response_bytes += more;
    }

    /// The first byte of the response's body is there, or the end of a response without a body; later calls change nothing.
    pub fn first_byte(&mut self) {
        if self.first_byte.is_none() {
            self.first_byte = Some(self.started.elapsed());
        }
    }

    /// What the caller is answered.
    pub fn status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// How a gRPC call ended, from trailers or headers.
    pub fn grpc_status(&mut self, status: u16) {
        self.grpc = Some(status);
    }

    /// The mesh failed the request, for this reason and because of this object.
    pub fn fail(&mut self, reason: &'static str, object: Option<Arc<str>>) {
        self.reason = reason;
        self.object = object;
    }

    /// The client ended it after its answer had begun: it left, or its own request went wrong.
    pub fn cancelled(&mut self) {
        self.cancelled = true;
    }

    /// Whether the request counts as failed, if it ended now: a code that says the server is at fault
    /// ([`Code::is_server_fault`]), or a response that the mesh refused or broke off, but not because of its client.
    pub fn is_failure(&self) -> bool {
        match self.code() {
            // A stream that broke has no status of its own to tell.
            Code::None | Code::Tcp | Code::Http(..400) | Code::Grpc(0) => {
                !self.reason.is_empty() && !self.cancelled
            }
            code @ (Code::Http(_) | Code::Grpc(_)) => code.is_server_fault(),
        }
    }

    fn code(&self) -> Code {
        match (self.grpc, self.status) {
            (Some(status), _) => Code::Grpc(status),
            (None, Some(status)) => Code::Http(status.as_u16()),
            (None, None) if self.opaque => Code::Tcp,
            (None, None) => Code::None,
        }
    }

    /// Where to keep what only log and span need, if one of the two is wanted.
    fn details(&mut self) -> Option<&mut Details> {
        if self.details.is_none() && (self.log.is_some() || self.sampled()) {
            let mut details = self.worker.spare.borrow_mut().pop().unwrap_or_default();
            details.time = Some(SystemTime::now());
            self.details = Some(details);
        }
        self.details.as_deref_mut()
    }

    fn sampled(&self) -> bool {
        self.span.is_some_and(|span| span.context.sampled)
    }

    fn finished(&self) -> Finished {
        let code = self.code();
        let cut_off = self.reason.is_empty() && self.worker.ends.get();
        // A request is let go of before its answer when nobody waits for one any more.
        let left = self.reason.is_empty() && (self.cancelled || code == Code::None);
        Finished {
            code,
            reason: match (cut_off, left) {
                (true, _) => DRAIN_LIMIT,
                (false, true) => CLIENT_LEFT,
                (false, false) => self.reason,
            },
            failed: cut_off || self.is_failure(),
            retries: self.retries,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            latency: self.started.elapsed(),
            first_byte: self.first_byte,
        }
    }

    fn tell(&self, details: &Details, finished: Finished) {
        let closed = Closed {
            direction: self.direction,
            details,
            finished,
            status: self.status,
            grpc: self.grpc,
            object: self.object.as_deref(),
            endpoint: self.endpoint,
            span: self.span,
        };
        let shared = &self.worker.shared;
        if let Some(percent) = self.log
            && (finished.failed || self.worker.random.among(percent))
            && !shared.access_log.write(&closed)
        {
            shared.handles.log_dropped.increment(1);
        }
        if self.sampled() && !shared.spans.send(&closed) {
            shared.handles.spans_dropped.increment(1);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let finished = self.finished();
        self.series.leave();
        self.series.finish(&finished);
        let Some(mut details) = self.details.take() else {
            return;
        };
        self.tell(&details, finished);
        let mut spare = self.worker.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            details.clear();
            spare.push(details);
        }
    }
}

impl Details {
    /// Empties it, keeping its memory.
    fn clear(&mut self) {
        self.time = None;
        self.method = None;
        self.operation = "";
        for text in [
            &mut self.path,
            &mut self.authority,
            &mut self.service,
            &mut self.rule,
            &mut self.backend,
            &mut self.model,
            &mut self.version,
            &mut self.caller,
            &mut self.peer,
        ] {
            text.clear();
        }
    }
}

/// Sets a text, within its bound.
fn set(text: &mut String, value: &str) {
    text.clear();
    let mut end = value.len().min(MAX_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    text.push_str(&value[..end]);
}

#[cfg(test)]
mod tests;
