//! What the mesh is held to: one line for each promise about its speed, with the figure and whether it holds.

use serde::Serialize;

use super::sample::{LoadSample, RestSample, Samples};
use crate::{
    contender::Name,
    scenario::Scenario,
    spread::{Spread, differences, quotients},
};

/// One promise.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    pub(crate) at_most: f64,
    /// What it is; `None` if the run did not measure it.
    pub(crate) is: Option<Spread>,
    /// Whether the median holds.
    pub(crate) holds: Option<bool>,
}

/// All promises, against what was measured.
pub(crate) fn all(samples: &Samples) -> Vec<Bar> {
    use Name::{Envoy, Haproxy, Mesh, MeshOne, MeshTwo};
    use Scenario::{ChatFirst, ChatLast, ChatOpaque, GrpcClosed, GrpcOpen, Http1Closed, Http1Open, Sse};
    let of = Figures(samples);
    let megabytes = |kilobytes: u64| kilobytes as f64 * 1024.0 / 1e6;
    let memory = |figure: &dyn Fn(&crate::measure::memory::Memory) -> u64| {
        let own = samples.memory.iter().filter(|sample| sample.contender == Mesh);
        Spread::of(own.map(|sample| megabytes(figure(&sample.idle))))
    };
    let rest = |figure: &dyn Fn(&RestSample) -> f64| {
        let own = samples.rest.iter().filter(|sample| sample.contender == Mesh);
        Spread::of(own.map(figure))
    };
    let bars = [
        (
            "HTTP/1.1 closed, CPU × Envoy",
            0.50,
            of.cpu(Http1Closed, Mesh, Http1Closed, Envoy),
        ),
        (
            "HTTP/1.1 closed, CPU × HAProxy",
            1.40,
            of.cpu(Http1Closed, Mesh, Http1Closed, Haproxy),
        ),
        (
            "gRPC closed, CPU × Envoy",
            0.75,
            of.cpu(GrpcClosed, Mesh, GrpcClosed, Envoy),
        ),
        (
            "HTTP/1.1 open, CPU × Envoy",
            0.50,
            of.cpu(Http1Open, Mesh, Http1Open, Envoy),
        ),
        (
            "HTTP/1.1 open, CPU × HAProxy",
            0.90,
            of.cpu(Http1Open, Mesh, Http1Open, Haproxy),
        ),
        (
            "gRPC open, CPU × Envoy",
            0.65,
            of.cpu(GrpcOpen, Mesh, GrpcOpen, Envoy),
        ),
        (
            "gRPC open, CPU × HAProxy",
            0.95,
            of.cpu(GrpcOpen, Mesh, GrpcOpen, Haproxy),
        ),
        (
            "HTTP/1.1 closed, two workers' CPU × one's, on all cores",
            1.10,
            of.cpu(Http1Closed, MeshTwo, Http1Closed, MeshOne),
        ),
        (
            "gRPC closed, two workers' CPU × one's, on all cores",
            1.10,
            of.cpu(GrpcClosed, MeshTwo, GrpcClosed, MeshOne),
        ),
        (
            "HTTP/1.1 open, added p99 × Envoy",
            0.60,
            of.added(Http1Open, |sample| sample.outcome.p99_us),
        ),
        (
            "gRPC open, added p99 × Envoy",
            0.60,
            of.added(GrpcOpen, |sample| sample.outcome.p99_us),
        ),
        (
            "streams, CPU per chunk × Envoy",
            0.60,
            of.cpu(Sse, Mesh, Sse, Envoy),
        ),
        (
            "streams, added gap p99 × Envoy",
            1.00,
            of.added(Sse, |sample| sample.outcome.gap_p99_us),
        ),
        (
            "1 MB chat, model first, CPU × opaque route",
            1.10,
            of.cpu(ChatFirst, Mesh, ChatOpaque, Mesh),
        ),
        (
            "1 MB chat, model last, CPU × opaque route",
            1.25,
            of.cpu(ChatLast, Mesh, ChatOpaque, Mesh),
        ),
        (
            "RSS of one idle proxy, 100 services, MB",
            14.0,
            memory(&|memory| memory.rss),
        ),
        (
            "private memory of one idle proxy, 100 services, MB",
            6.0,
            memory(&|memory| memory.private),
        ),
        ("idle CPU, ms/s", 1.0, rest(&|sample| sample.idle_cpu)),
        (
            "idle plaintext connection, KB",
            6.0,
            rest(&|sample| sample.plaintext / 1e3),
        ),
        ("idle mTLS connection, KB", 25.0, rest(&|sample| sample.tls / 1e3)),
    ];
    bars.into_iter()
        .map(|(what, at_most, is)| Bar {
            what,
            at_most,
            is,
            holds: is.map(|is| is.median <= at_most),
        })
        .collect()
}

