//! Services on demand: a proxy whose Workload says so asks the control plane for a service when it is first called, and
//! lets go of it when it has not been called for long.
//!
//! A request for a host, or a connection to an address, that no known service has is held while the control plane is
//! asked, for a bounded time. What stands for no service is remembered for a while, and few are asked for at a time, so
//! that a workload that calls random names costs the control plane next to nothing. Only what is unknown comes here; all
//! else finds its service in the Table, as ever.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_api::name::ObjectName;
use mesh_api::snapshot::Snapshot;
use mesh_api::wire::config::Uses;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::error::{Failure, Reason};
use crate::table::Table;

mod asking;
mod origins;
mod settings;

pub use settings::OnDemand;

use asking::{Answer, Answered, Asking, Sought};
use origins::origins;

/// The most host names that are asked for at a time, and that are remembered to name no service.
const HOSTS: (usize, usize) = (64, 1_024);
/// The same of addresses. Others than the workload seldom choose them, and what is none of the mesh's has some too.
const ADDRESSES: (usize, usize) = (1_024, 4_096);
/// The most services that the control plane takes in one [`Uses`].
const MAX_SAID: usize = 1_000;
/// The longest host name that is asked for, in bytes (RFC 1035, §2.3.4).
const MAX_HOST: usize = 253;

/// Which services are used, and which are asked for.
#[derive(Default)]
pub struct Discovery {
    settings: OnDemand,
    enabled: AtomicBool,
    /// Whether the control plane can be asked now.
    connected: AtomicBool,
    state: Mutex<State>,
    /// Told when there is something new to say to the control plane.
    changed: Notify,
}

struct State {
    /// Of the last [`Uses`].
    sequence: u64,
    /// Whether what is used has changed since then.
    unsaid: bool,
    /// The services called, and when they were last.
    used: BTreeMap<ObjectName, Instant>,
    hosts: Asking,
    addresses: Asking,
}

impl Default for State {
    fn default() -> Self {
        Self {
            sequence: 0,
            unsaid: false,
            used: BTreeMap::new(),
            hosts: Asking::new(HOSTS.0, HOSTS.1),
            addresses: Asking::new(ADDRESSES.0, ADDRESSES.1),
        }
    }
}

impl State {
    fn asking(&mut self, sought: &Sought) -> &mut Asking {
        match sought {
            Sought::Host(_) => &mut self.hosts,
            Sought::Address(_) => &mut self.addresses,
        }
    }
}

impl Discovery {
    /// Nothing is used yet, and nothing may be asked for.
    pub fn new(settings: OnDemand) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Whether services may be asked for.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// A configuration is in effect. What the first one knows counts as used, unless it came with something else that is: a
    /// proxy that starts anew must not lose what it had.
    pub fn configure(&self, snapshot: &Snapshot) {
        let enabled = snapshot.workload.on_demand;
        if self.enabled.swap(enabled, Ordering::Relaxed) || !enabled {
            return;
        }
        let now = Instant::now();
        let known = origins(&snapshot.services).into_iter().take(MAX_SAID);
        self.lock().used = known.map(|name| (name.clone(), now)).collect();
    }

    /// Whether the control plane can be asked: the configuration stream is open.
    pub fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Whether a host names a service: then a Table that knows it is in effect. Asks the control plane.
    ///
    /// # Errors
    /// When too many services are used or asked for, or the control plane does not say in time.
    pub async fn resolve(&self, host: &str) -> Result<bool, Failure> {
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        if !self.is_enabled() || !is_host(host) {
            return Ok(false);
        }
        self.answer(Sought::Host(host.to_owned())).await
    }

    /// Whether an address stands for a service or one of its endpoints: then a Table that knows it is in effect. Asks the
    /// control plane.
    ///
    /// # Errors
    /// When too many services are used or asked for, or the control plane does not say in time.
    pub async fn resolve_address(&self, address: SocketAddr) -> Result<bool, Failure> {
        if !self.is_enabled() {
            return Ok(false);
        }
        self.answer(Sought::Address(address)).await
    }

    async fn answer(&self, sought: Sought) -> Result<bool, Failure> {
        let Some(mut answered) = self.ask(&sought)? else {
            return Ok(false);
        };
        let heard = timeout(
            self.settings.on_demand_wait.get(),
            answered.wait_for(Option::is_some),
        );
        // Asked for no longer: others gave up before.
        let answer = heard.await.ok().and_then(Result::ok).and_then(|answer| *answer);
        match answer {
            Some(Answer::There) => Ok(true),
            Some(Answer::Absent) => Ok(false),
            Some(Answer::TooMany) => Err(self.too_many(&self.lock(), &sought)),
            None => {
                let mut state = self.lock();
                let asking = state.asking(&sought);
                asking.give_up(&sought);
                if asking.was_absent(&sought) {
                    return Ok(false);
                }
                let detail =
                    format!("the control plane does not say in time whether {sought} stands for a service");
                Err(Failure::new(Reason::Unresolved, detail))
            }
        }
    }

