//! Waiting until the proxies serve a version, and naming those that don't.

use std::time::Duration;

use mesh_api::wire::admin::{ListProxiesRequest, Proxy, ProxyList};
use serde::Serialize;
use tokio_stream::StreamExt as _;

use crate::client::{Admin, answer, refused};
use crate::error::{Failure, Outcome};

/// How far the proxies are with a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Acks {
    /// The version waited for.
    pub(crate) version: u64,
    /// How many connected proxies serve it, or a later one.
    pub(crate) serving: usize,
    /// Connected proxies that don't yet.
    pub(crate) lagging: Vec<Lag>,
    /// Proxies that are not connected: they serve what they had.
    pub(crate) away: Vec<String>,
}

/// A proxy that does not serve the version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lag {
    /// Of which workload.
    pub(crate) workload: String,
    /// What it serves instead.
    pub(crate) version: u64,
    /// Why it refused; none: it has not answered.
    pub(crate) refusal: Option<String>,
}

impl Acks {
    /// How far they are.
    pub(crate) fn of(list: &ProxyList, version: u64) -> Self {
        let mut acks = Self {
            version,
            ..Self::default()
        };
        for proxy in &list.proxies {
            if !proxy.connected {
                acks.away.push(proxy.workload.clone());
            } else if proxy.version >= version {
                acks.serving += 1;
            } else {
                acks.lagging.push(Lag {
                    workload: proxy.workload.clone(),
                    version: proxy.version,
                    refusal: refusal(proxy, version),
                });
            }
        }
        acks
    }

    /// Whether there is nothing more to wait for: all serve it, or those that don't have refused it.
    fn settled(&self) -> bool {
        self.lagging.iter().all(|lag| lag.refusal.is_some())
    }

    /// Whether every connected proxy serves it.
    pub(crate) fn complete(&self) -> bool {
        self.lagging.is_empty()
    }

    /// Such as `4/4 proxies at 812`.
    pub(crate) fn in_words(&self) -> String {
        let connected = self.serving + self.lagging.len();
        format!("{}/{connected} proxies at {}", self.serving, self.version)
    }

    /// A line for each proxy that does not serve it.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let lagging = self.lagging.iter().map(|lag| match &lag.refusal {
            Some(reason) => format!("{} refused {}: {reason}", lag.workload, self.version),
            None => format!("{} still serves {}", lag.workload, lag.version),
        });
        lagging.collect()
    }
}

fn refusal(proxy: &Proxy, version: u64) -> Option<String> {
    (proxy.sent >= version && !proxy.refusal.is_empty()).then(|| proxy.refusal.clone())
}

/// Waits until all connected proxies serve the version or have refused it, at most `within`.
pub(crate) async fn wait(admin: &mut Admin, version: u64, within: Duration) -> Outcome<Acks> {
    let mut lists = answer(admin.watch_proxies(ListProxiesRequest {})).await?;
    let mut last = None;
    let watching = async {
        while let Some(list) = lists.next().await {
            let acks = Acks::of(&list.map_err(|status| refused(&status))?, version);
            let settled = acks.settled();
            last = Some(acks);
            if settled {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    // Running out of time is an answer too: who lags is named.
    if let Ok(watched) = tokio::time::timeout(within, watching).await {
        watched?;
    }
    last.ok_or_else(|| Failure::new("the control plane does not say how far its proxies are"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{FakeControl, proxy, serve};
    use std::sync::Arc;

    fn list(proxies: Vec<Proxy>) -> ProxyList {
        ProxyList { proxies, version: 8 }
    }

    #[tokio::test]
    async fn it_waits_until_all_serve_the_version() {
        let fake = Arc::new(FakeControl::default());
        fake.proxies
            .send_replace(list(vec![proxy("ml/a", 8), proxy("ml/b", 7)]));
        let (_dir, mut admin) = serve(&fake).await;
        let waiting = wait(&mut admin, 8, Duration::from_secs(60));
        let acking = async {
            // The watcher is there before the proxy acks.
            fake.proxies.closed_or_watched().await;
            fake.proxies
                .send_replace(list(vec![proxy("ml/a", 8), proxy("ml/b", 9)]));
        };
        let (acks, ()) = tokio::join!(waiting, acking);
        let acks = acks.unwrap();
        assert!(acks.complete());
        assert_eq!(acks.in_words(), "2/2 proxies at 8");
    }

    trait Watched {
        async fn closed_or_watched(&self);
    }

    impl Watched for tokio::sync::watch::Sender<ProxyList> {
        async fn closed_or_watched(&self) {
            while self.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named_at_once() {
        let fake = Arc::new(FakeControl::default());
        let mut refusing = proxy("ml/b", 7);
        (refusing.sent, refusing.refusal) = (8, "Route ml/fraud: rules[0]: bad".into());
        fake.proxies.send_replace(list(vec![proxy("ml/a", 8), refusing]));
        let (_dir, mut admin) = serve(&fake).await;
        let acks = wait(&mut admin, 8, Duration::from_secs(60)).await.unwrap();
        assert!(!acks.complete());
        assert_eq!(acks.in_words(), "1/2 proxies at 8");
        assert_eq!(
            acks.complaints(),
            ["ml/b refused 8: Route ml/fraud: rules[0]: bad"]
        );
    }

    #[tokio::test]
    async fn a_proxy_that_lags_is_named_when_time_is_up() {
        let fake = Arc::new(FakeControl::default());
        let mut away = proxy("ml/c", 3);
        away.connected = false;
        fake.proxies.send_replace(list(vec![proxy("ml/a", 7), away]));
        let (_dir, mut admin) = serve(&fake).await;
        let acks = wait(&mut admin, 8, Duration::from_millis(50)).await.unwrap();
        assert_eq!(acks.complaints(), ["ml/a still serves 7"]);
        assert_eq!(acks.away, ["ml/c"]);
    }
}
