//! When a certificate is renewed: at 70 % of the life it had when it came, a little earlier or later in each proxy;
//! again and again while the control plane is away. The one at hand stays until the next is there.

use std::time::{Duration, SystemTime};

use super::{Backoff, Keeper, ObtainError, Random, store};
use crate::tls::Credentials;

/// The longest sleep: the wall clock may jump, and a laptop may sleep for days.
const LOOK: Duration = Duration::from_secs(30);
/// The longest pause while there is no certificate, when a pod waits for it, and while there is one.
const WITHOUT: Duration = Duration::from_secs(1);
const WITH: Duration = Duration::from_secs(5);
/// Over which time proxies spread when all need another certificate: this, but no longer than a tenth of its life.
const SPREAD: Duration = Duration::from_secs(20);
/// The part of a certificate's life after which it is renewed, in percent, and how much it varies.
const RENEW_AT: f64 = 70.0;
const VARIES: f64 = 5.0;

impl Keeper {
    /// Obtains and renews for as long as the proxy lives.
    pub async fn run(mut self) {
        let backoff = |most| Backoff::new(Duration::from_millis(100), most);
        let random = Random::default();
        loop {
            let mut backoff = match self.cell.load_full() {
                Some(credentials) => {
                    let share = crate::observe::random::percentage(random.next()) / 100.0;
                    tokio::select! {
                        () = sleep_until(renewal(&credentials, &random)) => {}
                        () = self.outdated(&credentials, share) => {
                            tracing::info!("certificate: the roots are changing, it is replaced");
                        }
                    }
                    backoff(WITH)
                }
                None => backoff(WITHOUT),
            };
            while let Err(error) = self.renew().await {
                self.observe.certificate("failed");
                let pause = backoff.pause();
                self.complain(&error, pause);
                tokio::time::sleep(pause).await;
            }
            self.observe.certificate("ok");
        }
    }

    /// Until the control plane wants certificates to come with something else, and a share of a while more, so that not all
    /// proxies come at once.
    async fn outdated(&self, credentials: &Credentials, share: f64) {
        let mut wanted = self.wanted.clone();
        let other = |wanted: &String| !wanted.is_empty() && *wanted != credentials.trust;
        if wanted.wait_for(other).await.is_err() {
            return std::future::pending().await;
        }
        let life = credentials
            .not_after
            .duration_since(credentials.came)
            .unwrap_or_default();
        tokio::time::sleep(SPREAD.min(life / 10).mul_f64(share)).await;
    }

    async fn renew(&mut self) -> Result<(), ObtainError> {
        let material = self.obtain().await?;
        let credentials = material.credentials()?;
        tracing::info!(
            identity = %credentials.identity,
            serial = credentials.serial,
            "certificate: obtained, holds {:?}",
            credentials.not_after.duration_since(SystemTime::now()).unwrap_or_default()
        );
        let (state, text) = (self.state.clone(), material.to_pem());
        self.identity = Some(credentials.identity.clone());
        self.swap(credentials);
        // Used even if it can't be kept: the proxy would only have to join again after a restart.
        let saved = tokio::task::spawn_blocking(move || store::save(&state, &text)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!("the certificate could not be saved: {error}");
        }
        Ok(())
    }

    fn complain(&self, error: &ObtainError, pause: Duration) {
        let left = self
            .cell
            .load()
            .as_ref()
            .and_then(|credentials| credentials.not_after.duration_since(SystemTime::now()).ok());
        match left {
            Some(left) => tracing::warn!(?pause, "certificate: not renewed, {left:.0?} left: {error}"),
            None => tracing::error!(
                ?pause,
                "certificate: none that holds, handshakes are refused: {error}"
            ),
        }
    }
}

/// When credentials should be renewed.
fn renewal(credentials: &Credentials, random: &Random) -> SystemTime {
    let came = credentials.came;
    let life = credentials.not_after.duration_since(came).unwrap_or_default();
    let part = RENEW_AT + VARIES * (crate::observe::random::percentage(random.next()) / 50.0 - 1.0);
    came + life.mul_f64(part / 100.0)
}

async fn sleep_until(time: SystemTime) {
    while let Ok(left) = time.duration_since(SystemTime::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn renewal_is_at_about_70_percent_of_the_life_they_had_when_they_came() {
        let mut credentials = Authority::new().credentials("spiffe://mesh.local/ns/ml/sa/web");
        let random = Random::default();
        // Whether they came now or were saved long ago.
        for earlier in [0, 600, 86_400] {
            let came = SystemTime::now() - Duration::from_secs(earlier);
            credentials.came = came;
            let life = credentials.not_after.duration_since(came).unwrap().as_secs_f64();
            for _ in 0..1_000 {
                let at = renewal(&credentials, &random).duration_since(came).unwrap();
                assert!((0.65..=0.75).contains(&(at.as_secs_f64() / life)));
            }
        }
        let ended = credentials.not_after + Duration::from_secs(1);
        credentials.came = ended;
        assert_eq!(renewal(&credentials, &random), ended);
    }
}
