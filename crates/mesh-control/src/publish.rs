//! Versions of the configuration, and how one proxy follows them: always from what it has to the newest.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::name::ObjectName;
use mesh_api::route::Route;
use mesh_api::snapshot::{Delta, Snapshot, Version};
use tokio::sync::watch;

use crate::file;
use crate::view::{Difference, View};

/// How many versions are promised to the disk at once.
const RESERVE: u64 = 1_000;

/// The configuration last published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its version; 0: nothing is published yet.
    pub version: Version,
    /// What it says.
    pub view: Arc<View>,
    /// The version before it.
    pub before: Version,
    /// In what it differs from that one.
    pub difference: Arc<Difference>,
}

/// Gives versions to configurations, and tells whoever follows. Versions rise over restarts.
#[derive(Debug)]
pub struct Publisher {
    versions: Mutex<Versions>,
    current: watch::Sender<Published>,
}

/// Where versions come from.
#[derive(Debug)]
enum Versions {
    /// Promised to a file.
    Reserve(Reserve),
    /// The time of publishing in milliseconds since 1970, or one more than the last.
    Clock(Version),
}

impl Versions {
    fn take(&mut self) -> io::Result<Version> {
        match self {
            Self::Reserve(reserve) => reserve.take(),
            Self::Clock(last) => {
                last.0 = crate::clock::unix_millis().max(last.0 + 1);
                Ok(*last)
            }
        }
    }
}

/// The versions that no earlier life of the control plane can have used.
#[derive(Debug)]
struct Reserve {
    file: PathBuf,
    next: u64,
    end: u64,
}

impl Publisher {
    /// Begins above every version that was promised in this file.
    ///
    /// # Errors
    /// When the file can't be read, or does not hold a number.
    pub fn open(file: PathBuf, view: View) -> io::Result<Self> {
        let used = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let reason = format!(
                    "{} does not hold a version: remove it if no proxy of this mesh runs",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let reserve = Reserve {
            file,
            next: used + 1,
            end: used,
        };
        Ok(Self::new(Versions::Reserve(reserve), view))
    }

    /// Takes the time of publishing for a version, so that those of several control planes of one mesh, none of which keeps
    /// a file, can be compared: a higher one was published later, as far as their clocks agree.
    pub fn by_clock(view: View) -> Self {
        Self::new(Versions::Clock(Version(0)), view)
    }

    fn new(versions: Versions, view: View) -> Self {
        let nothing = Published {
            version: Version(0),
            view: Arc::new(view),
            before: Version(0),
            difference: Arc::new(Difference::Anything),
        };
        Self {
            versions: Mutex::new(versions),
            current: watch::Sender::new(nothing),
        }
    }

    /// Publishes a configuration that says something else than the last one, and in what. The version that has it.
    ///
    /// # Errors
    /// When a version can't be promised to the disk; nothing is published then.
    pub fn publish(&self, view: View, difference: Difference) -> io::Result<Version> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions.take()?;
        let before = self.version();
        self.current.send_replace(Published {
            version,
            view: Arc::new(view),
            before,
            difference: Arc::new(difference),
        });
        Ok(version)
    }

    /// The configuration last published.
    pub fn current(&self) -> Published {
        self.current.borrow().clone()
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.current.borrow().version
    }

    /// Follows what is published.
    pub fn follow(&self) -> watch::Receiver<Published> {
        self.current.subscribe()
    }
}

impl Reserve {
    fn take(&mut self) -> io::Result<Version> {
        if self.next > self.end {
            let end = self.next.saturating_add(RESERVE);
            file::replace(&self.file, format!("{end}\n").as_bytes(), file::PRIVATE)?;
            self.end = end;
        }
        let version = Version(self.next);
        self.next += 1;
        Ok(version)
    }
}

/// How one proxy follows: one Delta at a time is on its way, and the next one leads from what it has to the newest. What
/// changes nothing for the proxy is not sent. However fast versions come, a slow proxy costs no more than two Snapshots.
#[derive(Debug)]
pub struct Session {
    workload: ObjectName,
    /// What the proxy serves, as far as this control plane knows.
    serves: Option<Arc<Snapshot>>,
    /// What is on its way.
    sent: Option<Arc<Snapshot>>,
    /// The version last looked at.
    last: Version,
    /// The newest version of which the proxy has all that it uses.
    current: Version,
    /// What the proxy uses on demand.
    uses: Uses,
    /// The sequence of the last Uses that a Delta took into account.
    answered: u64,
}

/// What a proxy uses on demand, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Rises each time; 0: nothing was said.
    pub sequence: u64,
    /// Services.
    pub services: Vec<ObjectName>,
    /// Host names that may mean services.
    pub hosts: Vec<String>,
    /// Addresses that may be services' or endpoints'.
    pub addresses: Vec<SocketAddr>,
}

