//! The root's rotation: each replica tells what its proxies have, and the holder of the Lease takes the next step when all
//! have what they need.
//!
//! What replicas tell stands in ConfigMap `mesh-rotation`, and only while a rotation is under way.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ca::Authority;
use crate::ca::rotation::{Phase, Progress};
use crate::ca::secret::RootSecret;
use crate::plane::Plane;
use crate::replicas::Board;

/// The ConfigMap's name.
pub const BOARD: &str = "mesh-rotation";
/// How often replicas tell, and the holder looks.
const PERIOD: Duration = Duration::from_secs(2);

/// What one replica tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What it signs with and trusts.
    trust: String,
    /// Its proxies.
    proxies: usize,
    /// Of these, those that trust the same.
    trusting: usize,
    /// Of these, those whose certificate is signed by the root that signs.
    signed: usize,
}

impl Told {
    /// What this replica has to tell.
    pub fn now(plane: &Plane, authority: &Authority) -> Self {
        let trust = authority.trust();
        let counts = plane.proxies().trust(trust.id());
        Self {
            trust: trust.id().to_string(),
            proxies: counts.proxies,
            trusting: counts.trusting,
            signed: counts.signed,
        }
    }
}

/// Tells what this replica's proxies have, as long as a rotation is under way.
pub async fn tell(board: &Board, pod: &str, roots: &RootSecret, plane: &Plane, authority: &Authority) {
    let mut place = board.place(pod);
    loop {
        tokio::time::sleep(PERIOD).await;
        if roots.roots().phase() == Phase::Steady {
            place.forget();
            continue;
        }
        if let Err(error) = place.say(Told::now(plane, authority)).await {
            tracing::warn!("rotation: what this replica's proxies have could not be told: {error}");
        }
    }
}

/// Takes the steps of rotations. Only the holder of the Lease does.
pub async fn drive(board: &Board, roots: &RootSecret) {
    let mut done: Option<(Phase, Instant)> = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        let current = roots.roots();
        let phase = current.phase();
        if phase == Phase::Steady && current.adopted {
            done = None;
            continue;
        }
        let trust = current.trust().id().to_string();
        let progress = match board.read().await {
            Ok(told) => sum(told.into_values(), &trust),
            Err(error) => {
                tracing::warn!("rotation: what proxies have could not be read: {error}");
                done = None;
                continue;
            }
        };
        done = match done {
            _ if !progress.is_done(phase) => None,
            Some((before, since)) if before == phase => Some((phase, since)),
            _ => Some((phase, Instant::now())),
        };
        let Some(next) = current.step(done.map(|(_, since)| since.elapsed())) else {
            tracing::debug!(phase = phase.as_str(), ?progress, "rotation: waits");
            continue;
        };
        match roots.write(&next).await {
            Ok(()) => tracing::info!(
                from = phase.as_str(),
                to = next.phase().as_str(),
                proxies = progress.proxies,
                "rotation: one step on"
            ),
            Err(error) => tracing::warn!("rotation: the step could not be taken: {error:#}"),
        }
        done = None;
    }
}

/// All replicas together; one that said nothing of late says nothing of its proxies.
fn sum(told: impl IntoIterator<Item = Option<Told>>, trust: &str) -> Progress {
    let mut progress = Progress::default();
    for told in told {
        progress.replicas += 1;
        let Some(told) = told else { continue };
        progress.proxies += told.proxies;
        if told.trust == trust {
            progress.told += 1;
            progress.trusting += told.trusting;
            progress.signed += told.signed;
        }
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_the_present_roots_counts() {
        let told = |trust: &str, proxies| {
            Some(Told {
                trust: trust.into(),
                proxies,
                trusting: proxies,
                signed: 0,
            })
        };
        assert_eq!(
            sum([told("now", 3), told("before", 2), None], "now"),
            Progress {
                replicas: 3,
                told: 1,
                proxies: 5,
                trusting: 3,
                signed: 0,
            }
        );
    }
}
