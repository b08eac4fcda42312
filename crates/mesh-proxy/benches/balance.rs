//! What it costs to choose an endpoint: nanoseconds per request, by algorithm and number of endpoints.
//!
//! `cargo bench -p mesh-proxy --bench balance`. Each figure is the fastest of several rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::document::BalancerKind;
use mesh_proxy::balance::{Moment, pick};
use mesh_proxy::observe::random::Random;
use mesh_proxy::table::Endpoint;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);

fn main() {
    let random = Random::default();
    for count in [1, 3, 100, 10_000_u16] {
        let endpoints: Vec<Arc<Endpoint>> = (0..count)
            .map(|number| {
                let endpoint = Endpoint::new(([127, 0, 0, 1], number.max(1)).into(), None);
                endpoint
                    .load
                    .answered(Moment(1), Duration::from_micros(500 + u64::from(number)));
                endpoint
            })
            .collect();
        for (name, kind) in [
            ("peak-ewma", BalancerKind::PeakEwma),
            ("round-robin", BalancerKind::RoundRobin),
        ] {
            let mut turn = 0;
            let (mut fastest, now) = (f64::INFINITY, Moment(1_000));
            for _ in 0..ROUNDS {
                let (start, mut runs) = (Instant::now(), 0_u32);
                while start.elapsed() < ROUND {
                    for _ in 0..64 {
                        turn += 1;
                        black_box(pick(black_box(&endpoints), kind, &[], now, turn, || {
                            random.next()
                        }));
                    }
                    runs += 64;
                }
                fastest = fastest.min(start.elapsed().as_nanos() as f64 / f64::from(runs));
            }
            println!("{:<24} {fastest:>10.1} ns", format!("{name}/{count}"));
        }
    }
}
