//! Who follows the configuration, and which version each proxy serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_api::name::ObjectName;
use mesh_api::snapshot::{Snapshot, Version};
use mesh_api::wire::admin;
use tokio::sync::watch;

use crate::ca::TrustId;

/// How long a proxy that went away is remembered, in seconds.
const REMEMBERED: i64 = 600;
/// The most proxies that are remembered, connected or not.
const MAX_PROXIES: usize = 10_000;
/// The most proxies of one workload.
pub const MAX_OF_WORKLOAD: usize = 64;

/// One start of the proxy of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyKey {
    /// The workload it stands before.
    pub workload: ObjectName,
    /// Unique for each start.
    pub id: String,
}

/// All proxies that are known.
#[derive(Debug)]
pub struct Proxies {
    known: Mutex<BTreeMap<ProxyKey, Known>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    software: String,
    /// Which of its connections counts; an older one that still lingers says nothing any more.
    connection: u64,
    connected: bool,
    since: i64,
    gone: i64,
    version: Version,
    sent: Version,
    acked: i64,
    refusal: String,
    certificate_expiry: i64,
    /// What it was sent last.
    wanted: Option<Arc<Snapshot>>,
    serves: Option<Arc<Snapshot>>,
    trust: TrustId,
}

/// How many proxies have what they should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrustCounts {
    /// All that are connected.
    pub proxies: usize,
    /// Of these, those that trust just what they should.
    pub trusting: usize,
    /// Of these, those whose certificate is signed by the root that signs.
    pub signed: usize,
}

/// A connected proxy, as the status of objects sees it.
#[derive(Clone, Debug)]
pub struct Follower {
    /// The workload it stands before.
    pub workload: ObjectName,
    /// What it was sent last, which says what it uses.
    pub wanted: Option<Arc<Snapshot>>,
    /// What it serves.
    pub serves: Option<Arc<Snapshot>>,
    /// Why it refused what it was sent last; empty: it did not.
    pub refusal: String,
}

/// What a proxy says when it connects.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The version of its software.
    pub software: String,
    /// The configuration it serves; 0: none.
    pub version: Version,
    /// When its certificate ends, in seconds since 1970.
    pub certificate_expiry: i64,
    /// What came with its certificate.
    pub trust: TrustId,
}

/// There are too many proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_PROXIES} proxies are connected, or {MAX_OF_WORKLOAD} of this workload, and no more are taken")]
pub struct TooMany;

/// A connected proxy, until this is dropped.
#[derive(Debug)]
pub struct Connected {
    proxies: Arc<Proxies>,
    key: ProxyKey,
    connection: u64,
}

impl Default for Proxies {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Proxies {
    /// Takes a proxy that connects, and tells what it is known to serve.
    ///
    /// # Errors
    /// When too many are connected.
    pub fn connect(
        self: &Arc<Self>,
        key: ProxyKey,
        hello: Hello,
        now: i64,
    ) -> Result<(Connected, Option<Arc<Snapshot>>), TooMany> {
        let mut known = self.lock();
        // A proxy that started anew leaves its former life behind.
        known.retain(|other, proxy| {
            proxy.connected
                || (now - proxy.gone < REMEMBERED && (other.workload != key.workload || *other == key))
        });
        let of_workload = known
            .keys()
            .filter(|other| other.workload == key.workload)
            .count();
        if (known.len() >= MAX_PROXIES || of_workload >= MAX_OF_WORKLOAD) && !known.contains_key(&key) {
            return Err(TooMany);
        }
        let proxy = known.entry(key.clone()).or_default();
        let serves = proxy.serves.take_if(|snapshot| snapshot.version == hello.version);
        *proxy = Known {
            software: hello.software,
            connection: proxy.connection + 1,
            connected: true,
            since: now,
            gone: 0,
            version: hello.version,
            sent: hello.version,
            acked: if serves.is_some() { proxy.acked } else { 0 },
            refusal: String::new(),
            certificate_expiry: hello.certificate_expiry,
            wanted: serves.clone(),
            serves: serves.clone(),
            trust: hello.trust,
        };
        let connected = Connected {
            proxies: self.clone(),
            connection: proxy.connection,
            key,
        };
        drop(known);
        self.tell();
        Ok((connected, serves))
    }

