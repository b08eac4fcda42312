//! What the control plane counts of itself, and how it tells: names and labels of all its metrics, in Prometheus' text
//! format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// All counters.
#[derive(Debug, Default)]
pub struct Metrics {
    issued: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    webhooks: [[AtomicU64; Outcome::ALL.len()]; Webhook::ALL.len()],
    lease: AtomicBool,
    root_rejected: AtomicBool,
    published: AtomicI64,
    watch_errors: Mutex<BTreeMap<&'static str, u64>>,
}

/// Declares words that label a metric: an enum, all its values, and how each is written.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// As labels and logs write it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words!(
    /// Why a certificate is refused.
    Reason {
        /// There is no token.
        NoToken = "no-token",
        /// A join token where service accounts' are taken, or the other way round.
        OtherProof = "other-proof",
        /// The token is too long.
        Oversized = "oversized",
        /// It is no token.
        Malformed = "malformed",
        /// It is for somebody else than the control plane.
        Audience = "audience",
        /// It has ended.
        Expired = "expired",
        /// The API server, or the list of join tokens, does not know it.
        Invalid = "invalid",
        /// It is not bound to a pod.
        Unbound = "unbound",
        /// It is another pod's.
        OtherPod = "other-pod",
        /// It is of another namespace.
        OtherNamespace = "other-namespace",
        /// The pod is not there any more.
        PodGone = "pod-gone",
        /// The workload is not known, or its account can't be an identity.
        Name = "name",
        /// The request asks for something else than the identity proved.
        Request = "request",
        /// Too many ask at once.
        Busy = "busy",
        /// Nobody can tell now.
        Unavailable = "unavailable",
    }
);

words!(
    /// A webhook of ours.
    Webhook {
        /// Checks objects of the mesh.
        Validate = "validate",
        /// Adds the sidecar to pods.
        Inject = "inject",
    }
);

words!(
    /// How a webhook answered.
    Outcome {
        /// The object is good.
        Allowed = "allowed",
        /// The object is refused.
        Denied = "denied",
        /// The object is changed.
        Patched = "patched",
        /// The request could not be read, was too large or took too long.
        Failed = "failed",
    }
);

/// What is measured when it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Proxies that follow.
    pub proxies: usize,
    /// The version last published.
    pub version: u64,
    /// When the root that signs ends, in seconds since 1970.
    pub root_expiry: i64,
    /// How many roots are trusted.
    pub roots: usize,
}

impl Metrics {
    /// A certificate was issued.
    pub fn issued(&self) {
        self.issued.fetch_add(1, Relaxed);
    }

    /// A certificate was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }

    /// How often certificates were refused for a reason.
    pub fn refusals(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }

    /// A webhook answered.
    pub fn webhook(&self, webhook: Webhook, outcome: Outcome) {
        self.webhooks[webhook as usize][outcome as usize].fetch_add(1, Relaxed);
    }

    /// Whether this replica holds the Lease.
    pub fn lease(&self, held: bool) {
        self.lease.store(held, Relaxed);
    }

    /// Whether the Secret with the root can't be used as it is.
    pub fn root_rejected(&self, rejected: bool) {
        self.root_rejected.store(rejected, Relaxed);
    }

    /// When a version was published, in seconds since 1970.
    pub fn published(&self, now: i64) {
        self.published.store(now, Relaxed);
    }

    /// A watch of a kind of objects failed; it is begun again.
    pub fn watch_failed(&self, kind: &'static str) {
        let mut errors = self.watch_errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(kind).or_default() += 1;
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self, measured: Measured) -> String {
        let mut page = Page::default();
        page.one(
            "mesh_control_proxies",
            "gauge",
            "Proxies that follow this replica",
            measured.proxies,
        );
        page.one(
            "mesh_control_config_version",
            "gauge",
            "The version last published",
            measured.version,
        );
        page.one(
            "mesh_control_config_published_timestamp_seconds",
            "gauge",
            "When it was published",
            self.published.load(Relaxed),
        );
        page.one(
            "mesh_control_lease_held",
            "gauge",
            "1: this replica writes for all",
            u8::from(self.lease.load(Relaxed)),
        );
        page.one(
            "mesh_control_root_expiry_timestamp_seconds",
            "gauge",
            "When the root that signs ends",
            measured.root_expiry,
        );
        page.one(
            "mesh_control_roots",
            "gauge",
            "Roots that are trusted",
            measured.roots,
        );
        page.one(
            "mesh_control_root_rejected",
            "gauge",
            "1: the Secret with the root can't be used, and the one before still is",
            u8::from(self.root_rejected.load(Relaxed)),
        );
        page.one(
            "mesh_control_certificates_issued_total",
            "counter",
            "Certificates issued to proxies",
            self.issued.load(Relaxed),
        );
        page.head(
            "mesh_control_certificates_refused_total",
            "counter",
            "Certificates refused to proxies",
        );
        for reason in Reason::ALL {
            let labels = format!("reason=\"{}\"", reason.as_str());
            page.value(&labels, self.refusals(reason));
        }
        page.head(
            "mesh_control_webhook_requests_total",
            "counter",
            "Requests of the API server",
        );
        for webhook in Webhook::ALL {
            for outcome in Outcome::ALL {
                let labels = format!(
                    "webhook=\"{}\",outcome=\"{}\"",
                    webhook.as_str(),
                    outcome.as_str()
                );
                page.value(
                    &labels,
                    self.webhooks[webhook as usize][outcome as usize].load(Relaxed),
                );
            }
        }
        page.head(
            "mesh_control_watch_errors_total",
            "counter",
            "Watches that failed",
        );
        for (kind, errors) in self
            .watch_errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            page.value(&format!("kind=\"{kind}\""), errors);
        }
        process(&mut page);
        page.text
    }
}

/// The process' own figures, where the system has them: those every Prometheus client tells, by the same names.
fn process(page: &mut Page) {
    let pages = rustix::param::page_size() as u64;
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    if let Some(resident) = resident {
        page.one(
            "process_resident_memory_bytes",
            "gauge",
            "Memory in use",
            resident * pages,
        );
    }
    // Fields 14 and 15 (proc(5)), counted from behind the name, which may hold anything but ends in the last bracket.
    let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| {
        let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    if let Some(ticks) = ticks {
        page.one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time used",
            ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        );
    }
}

/// A page in Prometheus' text format.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn head(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, labels: &str, value: impl std::fmt::Display) {
        let name = self.name;
        let _ = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.value("", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_under_its_name() {
        let metrics = Metrics::default();
        metrics.issued();
        metrics.refused(Reason::Audience);
        metrics.refused(Reason::Audience);
        metrics.webhook(Webhook::Inject, Outcome::Patched);
        metrics.lease(true);
        metrics.watch_failed("pods");
        let text = metrics.text(Measured {
            proxies: 3,
            version: 812,
            ..Measured::default()
        });
        for line in [
            "mesh_control_proxies 3",
            "mesh_control_config_version 812",
            "mesh_control_lease_held 1",
            "mesh_control_certificates_issued_total 1",
            "mesh_control_certificates_refused_total{reason=\"audience\"} 2",
            "mesh_control_certificates_refused_total{reason=\"expired\"} 0",
            "mesh_control_webhook_requests_total{webhook=\"inject\",outcome=\"patched\"} 1",
            "mesh_control_watch_errors_total{kind=\"pods\"} 1",
            "# TYPE process_resident_memory_bytes gauge",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing of\n{text}");
        }
    }
}