/// Figures of loads, round by round.
struct Figures<'a>(&'a Samples);

impl Figures<'_> {
    fn of(
        &self,
        scenario: Scenario,
        contender: Name,
        figure: impl Fn(&LoadSample) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let rounds = self
            .0
            .loads
            .iter()
            .map(|sample| sample.round + 1)
            .max()
            .unwrap_or(0);
        let find = |round| {
            self.0
                .loads
                .iter()
                .find(|s| s.contender == contender && s.scenario == scenario && s.round == round)
        };
        (0..rounds).map(|round| find(round).and_then(&figure)).collect()
    }

    /// CPU time of one by that of the other.
    fn cpu(&self, scenario: Scenario, of: Name, base: Scenario, to: Name) -> Option<Spread> {
        let cpu = |sample: &LoadSample| sample.cpu_us;
        Spread::of(quotients(&self.of(scenario, of, cpu), &self.of(base, to, cpu)))
    }

    /// What the mesh adds by what Envoy adds.
    fn added(&self, scenario: Scenario, figure: impl Fn(&LoadSample) -> f64) -> Option<Spread> {
        let figure = |sample: &LoadSample| Some(figure(sample));
        let direct = self.of(scenario, Name::Direct, figure);
        let added = |name| -> Vec<Option<f64>> {
            let own = self.of(scenario, name, figure);
            let pairs = own.iter().zip(&direct);
            pairs
                .map(|(own, direct)| differences(&[*own], &[*direct]).pop())
                .collect()
        };
        Spread::of(quotients(&added(Name::Mesh), &added(Name::Envoy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Outcome;

    fn sample(contender: Name, round: usize, cpu: Option<f64>, p99: f64) -> LoadSample {
        LoadSample {
            contender,
            scenario: Scenario::Http1Open,
            round,
            cpu_us: cpu,
            rps: 1.0,
            others: 0.0,
            outcome: Outcome {
                p99_us: p99,
                ..Outcome::default()
            },
        }
    }

    #[test]
    fn bars_are_judged_by_their_median_and_only_if_measured() {
        let samples = Samples {
            loads: vec![
                sample(Name::Direct, 0, None, 100.0),
                sample(Name::Envoy, 0, Some(100.0), 500.0),
                sample(Name::Mesh, 0, Some(40.0), 400.0),
                sample(Name::Direct, 1, None, 100.0),
                sample(Name::Envoy, 1, Some(100.0), 300.0),
                sample(Name::Mesh, 1, Some(60.0), 200.0),
            ],
            ..Samples::default()
        };
        let bars = all(&samples);
        let bar = |what: &str| bars.iter().find(|bar| bar.what == what).expect("a bar");
        let cpu = bar("HTTP/1.1 open, CPU × Envoy");
        assert_eq!((cpu.is.map(|is| is.median), cpu.holds), (Some(0.5), Some(true)));
        let p99 = bar("HTTP/1.1 open, added p99 × Envoy");
        assert_eq!(
            (p99.is.map(|is| is.median), p99.holds),
            (Some(0.625), Some(false))
        );
        assert_eq!(bar("idle CPU, ms/s").holds, None);
    }
}
