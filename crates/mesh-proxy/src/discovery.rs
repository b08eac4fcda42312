//! Services on demand: a proxy whose Workload says so asks the control plane for a service when it is first called, and
//! lets go of it when it has not been called for long.
//!
//! A request for a host that no known service has is held while the control plane is asked, for a bounded time. Unknown
//! names are remembered for a while, and few are asked for at a time, so that a workload that calls random names costs
//! the control plane next to nothing. Only requests for unknown hosts come here; all others find their service in the
//! Table, as ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use mesh_api::duration::Duration as Span;
use mesh_api::name::ObjectName;
use mesh_api::route::Route;
use mesh_api::snapshot::{Service, Snapshot};
use mesh_api::wire::config::Uses;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::error::{Failure, Reason};
use crate::table::Table;

/// The most host names that are asked for at a time.
const MAX_ASKED: usize = 64;
/// The most host names that are remembered to name no service.
const MAX_ABSENT: usize = 1_024;
/// How long they are.
const ABSENT: Duration = Duration::from_secs(10);
/// The most services that the control plane takes in one [`Uses`].
const MAX_SAID: usize = 1_000;
/// The longest host name that is asked for, in bytes (RFC 1035, §2.3.4).
const MAX_HOST: usize = 253;

/// How services are had on demand, where the Workload says so (`outbound.onDemand`).
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Services on demand")]
pub struct OnDemand {
    /// How long a service that is not called any more is kept; a tenth longer at most; 1s to 24h
    #[arg(long, value_name = "DURATION", default_value_t = OnDemand::default().on_demand_idle, value_parser = up_to_a_day)]
    pub on_demand_idle: Span,

    /// How long a request is held while the control plane is asked for its service; 1s to 24h
    #[arg(long, value_name = "DURATION", default_value_t = OnDemand::default().on_demand_wait, value_parser = up_to_a_day)]
    pub on_demand_wait: Span,

    /// The most services that are kept for having been called, those its Workload names included; 1 to 1000
    #[arg(long, value_name = "N", default_value_t = OnDemand::default().max_on_demand,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_on_demand: u16,
}

impl Default for OnDemand {
    fn default() -> Self {
        Self {
            on_demand_idle: Span::from_millis(600_000),
            on_demand_wait: Span::from_millis(5_000),
            max_on_demand: 500,
        }
    }
}

fn up_to_a_day(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&span.get()) {
        Ok(span)
    } else {
        Err(format!("{text} is not 1s to 24h"))
    }
}

/// Which services are used, and which are asked for.
#[derive(Default)]
pub struct Discovery {
    settings: OnDemand,
    enabled: AtomicBool,
    state: Mutex<State>,
    /// Told when there is something new to say to the control plane.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Of the last [`Uses`].
    sequence: u64,
    /// Whether what is used has changed since then.
    unsaid: bool,
    /// The services called, and when they were last.
    used: BTreeMap<ObjectName, Instant>,
    /// The host names asked for.
    asked: BTreeMap<String, Asked>,
    /// The host names that name no service, and until when they are taken to.
    absent: HashMap<String, Instant>,
}

struct Asked {
    /// In which [`Uses`]; 0: in none yet.
    sequence: u64,
    /// Whether the service is there; none: nobody knows yet.
    found: watch::Sender<Option<bool>>,
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

    /// Asks the control plane for the service that a host names. When this returns without an error, a Table that knows
    /// it is in effect.
    ///
    /// # Errors
    /// When there is no such service, too many are used or asked for, or the control plane does not say in time.
    pub async fn resolve(&self, host: &str) -> Result<(), Failure> {
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        if !self.is_enabled() || !is_host(host) {
            return Err(no_such_service(host));
        }
        let mut found = self.ask(host)?;
        let answer = tokio::time::timeout(
            self.settings.on_demand_wait.get(),
            found.wait_for(Option::is_some),
        );
        let answer = match answer.await {
            Ok(Ok(answer)) => *answer,
            // Asked for no longer: others gave up before.
            Ok(Err(_)) | Err(_) => None,
        };
        match answer {
            Some(true) => Ok(()),
            Some(false) => Err(no_such_service(host)),
            None => {
                self.lock().asked.remove(host);
                let detail =
                    format!("the control plane does not say in time whether {host:?} names a service");
                Err(Failure::new(Reason::Unresolved, detail))
            }
        }
    }