/// What an answer of the proxy meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was about the Delta on its way.
    Expected,
    /// It was about another version than the one on its way.
    Stray,
}

impl Session {
    /// A proxy that serves what is known to be there already; none: it needs everything. So does a proxy that gets services
    /// on demand: which of them it has, its version does not tell.
    pub fn new(workload: ObjectName, serves: Option<Arc<Snapshot>>) -> Self {
        let serves = serves.filter(|snapshot| !snapshot.workload.on_demand);
        let last = serves.as_ref().map_or(Version(0), |snapshot| snapshot.version);
        Self {
            workload,
            serves,
            sent: None,
            last,
            current: last,
            uses: Uses::default(),
            answered: 0,
        }
    }

    /// The proxy uses these from now on.
    pub fn uses(&mut self, uses: Uses) {
        self.uses = uses;
    }

    /// The sequence of the last [`Uses`] that a Delta took into account.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The next Delta; none while one is on its way, when the proxy has all that it uses, or when there is no such Workload.
    /// It changes nothing only where it answers that there is nothing to be had; it has the version that the proxy serves
    /// then.
    pub fn next(&mut self, published: &Published) -> Option<Delta> {
        let answered = self.uses.sequence == self.answered;
        if self.sent.is_some() || (published.version <= self.last && answered) {
            return None;
        }
        if answered && self.current == published.before && !self.concerns(published) {
            (self.last, self.current) = (published.version, published.version);
            return None;
        }
        let used = self.used(&published.view);
        let mut snapshot = published
            .view
            .snapshot(&self.workload, published.version, &used)?;
        self.answered = self.uses.sequence;
        self.last = published.version;
        let mut delta = snapshot.since(self.serves.as_deref());
        if let Some(serves) = self.serves.as_ref().filter(|_| delta.is_empty()) {
            self.current = published.version;
            if answered {
                return None;
            }
            (snapshot.version, delta.version) = (serves.version, serves.version);
        }
        self.sent = Some(Arc::new(snapshot));
        Some(delta)
    }

    /// Whether the difference may be one something for a proxy that has all that it uses of the version before.
    fn concerns(&self, published: &Published) -> bool {
        let (Some(serves), Difference::These { workloads, services }) =
            (&self.serves, &*published.difference)
        else {
            return true;
        };
        let view = &published.view;
        // What a name or an address means follows from the services that claim it.
        let asks = !self.uses.hosts.is_empty() || !self.uses.addresses.is_empty();
        let meant = if asks { self.used(view) } else { BTreeSet::new() };
        let may_use = |service: &ObjectName| {
            serves.services.contains_key(service)
                || self.uses.services.contains(service)
                || meant.contains(service)
                || view.calls(&self.workload, service)
                || leads_to(serves, service)
        };
        workloads.contains(&self.workload) || services.iter().any(may_use)
    }

    /// The services that the proxy uses on demand, as far as they are there.
    pub(crate) fn used(&self, view: &View) -> BTreeSet<ObjectName> {
        let home = &self.workload.namespace;
        let hosts = self.uses.hosts.iter();
        let resolved = hosts.filter_map(|host| view.resolve(host, home));
        let addresses = self.uses.addresses.iter();
        let at = addresses.filter_map(|address| view.at(*address).cloned());
        let services = self.uses.services.iter().cloned();
        services.chain(resolved).chain(at).collect()
    }

    /// The newest version of which the proxy has all that it uses; 0: none.
    pub fn current(&self) -> Version {
        self.current
    }

    /// The proxy serves this version.
    pub fn ack(&mut self, version: Version) -> Answer {
        match self.sent.take_if(|sent| sent.version == version) {
            Some(sent) => {
                self.current = self.current.max(version);
                self.serves = Some(sent);
                Answer::Expected
            }
            None => Answer::Stray,
        }
    }

    /// The proxy refuses this version and serves the one before. It is told again when something changes.
    pub fn nack(&mut self, version: Version) -> Answer {
        match self.sent.take_if(|sent| sent.version == version) {
            Some(_) => Answer::Expected,
            None => Answer::Stray,
        }
    }

    /// What is on its way.
    pub fn sent(&self) -> Option<&Arc<Snapshot>> {
        self.sent.as_ref()
    }

    /// What the proxy serves.
    pub fn serves(&self) -> Option<&Arc<Snapshot>> {
        self.serves.as_ref()
    }
}

/// Whether a route that a proxy serves leads to a service, which need not be there.
fn leads_to(snapshot: &Snapshot, service: &ObjectName) -> bool {
    let routes = snapshot
        .services
        .values()
        .filter_map(|service| service.route.as_ref());
    let mut backends = routes.flat_map(Route::backends);
    backends.any(|backend| backend.service == *service)
}

#[cfg(test)]
mod tests;
