//! From one root to the next without a restart and without a request that fails: a pure state machine over what the
//! Secret says and what proxies have told.
//!
//! 1. The next root is *distributed*: everybody trusts both, the old one signs.
//! 2. Once every proxy has said that it trusts both, the next root signs, and proxies *renew*: everybody trusts both still.
//! 3. Once every proxy has said that its certificate is the new root's, the old one is trusted no more.
//!
//! Each step waits a while after the last proxy, for those that are between two connections. The state is in the Secret
//! alone, so that any replica goes on where another one stopped.

use std::sync::Arc;
use std::time::Duration;

use super::root::Root;
use super::secret::Roots;

/// How long all proxies must have what they need before the next step.
pub const SETTLE: Duration = Duration::from_secs(60);

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Steady,
    /// The next root is told to everybody.
    Distributing,
    /// The next root signs, and proxies get new certificates.
    Renewing,
}

impl Phase {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Distributing => "distributing",
            Self::Renewing => "renewing",
        }
    }
}

/// What proxies have, over all replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Replicas that serve.
    pub replicas: usize,
    /// Of these, those that have told what their proxies have, and trust what the Secret says themselves.
    pub told: usize,
    /// Proxies that are connected.
    pub proxies: usize,
    /// Of these, those that trust exactly what the Secret says.
    pub trusting: usize,
    /// Of these, those whose certificate is signed by the root that signs.
    pub signed: usize,
}

impl Progress {
    /// Whether the phase has done what it is for.
    pub fn is_done(&self, phase: Phase) -> bool {
        let everybody = self.replicas > 0 && self.told == self.replicas && self.trusting == self.proxies;
        match phase {
            Phase::Steady => false,
            Phase::Distributing => everybody,
            Phase::Renewing => everybody && self.signed == self.proxies,
        }
    }
}

/// What can't be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rotation is under way ({}): wait until it is done", .0.as_str())]
pub struct UnderWay(pub Phase);

impl Roots {
    /// Where the rotation stands.
    pub fn phase(&self) -> Phase {
        match (&self.next, self.previous.as_slice()) {
            (Some(_), _) => Phase::Distributing,
            (None, [_, ..]) => Phase::Renewing,
            (None, []) => Phase::Steady,
        }
    }

    /// Begins a rotation to this root.
    ///
    /// # Errors
    /// When one is under way.
    pub fn begin(&self, next: Root) -> Result<Self, UnderWay> {
        match self.phase() {
            Phase::Steady => Ok(Self {
                next: Some(Arc::new(next)),
                ..self.clone()
            }),
            phase => Err(UnderWay(phase)),
        }
    }

    /// The next step, once the phase has been done for `done`; none: nothing is to be written.
    pub fn step(&self, done: Option<Duration>) -> Option<Self> {
        if !self.adopted {
            // Whoever supplied the root may replace it at any time: from now on, that begins a rotation.
            return Some(Self {
                adopted: true,
                ..self.clone()
            });
        }
        if done.is_none_or(|done| done < SETTLE) {
            return None;
        }
        match self.phase() {
            Phase::Steady => None,
            Phase::Distributing => {
                let next = self.next.clone()?;
                let mut previous = self.previous.clone();
                previous.push(self.signer.certificate().clone());
                previous.retain(|root| root != next.certificate());
                Some(Self {
                    signer: next,
                    next: None,
                    previous,
                    ..self.clone()
                })
            }
            Phase::Renewing => Some(Self {
                previous: Vec::new(),
                ..self.clone()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    fn root() -> Root {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        Root::generate(&"cluster.local".parse().unwrap(), now).unwrap()
    }

    fn steady(adopted: bool) -> Roots {
        Roots {
            signer: Arc::new(root()),
            next: None,
            previous: Vec::new(),
            adopted,
            version: None,
        }
    }

    #[test]
    fn nobody_ever_meets_a_certificate_of_a_root_that_it_does_not_trust() {
        let start = steady(true);
        let (old, next) = (start.signer.certificate().clone(), root());
        let new = next.certificate().clone();
        let mut roots = start.begin(next).unwrap();
        let mut seen = vec![(roots.phase(), roots.trust())];
        while let Some(next) = roots.step(Some(SETTLE)) {
            roots = next;
            seen.push((roots.phase(), roots.trust()));
        }
        let phases: Vec<_> = seen.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Distributing, Phase::Renewing, Phase::Steady]);
        let bundles: Vec<_> = seen.iter().map(|(_, trust)| trust.bundle().to_vec()).collect();
        assert_eq!(
            bundles,
            [
                vec![old.clone(), new.clone()],
                vec![new.clone(), old.clone()],
                vec![new.clone()]
            ],
            "the signer first"
        );
        // Whoever is one step behind trusts who signs now, and is trusted.
        for pair in seen.windows(2) {
            let ((_, before), (_, after)) = (&pair[0], &pair[1]);
            assert!(before.bundle().contains(after.signer().certificate()));
            assert!(
                after.bundle().contains(before.signer().certificate()) || after.bundle() == [new.clone()]
            );
        }
    }

    #[test]
    fn a_step_waits_for_everybody_and_a_while_longer() {
        let all = Progress {
            replicas: 2,
            told: 2,
            proxies: 5,
            trusting: 5,
            signed: 5,
        };
        for (progress, distributed, renewed) in [
            (all, true, true),
            (Progress { signed: 4, ..all }, true, false),
            (Progress { trusting: 4, ..all }, false, false),
            (Progress { told: 1, ..all }, false, false),
            (Progress::default(), false, false),
            (
                Progress {
                    replicas: 1,
                    told: 1,
                    ..Progress::default()
                },
                true,
                true,
            ),
        ] {
            assert_eq!(progress.is_done(Phase::Distributing), distributed, "{progress:?}");
            assert_eq!(progress.is_done(Phase::Renewing), renewed, "{progress:?}");
            assert!(!progress.is_done(Phase::Steady));
        }
        let roots = steady(true).begin(root()).unwrap();
        assert!(roots.step(None).is_none());
        assert!(roots.step(Some(SETTLE - Duration::from_secs(1))).is_none());
        assert_eq!(roots.step(Some(SETTLE)).unwrap().phase(), Phase::Renewing);
    }

    #[test]
    fn a_rotation_is_not_begun_within_another() {
        let roots = steady(true).begin(root()).unwrap();
        assert_eq!(roots.begin(root()).unwrap_err(), UnderWay(Phase::Distributing));
        let roots = roots.step(Some(SETTLE)).unwrap();
        let error = roots.begin(root()).unwrap_err();
        assert!(error.to_string().contains("renewing"), "{error}");
    }

    #[test]
    fn a_supplied_root_is_copied_first() {
        let roots = steady(false);
        let adopted = roots.step(None).unwrap();
        assert!(adopted.adopted);
        assert_eq!(adopted.trust().bundle(), roots.trust().bundle());
        assert!(adopted.step(Some(SETTLE)).is_none());
    }
}