    /// Asks, unless it is known to stand for no service: then there is nothing to wait for.
    fn ask(&self, sought: &Sought) -> Result<Option<Answered>, Failure> {
        let mut state = self.lock();
        let used = state.used.len();
        let asking = state.asking(sought);
        if let Some(answered) = asking.join(sought) {
            return Ok(Some(answered));
        }
        // Without a control plane what was so stays so: what is in use goes on.
        let connected = self.connected.load(Ordering::Relaxed);
        if asking.is_absent(sought) || (!connected && asking.was_absent(sought)) {
            return Ok(None);
        }
        // An address that stands for no service must pass, however many services there are: it is asked for all the same.
        let no_room = matches!(sought, Sought::Host(_)) && used + asking.len() >= self.most();
        if asking.is_full() || no_room {
            return Err(self.too_many(&state, sought));
        }
        let answered = asking.ask(sought.clone());
        state.unsaid = true;
        self.changed.notify_one();
        Ok(Some(answered))
    }

    fn too_many(&self, state: &State, sought: &Sought) -> Failure {
        let detail = format!(
            "{} services are used on demand, {} hosts and {} addresses asked for: no room for {sought} (--max-on-demand {})",
            state.used.len(),
            state.hosts.len(),
            state.addresses.len(),
            self.most(),
        );
        Failure::new(Reason::TooManyServices, detail)
    }

    /// Waits until there is something new to say.
    pub async fn changed(&self) {
        while !self.lock().unsaid {
            self.changed.notified().await;
        }
    }

    /// What is to be said to the control plane now; none: nothing is had on demand.
    pub fn uses(&self) -> Option<Uses> {
        let mut state = self.lock();
        state.unsaid = false;
        if !self.is_enabled() {
            // Whoever waits learns that nobody will say.
            state.hosts.give_all_up();
            state.addresses.give_all_up();
            return None;
        }
        state.sequence += 1;
        let sequence = state.sequence;
        state.hosts.said(sequence);
        state.addresses.said(sequence);
        let hosts = state.hosts.asked().filter_map(|sought| match sought {
            Sought::Host(host) => Some(host.clone()),
            Sought::Address(_) => None,
        });
        let addresses = state.addresses.asked();
        Some(Uses {
            sequence,
            services: state.used.keys().map(ToString::to_string).collect(),
            hosts: hosts.collect(),
            addresses: addresses.map(ToString::to_string).collect(),
        })
    }

    /// Whether a Delta takes all into account that was said.
    pub fn is_answered(&self, sequence: u64) -> bool {
        sequence >= self.lock().sequence
    }

    /// The Table takes everything into account that was said up to this sequence.
    pub fn answered(&self, sequence: u64, table: &Table) {
        let (now, most) = (Instant::now(), self.most());
        let mut state = self.lock();
        let State {
            used,
            hosts,
            addresses,
            unsaid,
            ..
        } = &mut *state;
        let mut answer = |sought: &Sought| {
            let service = match sought {
                Sought::Host(host) => table.service(host).map(|service| service.name.clone()),
                Sought::Address(address) => table
                    .destination(*address)
                    .map(|known| known.port.service.clone()),
            };
            match service {
                None => Answer::Absent,
                Some(service) if used.len() < most || used.contains_key(&service) => {
                    used.insert(service, now);
                    Answer::There
                }
                Some(_) => {
                    // It is let go of again.
                    *unsaid = true;
                    Answer::TooMany
                }
            }
        };
        hosts.settle(sequence, &mut answer);
        addresses.settle(sequence, &mut answer);
        if *unsaid {
            self.changed.notify_one();
        }
    }

    /// How often to [`sweep`](Self::sweep).
    pub fn sweep_interval(&self) -> Duration {
        self.settings.on_demand_idle.get() / 10
    }

    /// Sees which services were called since the last time, and lets go of those that were not for long.
    pub fn sweep(&self, table: &Table) {
        if !self.is_enabled() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        for service in table.services() {
            if service.take_called()
                && (state.used.len() < self.most() || state.used.contains_key(&service.name))
            {
                state.used.insert(service.name.clone(), now);
            }
        }
        let before = state.used.len();
        let idle = self.settings.on_demand_idle.get();
        state.used.retain(|_, called| now.duration_since(*called) < idle);
        if state.used.len() < before {
            state.unsaid = true;
            self.changed.notify_one();
        }
    }

    /// How many services are kept for having been called.
    pub fn used(&self) -> usize {
        self.lock().used.len()
    }

    fn most(&self) -> usize {
        usize::from(self.settings.max_on_demand)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a host can name a service at all: an address can't.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=MAX_HOST).contains(&host.len())
        && host.bytes().all(allowed)
        && host.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests;
