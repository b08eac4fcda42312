//! What a run gives back: for people a table, for machines JSON, for documents Markdown.

pub(crate) mod bars;
pub(crate) mod sample;
pub(crate) mod summary;
mod table;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use self::{sample::Samples, summary::Summary, table::Style};
use crate::{contender::Name, machine::Machine, process::Place, scenario::Scenario};

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for a terminal
    Table,
    /// Every sample and the summary
    Json,
    /// Tables for a document
    Markdown,
}

/// A run's circumstances and figures.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// What took part, exactly.
    pub(crate) versions: Vec<(Name, String)>,
    /// What could not take part, and why.
    pub(crate) missing: Vec<(Name, String)>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    /// Requests per second of the open loops.
    pub(crate) rate: u32,
    /// Where load generator and backend ran.
    pub(crate) load: Place,
    /// Where both proxies ran.
    pub(crate) proxies: Place,
    pub(crate) summary: Summary,
    pub(crate) samples: Samples,
}

impl Report {
    pub(crate) fn render(&self, format: Format) -> Result<String> {
        Ok(match format {
            Format::Table => table::render(self, Style::Terminal),
            Format::Markdown => table::render(self, Style::Markdown),
            Format::Json => serde_json::to_string_pretty(self).context("cannot write JSON")? + "\n",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let scenarios = vec![Scenario::Http1Closed, Scenario::GrpcOpen];
        let samples = Samples::default();
        Report {
            machine: Machine {
                processor: "A processor".to_owned(),
                cores: 2,
                kernel: "6.1".to_owned(),
                congestion_control: "bbr".to_owned(),
                isolated: false,
            },
            versions: vec![(Name::Direct, "no proxy".to_owned())],
            missing: vec![(Name::Nginx, "it cannot be had".to_owned())],
            rounds: 3,
            duration: Duration::from_secs(5),
            rate: 2_000,
            load: Place {
                core: 0,
                nice: 0,
                every_core: false,
            },
            proxies: Place {
                core: 1,
                nice: 0,
                every_core: false,
            },
            summary: Summary::of(&samples, &scenarios, &[Name::Direct]),
            scenarios,
            samples,
        }
    }

    #[test]
    fn tables_say_what_is_missing_and_what_to_doubt() {
        for format in [Format::Table, Format::Markdown] {
            let text = report().render(format).expect("text");
            for expected in [
                "A processor, 2 cores, Linux 6.1, bbr",
                "nginx: NOT MEASURED: it cannot be had",
                "HTTP/1.1, closed loop, 32 connections",
                "gRPC unary, open loop, 2000 requests/s",
                "added p99 µs",
                "note: BBR",
                "note: fewer than 5 rounds",
            ] {
                assert!(text.contains(expected), "{expected:?} is not in\n{text}");
            }
        }
    }

    #[test]
    fn markdown_tables_are_markdown() {
        let text = report().render(Format::Markdown).expect("text");
        assert!(text.contains("\n| pair "), "{text}");
        assert!(text.contains("\n### HTTP/1.1"), "{text}");
    }

    #[test]
    fn json_is_json() {
        let text = report().render(Format::Json).expect("text");
        let value: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value["missing"][0][0], "nginx");
        assert_eq!(value["scenarios"][1], "grpc-open");
    }
}
