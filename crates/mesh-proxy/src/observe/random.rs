//! Random numbers for sampling and for trace ids: quick, one sequence for each worker, no secret depends on them.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A sequence of random numbers (splitmix64), seeded by the operating system.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Default for Random {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }
}

impl Random {
    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Whether this one of many is among `percent` of them.
    pub fn among(&self, percent: f64) -> bool {
        percent >= 100.0 || percentage(self.next()) < percent
    }

    /// The duration, made up to a fifth shorter or longer, so that many proxies do not act at once.
    pub fn jitter(&self, duration: std::time::Duration) -> std::time::Duration {
        duration.mul_f64(0.8 + percentage(self.next()) / 250.0)
    }
}

/// A random number as one from 0 to below 100.
pub fn percentage(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
}
