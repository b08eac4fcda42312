//! Pauses between attempts: growing, bounded, and different in each proxy.

use std::time::Duration;

use crate::observe::random::Random;

/// Doubles from attempt to attempt, up to a bound.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    random: Random,
}

impl Backoff {
    /// From `first` to `most`, each a fifth more or less.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
            random: Random::default(),
        }
    }

    /// For whatever is asked of the control plane: 100 ms to 5 s.
    pub fn control() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.random.jitter(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }

    /// It worked: the next pause is short again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let mut backoff = Backoff::control();
        for wanted in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let pause = backoff.pause().as_millis();
            assert!(
                (wanted * 8 / 10..=wanted * 12 / 10).contains(&pause),
                "{pause} for {wanted}"
            );
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(120));
    }
}
