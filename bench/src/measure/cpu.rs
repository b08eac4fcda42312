//! CPU time of processes, from `/proc/PID/stat` and `/proc/stat` (proc(5)).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// What `/proc/PID/stat` says about one process, all its threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessTime {
    /// The parent's process id.
    pub(crate) parent: u32,
    /// User and system time, in clock ticks.
    pub(crate) ticks: u64,
}

impl ProcessTime {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("cannot understand {path}"))
    }

    /// Parses the one line of `/proc/PID/stat`. The second field is the command in brackets and may itself
    /// contain blanks and brackets, so that fields are counted from the last closing one.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` starts at field 3 (state): ppid is field 4, utime 14, stime 15.
        let field = |number: usize| fields.get(number - 3);
        let user: u64 = field(14)?.parse().ok()?;
        let system: u64 = field(15)?.parse().ok()?;
        Some(Self {
            parent: field(4)?.parse().ok()?,
            ticks: user + system,
        })
    }
}

/// User and system time of several processes together, in clock ticks. A process that has ended is an error:
/// its share would be missing from the figure.
pub(crate) fn ticks_of(pids: &[u32]) -> Result<u64> {
    pids.iter()
        .map(|&pid| ProcessTime::of(pid).map(|time| time.ticks))
        .sum()
}

/// Time on a CPU of several processes together, to the nanosecond, from `/proc/PID/task/*/schedstat`. Threads that end
/// take theirs along.
pub(crate) fn exactly(pids: &[u32]) -> Result<Duration> {
    let mut nanoseconds = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/task");
        let tasks = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        for task in tasks.flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ran = text.split_ascii_whitespace().next();
            nanoseconds += ran.and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Time the whole machine spent working for processes (user, nice, system) or lost to the hypervisor (steal),
/// in clock ticks.
pub(crate) fn machine_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_machine(&text).context("cannot understand the first line of /proc/stat")
}

fn parse_machine(text: &str) -> Option<u64> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    Some(fields.first()? + fields.get(1)? + fields.get(2)? + fields.get(7).unwrap_or(&0))
}

/// How long some clock ticks are.
pub(crate) fn duration_of(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let tail = "S 12 1 1 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 100 1000 10";
        let expected = Some(ProcessTime {
            parent: 12,
            ticks: 200,
        });
        let cases = [
            (format!("34 (envoy) {tail}"), expected),
            (format!("34 (a name) with) brackets) {tail}"), expected),
            (format!("34 () {tail}"), expected),
            ("34 (envoy) S 12 1".to_owned(), None),
            ("34 (envoy) S x 1 1 0 -1 4194560 1 2 3 4 150 50".to_owned(), None),
            ("34 envoy S 12".to_owned(), None),
            (String::new(), None),
        ];
        for (line, expected) in cases {
            assert_eq!(ProcessTime::parse(&line), expected, "{line:?}");
        }
    }

    #[test]
    fn machine_lines() {
        let cases = [
            ("cpu  100 20 30 1000 5 6 7 8 0 0\ncpu0 1 2 3", Some(158)),
            ("cpu  100 20 30 1000", Some(150)),
            ("cpu  100", None),
            ("intr 1 2", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_machine(text), expected, "{text:?}");
        }
    }

    #[test]
    fn this_process_can_be_read() {
        let here = ProcessTime::of(std::process::id()).expect("own stat");
        assert_eq!(here.parent, std::os::unix::process::parent_id());
        assert!(machine_ticks().expect("machine") > 0);
        assert!(ticks_of(&[u32::MAX]).is_err());
        assert!(exactly(&[std::process::id()]).expect("own schedstat") > Duration::ZERO);
    }
}
