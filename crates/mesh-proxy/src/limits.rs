//! Every limit that keeps one peer from holding more than its share: flags of `mesh-proxy`, told by `GET /limits`, and
//! described in docs/limits.md with what happens beyond each. Ages are looked at once a second: a limit of time holds
//! at least that long, and at most two seconds longer.

use clap::Args;
use mesh_api::duration::Duration;
use serde::Serialize;

/// How much of a response waits in a stream of HTTP/2 for its client, in bytes; and one piece as the server sent it.
pub(crate) const SEND_BUFFER: usize = 64 << 10;
/// Descriptors that are kept for what is not a connection: listeners, control plane, admin, files.
const RESERVED_DESCRIPTORS: u64 = 128;
/// How much of the memory that there is the proxy takes at most, in hundredths, where no flag says.
const MEMORY_SHARE: u64 = 80;

/// The limits of a proxy.
#[derive(Args, Clone, Debug, PartialEq, Serialize)]
#[command(next_help_heading = "Limits")]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The most bytes of a head, of a request or a response, and of trailers; 8192 to 1048576
    // Peers: nginx 4 × 8 KiB, Envoy 60 KiB, HAProxy 16 KiB. Cookies and tokens of identity providers pass 16 KiB.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_head_bytes,
          value_parser = clap::value_parser!(u32).range(8192..=1 << 20))]
    pub max_head_bytes: u32,

    /// The most header fields of a head; 16 to 1000
    // Peers: Envoy and HAProxy 100 (101). It is also what is read on the stack: more cost a heap allocation each.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_headers,
          value_parser = clap::value_parser!(u16).range(16..=1000))]
    pub max_headers: u16,

    /// How long a client may take for a TLS handshake, and for a head from its first byte to its last; 1s to 1h
    // Peers: Linkerd and HAProxy's examples 10 s, Envoy's edge guide 15 s, nginx 60 s. RFC 9110, §15.5.9.
    #[arg(long, value_name = "DURATION", default_value_t = Limits::default().head_timeout, value_parser = up_to_a_day)]
    pub head_timeout: Duration,

    /// How long a client's connection may have no request open before it is closed; 1s to 24h
    // Peers: Envoy 1 h; nginx 75 s and HAProxy less, which face the internet. RFC 9110, §10.1.
    #[arg(long, value_name = "DURATION", default_value_t = Limits::default().idle_timeout, value_parser = up_to_a_day)]
    pub idle_timeout: Duration,

    /// How long a client may send nothing of a body that it owes before the answer begins; gRPC calls, which may be
    /// silent for as long as they like, are exempt; 1s to 24h
    // Peers: Envoy 5 min (stream_idle_timeout), nginx 60 s.
    #[arg(long, value_name = "DURATION", default_value_t = Limits::default().body_timeout, value_parser = up_to_a_day)]
    pub body_timeout: Duration,

    /// How long a client may take nothing of what there is for it: a connection that does not read, a stream whose
    /// window is closed; 1s to 24h
    // Peers: Envoy 5 min (stream_idle_timeout, stream_flush_timeout), nginx 60 s.
    #[arg(long, value_name = "DURATION", default_value_t = Limits::default().stall_timeout, value_parser = up_to_a_day)]
    pub stall_timeout: Duration,

    /// The most connections of clients at a time, all workers together; less if the process may open fewer than two
    /// descriptors for each; 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_connections,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// The most open streams of an HTTP/2 connection; 1 to 100000
    // RFC 9113, §6.5.2 advises 100 at least. Peers: nginx 128, Envoy's edge guide 100, hyper 200, HAProxy 100.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_streams,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,

    /// How many more than half of an HTTP/2 connection's streams the client may reset; a tenth of it is regained each
    /// second; 10 to 1000000
    // CVE-2023-44487. Envoy: 500 resets, if more than half of all streams are (premature_reset_total_stream_count).
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_resets,
          value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub max_resets: u32,

    /// How many more frames that carry nothing (PING, SETTINGS, PRIORITY, CONTINUATION, WINDOW_UPDATE without data) than
    /// frames that do an HTTP/2 peer may send; a tenth of it is regained each second; 100 to 10000000
    // CVE-2019-9512, -9513, -9515, CVE-2024-27316. Envoy: 10,000 for each kind between two frames of use.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_empty_frames,
          value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub max_empty_frames: u32,

    /// The resident memory in bytes beyond which the proxy takes no new connections and requests, reads nothing more
    /// from clients, and closes their connections, the heaviest first, until there is room; at least 33554432; default:
    /// 80 % of what the control group, or the machine, has
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(32 << 20..))]
    pub memory_limit: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = |seconds: u64| Duration::from_millis(seconds * 1_000);
        Self {
            max_head_bytes: 64 << 10,
            max_headers: 100,
            head_timeout: seconds(10),
            idle_timeout: seconds(3_600),
            body_timeout: seconds(300),
            stall_timeout: seconds(300),
            max_connections: 32_768,
            max_streams: 1_000,
            max_resets: 500,
            max_empty_frames: 10_000,
            memory_limit: None,
        }
    }
}

