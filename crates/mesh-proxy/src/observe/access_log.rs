//! The access log: one JSON line a request, with OpenTelemetry's attribute names where it has some.
//!
//! Lines are built on the worker and written by a thread of their own. When that falls behind, lines are dropped and
//! counted; requests never wait for a log.

use std::io::{BufWriter, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::code::Code;
use super::record::Closed;

/// How many lines may wait for the writer.
const WAITING: usize = 4_096;

/// The way to the writer.
pub struct AccessLog {
    lines: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Line(Vec<u8>),
    End,
}

impl AccessLog {
    /// Starts the writer.
    pub(super) fn start(out: Box<dyn Write + Send>) -> Self {
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&waiting, out));
        Self {
            lines,
            writer: Mutex::new(writer.ok()),
        }
    }

    /// Sends a request's line on its way; false: it was dropped.
    pub(super) fn write(&self, closed: &Closed<'_>) -> bool {
        self.lines.try_send(Message::Line(line(closed))).is_ok()
    }

    /// Ends the writer once all lines before are written.
    pub(super) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && self.lines.send(Message::End).is_ok()
        {
            let _ = writer.join();
        }
    }
}

fn write_all(waiting: &Receiver<Message>, out: Box<dyn Write + Send>) {
    let mut out = BufWriter::with_capacity(64 << 10, out);
    while let Ok(message) = waiting.recv() {
        let mut next = Some(message);
        // Flush when nothing waits any more, so that a quiet mesh shows its lines at once.
        while let Some(Message::Line(line)) = next {
            if out.write_all(&line).is_err() {
                return;
            }
            next = waiting.try_recv().ok();
        }
        if out.flush().is_err() || matches!(next, Some(Message::End)) {
            return;
        }
    }
}

/// A request's line, with its newline.
pub(super) fn line(closed: &Closed<'_>) -> Vec<u8> {
    let (details, finished) = (closed.details, &closed.finished);
    let mut line = Line(Vec::with_capacity(640));
    let time = details.time.map(OffsetDateTime::from);
    let time = time.and_then(|time| time.format(&Rfc3339).ok());
    line.text("timestamp", time.as_deref().unwrap_or_default());
    line.text("mesh.direction", closed.direction.as_str());
    line.text(
        "http.request.method",
        details.method.as_ref().map_or("", |method| method.as_str()),
    );
    line.text("url.path", &details.path);
    line.text("server.address", &details.authority);
    line.number(
        "http.response.status_code",
        closed.status.map(|status| status.as_u16()),
    );
    line.number("rpc.grpc.status_code", closed.grpc);
    if finished.code == Code::Tcp {
        line.text("network.transport", "tcp");
    }
    line.text("mesh.service", &details.service);
    line.text("mesh.rule", &details.rule);
    line.text("mesh.backend", &details.backend);
    line.text("mesh.model", &details.model);
    line.text("mesh.model_version", &details.version);
    line.text("mesh.operation", details.operation);
    line.text("mesh.reason", finished.reason);
    line.text("mesh.object", closed.object.unwrap_or_default());
    line.text("mesh.caller", &details.caller);
    line.text("mesh.peer", &details.peer);
    line.shown("network.peer.address", closed.endpoint);
    line.number(
        "duration_seconds",
        Some(format_args!("{:.6}", finished.latency.as_secs_f64())),
    );
    let first_byte = finished.first_byte.map(|first| first.as_secs_f64());
    line.number(
        "first_byte_seconds",
        first_byte.as_ref().map(|first| format!("{first:.6}")),
    );
    line.number("http.request.body.size", Some(finished.request_bytes));
    line.number("http.response.body.size", Some(finished.response_bytes));
    line.number(
        "mesh.retries",
        Some(finished.retries).filter(|retries| *retries > 0),
    );
    line.shown(
        "trace_id",
        closed.span.map(|span| format!("{:032x}", span.context.trace)),
    );
    line.shown(
        "span_id",
        closed.span.map(|span| format!("{:016x}", span.context.span)),
    );
    line.end()
}

/// A JSON object on one line. What is empty or unknown is left out.
struct Line(Vec<u8>);

impl Line {
    fn key(&mut self, key: &str) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        let _ = write!(self.0, "{before}\"{key}\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.key(key);
        // Escapes; writing text into memory can't fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    /// What needs no escapes.
    fn shown(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.key(key);
            let _ = write!(self.0, "\"{value}\"");
        }
    }

    fn number(&mut self, key: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.key(key);
            let _ = write!(self.0, "{value}");
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}