    /// Notes when a proxy's certificate ends, in seconds since 1970.
    pub fn certificate(&self, key: &ProxyKey, expiry: i64) {
        let changed = match self.lock().get_mut(key) {
            Some(proxy) if expiry != 0 && proxy.certificate_expiry != expiry => {
                proxy.certificate_expiry = expiry;
                true
            }
            _ => false,
        };
        if changed {
            self.tell();
        }
    }

    /// All that are known, in the order of workload and id.
    pub fn list(&self, published: Version, now: i64) -> admin::ProxyList {
        let mut known = self.lock();
        known.retain(|_, proxy| proxy.connected || now - proxy.gone < REMEMBERED);
        let proxies = known.iter().map(|(key, proxy)| admin::Proxy {
            workload: key.workload.to_string(),
            proxy_id: key.id.clone(),
            software: proxy.software.clone(),
            connected: proxy.connected,
            version: proxy.version.0,
            sent: proxy.sent.0,
            acked: proxy.acked,
            refusal: proxy.refusal.clone(),
            certificate_expiry: proxy.certificate_expiry,
            connected_since: if proxy.connected { proxy.since } else { 0 },
        });
        admin::ProxyList {
            proxies: proxies.collect(),
            version: published.0,
        }
    }

    /// How many of those that are connected have this.
    pub fn trust(&self, wanted: &TrustId) -> TrustCounts {
        let mut counts = TrustCounts::default();
        for proxy in self.lock().values().filter(|proxy| proxy.connected) {
            counts.proxies += 1;
            counts.trusting += usize::from(proxy.trust.bundle == wanted.bundle);
            counts.signed += usize::from(proxy.trust.signer == wanted.signer);
        }
        counts
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.lock().values().filter(|proxy| proxy.connected).count()
    }

    /// How many have all that they use of a version.
    pub fn current(&self, version: Version) -> usize {
        let known = self.lock();
        let connected = known.values().filter(|proxy| proxy.connected);
        connected.filter(|proxy| proxy.version >= version).count()
    }

    /// Those that are connected.
    pub fn followers(&self) -> Vec<Follower> {
        let known = self.lock();
        let connected = known.iter().filter(|(_, proxy)| proxy.connected);
        let followers = connected.map(|(key, proxy)| Follower {
            workload: key.workload.clone(),
            wanted: proxy.wanted.clone(),
            serves: proxy.serves.clone(),
            refusal: proxy.refusal.clone(),
        });
        followers.collect()
    }

    /// Tells when the list changes.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProxyKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    /// This went to the proxy, and with it all that it uses of a version.
    pub fn sent(&self, wanted: Arc<Snapshot>, version: Version) {
        self.change(|proxy| {
            proxy.sent = version;
            proxy.wanted = Some(wanted);
            proxy.refusal.clear();
        });
    }

    /// The proxy serves this, and with it all that it uses of this version.
    pub fn acked(&self, serves: Arc<Snapshot>, version: Version, now: i64) {
        self.change(|proxy| {
            proxy.version = version;
            proxy.acked = now;
            proxy.refusal.clear();
            proxy.serves = Some(serves);
        });
    }

    /// The proxy has a certificate that came with this.
    pub fn trusts(&self, trust: TrustId) {
        self.change(|proxy| proxy.trust = trust);
    }

    /// Nothing that the proxy uses has changed up to this version.
    pub fn current(&self, version: Version) {
        self.change(|proxy| {
            (proxy.version, proxy.sent) = (version, version);
            proxy.refusal.clear();
        });
    }

    /// The proxy can't be brought to the newest version, for this reason.
    pub fn refused(&self, reason: &str) {
        self.change(|proxy| proxy.refusal = reason.to_owned());
    }

