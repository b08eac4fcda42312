//! From samples to the figures that are quoted: medians with their spread, latency minus direct, ratio to Envoy.

use serde::Serialize;

use super::{
    bars::{self, Bar},
    sample::{LoadSample, Samples},
};
use crate::{
    contender::Name,
    scenario::{Exchange, Scenario},
    spread::{Spread, differences, quotients},
};

/// One contender under one load.
#[derive(Debug, Serialize)]
pub(crate) struct LoadRow {
    pub(crate) scenario: Scenario,
    pub(crate) contender: Name,
    /// CPU time of both proxies per request, in µs.
    pub(crate) cpu_us: Option<Spread>,
    /// The same, divided by Envoy's of the same round.
    pub(crate) cpu_to_envoy: Option<Spread>,
    /// The same, divided by HAProxy's of the same round.
    pub(crate) cpu_to_haproxy: Option<Spread>,
    /// Requests answered per second.
    pub(crate) rps: Option<Spread>,
    /// Latency in µs, less that of the same round without proxies; the whole latency for `direct` itself. Only of
    /// open loops.
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    /// Of streams: the time until the first chunk and the 99th percentile of the time between two chunks, in µs, less
    /// those without proxies.
    pub(crate) first_us: Option<Spread>,
    pub(crate) gap_us: Option<Spread>,
    /// Failed requests of all rounds: a row with any says little.
    pub(crate) failed: u64,
    /// What the first of them was.
    pub(crate) failure: Option<String>,
}

/// One contender's heavier proxy, in MB (10⁶ bytes).
#[derive(Debug, Serialize)]
pub(crate) struct MemoryRow {
    pub(crate) contender: Name,
    pub(crate) idle: MemorySpread,
    pub(crate) loaded: MemorySpread,
}

/// What one contender costs at rest.
#[derive(Debug, Serialize)]
pub(crate) struct RestRow {
    pub(crate) contender: Name,
    /// CPU time of the busier proxy, in ms per second.
    pub(crate) idle_cpu: Option<Spread>,
    /// Private memory for each idle plaintext connection, in bytes.
    pub(crate) plaintext: Option<Spread>,
    /// Private memory for each idle TLS connection, in bytes.
    pub(crate) tls: Option<Spread>,
}

/// Memory figures over the rounds, in MB (10⁶ bytes).
#[derive(Debug, Serialize)]
pub(crate) struct MemorySpread {
    pub(crate) rss: Option<Spread>,
    pub(crate) pss: Option<Spread>,
    pub(crate) private: Option<Spread>,
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) loads: Vec<LoadRow>,
    pub(crate) memory: Vec<MemoryRow>,
    pub(crate) rest: Vec<RestRow>,
    /// What the mesh is held to.
    pub(crate) bars: Vec<Bar>,
    /// CPUs that others than the bench used, on average over all loads.
    pub(crate) others: f64,
}

impl Summary {
    /// Sums up samples, in the order of `scenarios` and `contenders`.
    pub(crate) fn of(samples: &Samples, scenarios: &[Scenario], contenders: &[Name]) -> Self {
        let rows = scenarios.iter().flat_map(|&scenario| {
            contenders
                .iter()
                .filter(move |contender| contender.plays(scenario))
                .map(move |&contender| load_row(&samples.loads, scenario, contender))
        });
        let others: f64 = samples.loads.iter().map(|sample| sample.others).sum();
        Self {
            loads: rows.collect(),
            memory: contenders
                .iter()
                .filter_map(|&contender| memory_row(samples, contender))
                .collect(),
            rest: contenders
                .iter()
                .filter_map(|&contender| rest_row(samples, contender))
                .collect(),
            bars: bars::all(samples),
            others: others / samples.loads.len().max(1) as f64,
        }
    }
}

fn load_row(samples: &[LoadSample], scenario: Scenario, contender: Name) -> LoadRow {
    let rounds = samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
    let find = |name: Name, round: usize| {
        samples
            .iter()
            .find(|s| s.contender == name && s.scenario == scenario && s.round == round)
    };
    // A figure of every round, `None` where it was not measured, so that rounds can be compared one by one.
    let figures = |name: Name, figure: &dyn Fn(&LoadSample) -> Option<f64>| -> Vec<Option<f64>> {
        (0..rounds)
            .map(|round| find(name, round).and_then(figure))
            .collect()
    };
    let latency = |figure: &dyn Fn(&LoadSample) -> Option<f64>| {
        if !scenario.has_latency() {
            return None;
        }
        let own = figures(contender, figure);
        match contender {
            Name::Direct => Spread::of(own.into_iter().flatten()),
            _ => Spread::of(differences(&own, &figures(Name::Direct, figure))),
        }
    };
    let stream = |figure: &dyn Fn(&LoadSample) -> Option<f64>| {
        latency(figure).filter(|_| scenario.exchange() == Exchange::Stream)
    };
    let cpu = figures(contender, &|sample| sample.cpu_us);
    let to = |base: Name| Spread::of(quotients(&cpu, &figures(base, &|sample| sample.cpu_us)));
    let own = || {
        samples
            .iter()
            .filter(|s| s.contender == contender && s.scenario == scenario)
    };
    LoadRow {
        scenario,
        contender,
        cpu_to_envoy: to(Name::Envoy),
        cpu_to_haproxy: to(Name::Haproxy),
        cpu_us: Spread::of(cpu.into_iter().flatten()),
        rps: Spread::of(own().map(|sample| sample.rps)),
        p50_us: latency(&|sample| Some(sample.outcome.p50_us)),
        p99_us: latency(&|sample| Some(sample.outcome.p99_us)),
        first_us: stream(&|sample| Some(sample.outcome.first_p50_us)),
        gap_us: stream(&|sample| Some(sample.outcome.gap_p99_us)),
        failed: own().map(|sample| sample.outcome.failed).sum(),
        failure: own().find_map(|sample| sample.outcome.failure.clone()),
    }
}