impl Limits {
    /// How many connections one of so many workers takes: its share, and no more than there are descriptors for, two
    /// for each (one to the client, one to the server).
    pub fn connections_of_worker(&self, workers: usize) -> u32 {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room = descriptors.map_or(u64::MAX, |all| all.saturating_sub(RESERVED_DESCRIPTORS) / 2);
        let all = u64::from(self.max_connections).min(room);
        u32::try_from(all.div_ceil(workers.max(1) as u64).max(1)).unwrap_or(u32::MAX)
    }

    /// The resident memory in bytes beyond which load is shed.
    pub fn memory(&self) -> u64 {
        let there = || control_group_memory().unwrap_or(u64::MAX).min(machine_memory());
        self.memory_limit.unwrap_or_else(|| there() / 100 * MEMORY_SHARE)
    }
}

/// Whether the system has no descriptor, port or buffer left for a connection.
pub fn is_exhausted(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ]
    .map(Some)
    .contains(&errno)
}

/// Lets this process open as many descriptors as it may: the usual 1,024 are for programs that call select(2).
pub fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What can't be raised is what there is: the number of connections follows it.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What the kernel allows this process' control group (cgroups(7), version 2); none: no limit, or no such file.
fn control_group_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut group = std::path::PathBuf::from("/sys/fs/cgroup").join(own.trim_start_matches('/'));
    let mut least = None;
    // A limit of any group above holds too.
    while group.starts_with("/sys/fs/cgroup") {
        let limit = std::fs::read_to_string(group.join("memory.max")).ok();
        let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
        least = least.into_iter().chain(limit).min();
        group.pop();
    }
    least
}

fn machine_memory() -> u64 {
    let all = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = all.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.map_or(u64::MAX, |kilobytes| kilobytes << 10)
}

/// A duration that ages of connections are compared with.
fn up_to_a_day(text: &str) -> Result<Duration, String> {
    let duration: Duration = text
        .parse()
        .map_err(|error: mesh_api::duration::DurationError| error.to_string())?;
    if (1_000..=86_400_000).contains(&duration.as_millis()) {
        Ok(duration)
    } else {
        Err(format!("{text} is not between 1s and 24h"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_connections() {
        let limits = Limits {
            max_connections: 10,
            ..Limits::default()
        };
        for (workers, share) in [(0, 10), (1, 10), (2, 5), (3, 4), (100, 1)] {
            assert_eq!(limits.connections_of_worker(workers), share, "{workers}");
        }
    }

    #[test]
    fn there_is_always_a_limit_of_memory() {
        let limits = Limits::default();
        assert!(limits.memory() > 32 << 20 && limits.memory() < u64::MAX / 2);
        let limits = Limits {
            memory_limit: Some(64 << 20),
            ..limits
        };
        assert_eq!(limits.memory(), 64 << 20);
    }

    #[test]
    fn durations_have_bounds() {
        for (text, good) in [
            ("1s", true),
            ("24h", true),
            ("999ms", false),
            ("25h", false),
            ("0s", false),
            ("5", false),
        ] {
            assert_eq!(up_to_a_day(text).is_ok(), good, "{text}");
        }
    }
}
