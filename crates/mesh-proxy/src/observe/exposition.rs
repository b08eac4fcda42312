//! Metrics as text, in the Prometheus exposition format 0.0.4.

use std::fmt::Write;

use mesh_api::telemetry::BOUNDS;

use super::code::Code;
use super::names::{self, ALL, Described, Kind};
use super::process::{Process, unix_seconds};
use super::registry::{Counts, Value};
use super::series::{Labels, Totals};
use super::{Direction, Observe};

/// The format's media type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is counted, now.
pub fn render(observe: &Observe) -> String {
    let mut page = Page(String::with_capacity(64 << 10));
    let source = observe.workload.to_string();
    let series: Vec<_> = observe
        .series()
        .read()
        .iter()
        .map(|(labels, totals)| (label_text(&source, labels), totals.clone()))
        .collect();
    requests(&mut page, &series);
    registered(&mut page, observe);
    process(&mut page, observe);
    page.0
}

type CountsOf = fn(&Totals) -> &Counts;
type NumberOf = fn(&Totals) -> u64;

fn requests(page: &mut Page, series: &[(String, Totals)]) {
    page.head(names::REQUESTS);
    for (labels, totals) in series {
        for (code, reason, count) in &totals.outcomes {
            let labels = with_outcome(labels, *code, reason);
            page.sample(names::REQUESTS.0, &labels, count);
        }
    }
    let durations: [(Described, CountsOf); 2] = [
        (names::DURATION, |totals| &totals.latency),
        (names::FIRST_BYTE, |totals| &totals.first_byte),
    ];
    for (name, counts) in durations {
        page.head(name);
        for (labels, totals) in series {
            page.histogram(name.0, labels, counts(totals));
        }
    }
    let counters: [(Described, NumberOf); 3] = [
        (names::REQUEST_BYTES, |totals| totals.request_bytes),
        (names::RESPONSE_BYTES, |totals| totals.response_bytes),
        (names::RETRIES, |totals| totals.retries),
    ];
    for (name, count) in counters {
        page.head(name);
        for (labels, totals) in series {
            page.sample(name.0, labels, count(totals));
        }
    }
    page.head(names::IN_FLIGHT);
    for (labels, totals) in series {
        page.sample(names::IN_FLIGHT.0, labels, totals.in_flight);
    }
}

/// The metrics that are not about requests, and those of libraries.
fn registered(page: &mut Page, observe: &Observe) {
    let mut last = String::new();
    for (key, value) in observe.registry().read() {
        let name = sane(key.name());
        if name != last {
            let known = ALL.iter().find(|(known, _, _)| *known == name);
            let help = known.map(|(_, _, help)| (*help).to_owned());
            let help = help.or_else(|| observe.registry().help(key.name()));
            page.head((&name, value.kind(), &help.unwrap_or_default()));
        }
        let mut labels = String::new();
        for label in key.labels() {
            push_label(&mut labels, &sane(label.key()), label.value());
        }
        match value {
            Value::Count(count) => page.sample(&name, &labels, count),
            Value::Level(level) => page.sample(&name, &labels, level),
            Value::Counts(counts) => page.histogram(&name, &labels, &counts),
        }
        last = name;
    }
}

fn process(page: &mut Page, observe: &Observe) {
    let process = Process::read();
    page.one(names::PROCESS_CPU, process.cpu.as_secs_f64());
    page.one(names::PROCESS_RESIDENT, process.resident_bytes);
    page.one(names::PROCESS_FDS, process.open_fds);
    page.one(names::PROCESS_START, unix_seconds(observe.started()));
}

fn label_text(own: &str, labels: &Labels) -> String {
    let source = match labels.direction {
        Direction::Inbound => &*labels.peer,
        Direction::Outbound => own,
    };
    let mut text = String::with_capacity(160);
    for (name, value) in [
        (names::DIRECTION, labels.direction.as_str()),
        (names::SOURCE, source),
        (names::SERVICE, &labels.service),
        (names::RULE, &labels.rule),
        (names::BACKEND, &labels.backend),
        (names::MODEL, &labels.model),
        (names::VERSION, &labels.version),
        (names::OPERATION, labels.operation),
    ] {
        push_label(&mut text, name, value);
    }
    text
}

fn with_outcome(labels: &str, code: Code, reason: &str) -> String {
    let mut text = labels.to_owned();
    push_label(&mut text, names::CODE, &code.to_string());
    push_label(&mut text, names::REASON, reason);
    text
}

fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    let _ = write!(text, "{name}=\"");
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// A name as the format allows it, for libraries that use dots.
fn sane(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

struct Page(String);

impl Page {
    fn head(&mut self, (name, kind, help): (&str, Kind, &str)) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: Described, value: impl std::fmt::Display) {
        self.head(name);
        self.sample(name.0, "", value);
    }

    fn histogram(&mut self, name: &str, labels: &str, counts: &Counts) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut below = 0;
        for (count, bound) in counts.buckets.iter().zip(BOUNDS) {
            below += count;
            let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
        }
        let total: u64 = counts.buckets.iter().sum();
        let _ = writeln!(self.0, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
        self.sample(&format!("{name}_sum"), labels, counts.seconds);
        self.sample(&format!("{name}_count"), labels, total);
    }
}

#[cfg(test)]
mod tests;
