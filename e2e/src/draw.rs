//! Random choices that are the same in every run: SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom Number
//! Generators", 2014).

/// Draws one choice after the other.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// The choices that belong to a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The remainder is below `end`, which is a usize.
        (self.number() % end as u64) as usize
    }

    /// One of these; there is at least one.
    pub fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
