//! What the figures were measured on.

use std::fs;

use serde::Serialize;

use crate::isolate;

/// Facts about this machine that figures depend on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) congestion_control: String,
    /// Whether the run has a network namespace of its own.
    pub(crate) isolated: bool,
}

impl Machine {
    pub(crate) fn here(isolated: bool) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = rustix::system::uname();
        Self {
            processor: processor(&cpuinfo).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.release().to_string_lossy().into_owned(),
            congestion_control: isolate::congestion_control(),
            isolated,
        }
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    cpuinfo
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let cases = [
            (
                "processor\t: 0\nmodel name\t: AMD EPYC 7R13\n",
                Some("AMD EPYC 7R13"),
            ),
            ("processor\t: 0\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(processor(text), expected, "{text:?}");
        }
    }
}