    fn ask(&self, host: &str) -> Result<watch::Receiver<Option<bool>>, Failure> {
        let mut state = self.lock();
        if let Some(asked) = state.asked.get(host) {
            return Ok(asked.found.subscribe());
        }
        if state
            .absent
            .get(host)
            .is_some_and(|until| *until > Instant::now())
        {
            return Err(no_such_service(host));
        }
        if state.asked.len() >= MAX_ASKED || state.used.len() + state.asked.len() >= self.most() {
            let detail = format!(
                "{} services are used on demand and {} asked for: {host:?} is not asked for (--max-on-demand)",
                state.used.len(),
                state.asked.len()
            );
            return Err(Failure::new(Reason::TooManyServices, detail));
        }
        let (sender, found) = watch::channel(None);
        let asked = Asked {
            sequence: 0,
            found: sender,
        };
        state.asked.insert(host.to_owned(), asked);
        state.unsaid = true;
        self.changed.notify_one();
        Ok(found)
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
            state.asked.clear();
            return None;
        }
        state.sequence += 1;
        let sequence = state.sequence;
        state
            .asked
            .values_mut()
            .for_each(|asked| asked.sequence = sequence);
        Some(Uses {
            sequence,
            services: state.used.keys().map(ToString::to_string).collect(),
            hosts: state.asked.keys().cloned().collect(),
        })
    }

    /// Whether a Delta takes all into account that was said.
    pub fn is_answered(&self, sequence: u64) -> bool {
        sequence >= self.lock().sequence
    }

    /// The Table takes everything into account that was said up to this sequence.
    pub fn answered(&self, sequence: u64, table: &Table) {
        let now = Instant::now();
        let mut state = self.lock();
        let State {
            asked, used, absent, ..
        } = &mut *state;
        asked.retain(|host, waiting| {
            if waiting.sequence == 0 || waiting.sequence > sequence {
                return true;
            }
            match table.service(host) {
                Some(service) => {
                    used.insert(service.name.clone(), now);
                    waiting.found.send_replace(Some(true));
                }
                None => {
                    if absent.len() >= MAX_ABSENT {
                        absent.retain(|_, until| *until > now);
                    }
                    // When all of them are fresh, this one is asked for again next time: few are, at a time.
                    if absent.len() < MAX_ABSENT {
                        absent.insert(host.clone(), now + ABSENT);
                    }
                    waiting.found.send_replace(Some(false));
                }
            }
            false
        });
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

/// The fewest services whose routes lead to all others: of those that lead to each other in a circle, the first by name.
fn origins(services: &BTreeMap<ObjectName, Arc<Service>>) -> Vec<ObjectName> {
    let behind = |name: &ObjectName| {
        let route = services.get(name).and_then(|service| service.route.as_ref());
        let backends = route.into_iter().flat_map(Route::backends);
        backends
            .map(|backend| backend.service.clone())
            .collect::<BTreeSet<_>>()
    };
    let mut led_to = BTreeSet::new();
    for name in services.keys() {
        led_to.extend(behind(name).into_iter().filter(|other| other != name));
    }
    let (later, first): (Vec<_>, Vec<_>) = services.keys().partition(|name| led_to.contains(name));
    let mut reached = BTreeSet::new();
    let mut origins = Vec::new();
    for name in first.into_iter().chain(later) {
        if reached.contains(name) {
            continue;
        }
        origins.push(name.clone());
        let mut open = vec![name.clone()];
        while let Some(name) = open.pop() {
            if reached.insert(name.clone()) {
                open.extend(behind(&name));
            }
        }
    }
    origins
}

fn no_such_service(host: &str) -> Failure {
    Failure::new(Reason::NoSuchService, format!("{host:?} names no service"))
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