fn memory_row(samples: &Samples, contender: Name) -> Option<MemoryRow> {
    let own: Vec<_> = samples
        .memory
        .iter()
        .filter(|sample| sample.contender == contender)
        .collect();
    let megabytes = |kilobytes: u64| kilobytes as f64 * 1024.0 / 1e6;
    (!own.is_empty()).then(|| MemoryRow {
        contender,
        idle: MemorySpread {
            rss: Spread::of(own.iter().map(|sample| megabytes(sample.idle.rss))),
            pss: Spread::of(own.iter().map(|sample| megabytes(sample.idle.pss))),
            private: Spread::of(own.iter().map(|sample| megabytes(sample.idle.private))),
        },
        loaded: MemorySpread {
            rss: Spread::of(own.iter().map(|sample| megabytes(sample.loaded.rss))),
            pss: Spread::of(own.iter().map(|sample| megabytes(sample.loaded.pss))),
            private: Spread::of(own.iter().map(|sample| megabytes(sample.loaded.private))),
        },
    })
}

fn rest_row(samples: &Samples, contender: Name) -> Option<RestRow> {
    let own: Vec<_> = samples
        .rest
        .iter()
        .filter(|sample| sample.contender == contender)
        .collect();
    (!own.is_empty()).then(|| RestRow {
        contender,
        idle_cpu: Spread::of(own.iter().map(|sample| sample.idle_cpu)),
        plaintext: Spread::of(own.iter().map(|sample| sample.plaintext)),
        tls: Spread::of(own.iter().map(|sample| sample.tls)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Outcome, measure::memory::Memory, report::sample::MemorySample};

    fn sample(contender: Name, scenario: Scenario, round: usize, cpu: Option<f64>, p50: f64) -> LoadSample {
        LoadSample {
            contender,
            scenario,
            round,
            cpu_us: cpu,
            rps: 1000.0 * (round + 1) as f64,
            others: 0.5,
            outcome: Outcome {
                completed: 100,
                failed: 0,
                failure: None,
                seconds: 1.0,
                due: 100,
                p50_us: p50,
                p99_us: p50 * 2.0,
                max_us: p50 * 3.0,
                ..Outcome::default()
            },
        }
    }

    fn samples() -> Samples {
        let open = Scenario::Http1Open;
        let memory = Memory {
            rss: 10_000,
            pss: 8_000,
            private: 2_000,
        };
        Samples {
            loads: vec![
                sample(Name::Direct, open, 0, None, 100.0),
                sample(Name::Envoy, open, 0, Some(100.0), 600.0),
                sample(Name::Nginx, open, 0, Some(50.0), 300.0),
                sample(Name::Nginx, open, 1, Some(80.0), 500.0),
                sample(Name::Envoy, open, 1, Some(200.0), 700.0),
                sample(Name::Direct, open, 1, None, 200.0),
            ],
            memory: vec![MemorySample {
                contender: Name::Nginx,
                round: 0,
                idle: memory,
                loaded: memory,
            }],
            rest: Vec::new(),
        }
    }

    fn row(scenario: Scenario, contender: Name) -> LoadRow {
        let mut summary = Summary::of(&samples(), &[scenario], &[contender]);
        summary.loads.remove(0)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let nginx = row(Scenario::Http1Open, Name::Nginx);
        assert_eq!(
            nginx.cpu_us,
            Some(Spread {
                median: 65.0,
                min: 50.0,
                max: 80.0
            })
        );
        assert_eq!(
            nginx.cpu_to_envoy,
            Some(Spread {
                median: 0.45,
                min: 0.4,
                max: 0.5
            })
        );
        let envoy = row(Scenario::Http1Open, Name::Envoy);
        assert_eq!(
            envoy.cpu_to_envoy,
            Some(Spread {
                median: 1.0,
                min: 1.0,
                max: 1.0
            })
        );
    }

    #[test]
    fn latency_is_what_the_proxies_add() {
        let nginx = row(Scenario::Http1Open, Name::Nginx);
        assert_eq!(
            nginx.p50_us,
            Some(Spread {
                median: 250.0,
                min: 200.0,
                max: 300.0
            })
        );
        let direct = row(Scenario::Http1Open, Name::Direct);
        assert_eq!(
            direct.p50_us,
            Some(Spread {
                median: 150.0,
                min: 100.0,
                max: 200.0
            })
        );
        assert_eq!((direct.cpu_us, direct.cpu_to_envoy), (None, None));
    }

    #[test]
    fn what_was_not_measured_is_nothing() {
        let row = row(Scenario::Http1Closed, Name::Nginx);
        assert_eq!(
            (row.cpu_us, row.cpu_to_envoy, row.rps, row.p50_us),
            (None, None, None, None)
        );
        let empty = Summary::of(&Samples::default(), &[], &[]);
        assert_eq!(empty.others, 0.0);
    }

    #[test]
    fn memory_is_in_megabytes_and_only_of_proxies() {
        let summary = Summary::of(&samples(), &[], &[Name::Direct, Name::Nginx]);
        assert_eq!(summary.memory.len(), 1);
        assert_eq!(
            summary.memory[0].idle.private.map(|spread| spread.median),
            Some(2.048)
        );
        assert_eq!(summary.others, 0.5);
    }
}
