//! Every metric the proxy exposes: its name, kind and meaning; and every label's name. Nothing else spells them.

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts durations, in seconds, in the buckets of `mesh_api::telemetry::BOUNDS`.
    Histogram,
}

impl Kind {
    /// The exposition format's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric: name, kind, help.
pub type Described = (&'static str, Kind, &'static str);

/// Requests by outcome.
pub const REQUESTS: Described = (
    "mesh_requests_total",
    Kind::Counter,
    "Requests that ended, by code (HTTP status or gRPC status name) and reason (why the mesh failed it).",
);
/// Time to the last byte.
pub const DURATION: Described = (
    "mesh_request_duration_seconds",
    Kind::Histogram,
    "Time from a request's head to the end of its response.",
);
/// Time to the first byte of the response's body: of a generation, to its first token.
pub const FIRST_BYTE: Described = (
    "mesh_first_byte_seconds",
    Kind::Histogram,
    "Time from a request's head to the first byte of its response's body, or to the end of one without a body.",
);
/// Bytes of request bodies.
pub const REQUEST_BYTES: Described = (
    "mesh_request_bytes_total",
    Kind::Counter,
    "Bytes of request bodies.",
);
/// Bytes of response bodies.
pub const RESPONSE_BYTES: Described = (
    "mesh_response_bytes_total",
    Kind::Counter,
    "Bytes of response bodies.",
);
/// Open requests.
pub const IN_FLIGHT: Described = (
    "mesh_in_flight",
    Kind::Gauge,
    "Requests between their head and the end of their response.",
);
/// Retries.
pub const RETRIES: Described = (
    "mesh_retries_total",
    Kind::Counter,
    "Attempts beyond a request's first.",
);
/// Connections accepted (inbound, outbound) so far.
pub const CONNECTIONS: Described = ("mesh_connections_total", Kind::Counter, "Connections accepted.");
/// Connections accepted and open.
pub const CONNECTIONS_OPEN: Described = (
    "mesh_connections_open",
    Kind::Gauge,
    "Connections accepted and not yet closed.",
);
/// Connections open and at rest.
pub const CONNECTIONS_RESTING: Described = (
    "mesh_connections_resting",
    Kind::Gauge,
    "HTTP/1 connections that have been idle for some seconds and hold no buffers until their next request.",
);
/// Connections refused or closed because of a limit.
pub const CUT: Described = (
    "mesh_connections_cut_total",
    Kind::Counter,
    "Connections refused or closed, and streams reset, because a peer went beyond a limit or broke the protocol, by reason.",
);
/// TLS handshakes by result.
pub const HANDSHAKES: Described = (
    "mesh_tls_handshakes_total",
    Kind::Counter,
    "TLS handshakes between sidecars, by result.",
);
/// Connections led here.
pub const INTERCEPTED: Described = (
    "mesh_intercepted_connections_total",
    Kind::Counter,
    "Connections that were led to the proxy, by what came of them: to a service, endpoint, server-name, authority or the workload, passed-through, or refused as not-intercepted, unresolved, too-many-services, or for an undeclared-port.",
);
/// The configuration served.
pub const CONFIG_VERSION: Described = (
    "mesh_config_version",
    Kind::Gauge,
    "Version of the configuration being served; 0: none.",
);
/// Configurations refused.
pub const CONFIG_REFUSED: Described = (
    "mesh_config_refused_total",
    Kind::Counter,
    "Configurations from the control plane that were refused; the one before went on being served.",
);
/// Services kept on demand.
pub const ON_DEMAND: Described = (
    "mesh_on_demand_services",
    Kind::Gauge,
    "Services that are kept for having been called, where they are had on demand; 0 elsewhere.",
);
/// When the certificate ends.
pub const CERTIFICATE_EXPIRY: Described = (
    "mesh_certificate_expiry_seconds",
    Kind::Gauge,
    "When the proxy's certificate ends, in seconds since 1970; 0: it has none.",
);
/// Certificates obtained.
pub const CERTIFICATES: Described = (
    "mesh_certificates_total",
    Kind::Counter,
    "Attempts to obtain a certificate, by result.",
);
/// Whether the control plane is there.
pub const CONTROL_CONNECTED: Described = (
    "mesh_control_connected",
    Kind::Gauge,
    "1 while the configuration stream is open, else 0.",
);
/// Access-log lines lost.
pub const LOG_DROPPED: Described = (
    "mesh_log_dropped_total",
    Kind::Counter,
    "Access-log lines dropped because standard output was too slow.",
);
/// Spans lost.
pub const SPANS_DROPPED: Described = (
    "mesh_spans_dropped_total",
    Kind::Counter,
    "Spans dropped because the collector was away or too slow.",
);
/// CPU time.
pub const PROCESS_CPU: Described = (
    "process_cpu_seconds_total",
    Kind::Counter,
    "User and system CPU time.",
);
/// Memory.
pub const PROCESS_RESIDENT: Described = ("process_resident_memory_bytes", Kind::Gauge, "Resident memory.");
/// Descriptors.
pub const PROCESS_FDS: Described = ("process_open_fds", Kind::Gauge, "Open file descriptors.");
/// Start.
pub const PROCESS_START: Described = (
    "process_start_time_seconds",
    Kind::Gauge,
    "When the process started, in seconds since 1970.",
);
/// Software.
pub const BUILD: Described = (
    "mesh_build",
    Kind::Gauge,
    "1, with the software's version as label.",
);

/// Everything above, in the order of exposition.
pub const ALL: [Described; 26] = [
    REQUESTS,
    DURATION,
    FIRST_BYTE,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    IN_FLIGHT,
    RETRIES,
    CONNECTIONS,
    CONNECTIONS_OPEN,
    CONNECTIONS_RESTING,
    CUT,
    HANDSHAKES,
    INTERCEPTED,
    CONFIG_VERSION,
    CONFIG_REFUSED,
    ON_DEMAND,
    CERTIFICATE_EXPIRY,
    CERTIFICATES,
    CONTROL_CONNECTED,
    LOG_DROPPED,
    SPANS_DROPPED,
    PROCESS_CPU,
    PROCESS_RESIDENT,
    PROCESS_FDS,
    PROCESS_START,
    BUILD,
];

/// `inbound` or `outbound`.
pub const DIRECTION: &str = "direction";
/// Who calls: the peer's identity inbound, the proxy's own workload outbound.
pub const SOURCE: &str = "source";
/// The service called.
pub const SERVICE: &str = "service";
/// The rule that matched.
pub const RULE: &str = "rule";
/// The backend the rule's split gave.
pub const BACKEND: &str = "backend";
/// The model asked for.
pub const MODEL: &str = "model";
/// The model's version asked for.
pub const VERSION: &str = "version";
/// What is asked of the model.
pub const OPERATION: &str = "operation";
/// HTTP status or gRPC status name.
pub const CODE: &str = "code";
/// Why the mesh failed a request; empty: it did not.
pub const REASON: &str = "reason";
/// What came of it.
pub const RESULT: &str = "result";

/// Stands for values beyond a label's bound.
pub const OTHER: &str = "other";