    /// Whether the same proxy has connected again meanwhile.
    pub fn replaced(&self) -> bool {
        let known = self.proxies.lock();
        known
            .get(&self.key)
            .is_none_or(|proxy| proxy.connection != self.connection)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        if let Some(proxy) = self.proxies.lock().get_mut(&self.key)
            && proxy.connection == self.connection
        {
            change(proxy);
        }
        self.proxies.tell();
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let now = crate::clock::unix_now();
        self.change(|proxy| {
            proxy.connected = false;
            proxy.gone = now;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(workload: &str, id: &str) -> ProxyKey {
        ProxyKey {
            workload: workload.parse().unwrap(),
            id: id.into(),
        }
    }

    fn hello(version: u64) -> Hello {
        Hello {
            software: "mesh-proxy 0.1.0".into(),
            version: Version(version),
            certificate_expiry: 9,
            trust: TrustId::default(),
        }
    }

    fn listed(proxies: &Proxies, now: i64) -> Vec<(String, bool)> {
        let list = proxies.list(Version(1), now).proxies;
        list.into_iter()
            .map(|proxy| (proxy.proxy_id, proxy.connected))
            .collect()
    }

    #[test]
    fn a_new_start_replaces_the_former_one_and_a_second_one_stands_beside() {
        let proxies = Arc::new(Proxies::default());
        let now = crate::clock::unix_now();
        let (first, _) = proxies.connect(key("ml/a", "1"), hello(0), now).unwrap();
        let (second, _) = proxies.connect(key("ml/a", "2"), hello(0), now).unwrap();
        assert_eq!(listed(&proxies, now), [("1".into(), true), ("2".into(), true)]);
        drop(first);
        assert_eq!(listed(&proxies, now), [("1".into(), false), ("2".into(), true)]);
        drop(second);
        let (_third, _) = proxies.connect(key("ml/a", "3"), hello(0), now).unwrap();
        assert_eq!(listed(&proxies, now), [("3".into(), true)]);
    }

    #[test]
    fn a_lingering_connection_says_nothing_any_more() {
        let proxies = Arc::new(Proxies::default());
        let now = crate::clock::unix_now();
        let (old, _) = proxies.connect(key("ml/a", "1"), hello(3), now).unwrap();
        let (new, _) = proxies.connect(key("ml/a", "1"), hello(3), now).unwrap();
        assert!(old.replaced() && !new.replaced());
        old.refused("late");
        drop(old);
        let list = proxies.list(Version(3), now).proxies;
        assert!(list[0].connected && list[0].refusal.is_empty());
    }

    #[test]
    fn what_proxies_trust_is_counted_while_they_are_connected() {
        let proxies = Arc::new(Proxies::default());
        let (old, mixed, new) = (TrustId::read("a.1"), TrustId::read("a.2"), TrustId::read("b.2"));
        let saying = |id: &str, trust: &TrustId| {
            let hello = Hello {
                trust: trust.clone(),
                ..hello(0)
            };
            proxies.connect(key("ml/a", id), hello, 1).unwrap().0
        };
        let (first, second, third) = (
            saying("1", &old),
            saying("2", &mixed),
            saying("3", &TrustId::default()),
        );
        let counts = |proxies, trusting, signed| TrustCounts {
            proxies,
            trusting,
            signed,
        };
        assert_eq!(proxies.trust(&mixed), counts(3, 1, 2));
        first.trusts(new.clone());
        assert_eq!(proxies.trust(&new), counts(3, 2, 1));
        drop((second, third));
        assert_eq!(proxies.trust(&new), counts(1, 1, 1));
    }

    #[test]
    fn proxies_that_went_away_are_forgotten() {
        let proxies = Arc::new(Proxies::default());
        let now = crate::clock::unix_now();
        let (gone, _) = proxies.connect(key("ml/a", "1"), hello(0), now).unwrap();
        drop(gone);
        assert_eq!(listed(&proxies, now + REMEMBERED - 5).len(), 1);
        assert!(listed(&proxies, now + REMEMBERED + 60).is_empty());
    }
}
