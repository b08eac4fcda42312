//! The figures, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::objects::Size;

/// All figures. Times are in milliseconds, memory in bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) size: Size,
    /// Of each kind.
    pub(crate) changes: usize,
    pub(crate) written: Written,
    pub(crate) started: Started,
    pub(crate) connected: Connected,
    /// The processor time of a second in which nothing happens.
    #[serde(serialize_with = "millis", rename = "rest_cpu_ms_per_second")]
    pub(crate) rest: Duration,
    pub(crate) series: Vec<Series>,
    /// At the end.
    pub(crate) resident: u64,
    /// The most.
    pub(crate) peak: u64,
}

/// All objects are written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    pub(crate) objects: usize,
    #[serde(serialize_with = "millis", rename = "ms")]
    pub(crate) time: Duration,
}

/// The control plane has read everything.
#[derive(Debug, Serialize)]
pub(crate) struct Started {
    #[serde(serialize_with = "millis", rename = "ready_ms")]
    pub(crate) ready: Duration,
    #[serde(serialize_with = "millis", rename = "cpu_ms")]
    pub(crate) cpu: Duration,
    pub(crate) resident: u64,
}

/// All proxies have a certificate and their first configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Connected {
    #[serde(serialize_with = "millis", rename = "ms")]
    pub(crate) time: Duration,
    #[serde(serialize_with = "millis", rename = "cpu_ms")]
    pub(crate) cpu: Duration,
    pub(crate) resident: u64,
    /// The first configuration of a proxy, in bytes.
    pub(crate) bytes_each: f64,
}

/// Changes of one kind.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) what: &'static str,
    /// What the slowest hundredth may take.
    #[serde(serialize_with = "millis", rename = "aim_ms")]
    pub(crate) aim: Duration,
    /// How many proxies were told of a change.
    pub(crate) told_each: f64,
    /// From the request to the last acknowledgement.
    pub(crate) times: Times,
    /// Of these, until the API server had answered.
    pub(crate) answers: Times,
    /// What a change took of the control plane, writing status and the pause after it included.
    #[serde(serialize_with = "millis", rename = "cpu_ms_each")]
    pub(crate) cpu_each: Duration,
    /// What a proxy was sent of a change, in bytes.
    pub(crate) bytes_each: f64,
    pub(crate) resident: u64,
}

/// How long things took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    #[serde(serialize_with = "millis", rename = "p50_ms")]
    pub(crate) median: Duration,
    #[serde(serialize_with = "millis", rename = "p99_ms")]
    pub(crate) p99: Duration,
    #[serde(serialize_with = "millis", rename = "max_ms")]
    pub(crate) most: Duration,
}

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // The smallest that so many percent do not exceed.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self {
            median: at(50),
            p99: at(99),
            most: at(100),
        }
    }
}

impl Report {
    /// The aims that were missed.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.series.iter().filter(|series| series.times.p99 >= series.aim);
        missed
            .map(|Series { what, times, aim, .. }| format!("{what}: p99 {:.0?}, aim {aim:?}", times.p99))
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size {
            services,
            endpoints,
            proxies,
        } = self.size;
        writeln!(
            f,
            "{services} Services, {endpoints} endpoints each, {proxies} proxies; {} objects written in {:.0} s",
            self.written.objects,
            self.written.time.as_secs_f64()
        )?;
        self.steps(f)?;
        writeln!(
            f,
            "memory at most {:.1} MB; a proxy's first configuration {:.0} bytes",
            mb(self.peak),
            self.connected.bytes_each
        )?;
        self.changes(f)
    }
}

impl Report {
    /// What the control plane took, step by step.
    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (started, connected) = (&self.started, &self.connected);
        writeln!(
            f,
            "\n{:<40} {:>9} {:>9} {:>9}",
            "the control plane", "ms", "CPU ms", "MB then"
        )?;
        let mut step = |what: &str, time: Duration, cpu: Duration, resident: u64| {
            let (time, cpu, resident) = (ms(time), ms(cpu), mb(resident));
            writeln!(f, "{what:<40} {time:>9.0} {cpu:>9.1} {resident:>9.1}")
        };
        step(
            "has read everything",
            started.ready,
            started.cpu,
            started.resident,
        )?;
        step(
            "has certified and configured all proxies",
            connected.time,
            connected.cpu,
            connected.resident,
        )?;
        step(
            "rests, each second",
            Duration::from_secs(1),
            self.rest,
            connected.resident,
        )
    }

    /// What changes took.
    fn changes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<40} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
            format!("{} changes, until the last ack", self.changes),
            "proxies",
            "p50 ms",
            "p99 ms",
            "max ms",
            "aim ms",
            "API p50",
            "CPU ms",
            "bytes",
            "MB then"
        )?;
        for Series {
            what,
            aim,
            told_each,
            times,
            answers,
            cpu_each,
            bytes_each,
            resident,
        } in &self.series
        {
            let [median, p99, most, aim, answer] =
                [times.median, times.p99, times.most, *aim, answers.median].map(ms);
            writeln!(
                f,
                "{what:<40} {told_each:>7.1} {median:>7.1} {p99:>7.1} {most:>7.1} {aim:>7.0} {answer:>7.1} {:>7.2} \
                 {bytes_each:>7.0} {:>7.1}",
                ms(*cpu_each),
                mb(*resident)
            )?;
        }
        Ok(())
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let times = |count: u64| Times::of((1..=count).rev().map(Duration::from_millis).collect());
        for (count, expected) in [
            (1, [1, 1, 1]),
            (4, [2, 4, 4]),
            (100, [50, 99, 100]),
            (201, [101, 199, 201]),
        ] {
            let Times { median, p99, most } = times(count);
            assert_eq!(
                [median, p99, most],
                expected.map(Duration::from_millis),
                "{count}"
            );
        }
    }
}
