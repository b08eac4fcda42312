//! Changes through the API server, one at a time, until the last proxy that uses what changed has acknowledged it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mesh_api::name::ObjectName;
use mesh_api::route::Rule;
use mesh_api::snapshot::Snapshot;

use crate::control::Control;
use crate::objects::{CANARY, NAMESPACE, Place, STABLE, Size, address, service_name};
use crate::proxies::Fleet;
use crate::report::{Series, Times};
use crate::server::Server;

/// What the slowest hundredth of changes may take.
const WEIGHT_AIM: Duration = Duration::from_secs(1);
const ENDPOINT_AIM: Duration = Duration::from_millis(200);
/// How long between two changes.
const PAUSE: Duration = Duration::from_millis(100);

/// A change of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The canary of the route gets this weight.
    Weight(u32),
    /// The first endpoint of a Service becomes ready, or stops being so.
    Endpoint { service: usize, ready: bool },
}

impl Change {
    async fn make(self, server: &Server, size: Size) -> Result<()> {
        match self {
            Self::Weight(canary) => server.set_weight(canary).await,
            Self::Endpoint { service, ready } => server.set_ready(service, size, ready).await,
        }
    }

    /// Who is to be told.
    fn users(self, size: Size) -> BTreeSet<usize> {
        match self {
            Self::Weight(_) => size.users(STABLE),
            Self::Endpoint { service, .. } => size.users(service),
        }
    }

    fn aim(self) -> Duration {
        match self {
            Self::Weight(_) => WEIGHT_AIM,
            Self::Endpoint { .. } => ENDPOINT_AIM,
        }
    }

    /// Whether a proxy has it.
    fn holds(self, snapshot: &Snapshot) -> bool {
        self.has(snapshot).unwrap_or(false)
    }

    fn has(self, snapshot: &Snapshot) -> Option<bool> {
        match self {
            Self::Weight(canary) => {
                let route = snapshot.services.get(&name(STABLE)?)?.route.as_ref()?;
                let mut backends = route.rules.iter().flat_map(Rule::backends);
                let to = name(CANARY)?;
                Some(backends.any(|backend| backend.service == to && backend.weight == canary))
            }
            Self::Endpoint { service, ready } => {
                let place = Place { service, endpoint: 0 };
                let ip: IpAddr = address(place).parse().ok()?;
                let endpoints = &snapshot.services.get(&name(service)?)?.endpoints;
                let mut addresses = endpoints.iter().flat_map(|endpoint| endpoint.addresses.values());
                Some(ready == addresses.any(|it| it.ip() == ip))
            }
        }
    }
}

fn name(service: usize) -> Option<ObjectName> {
    format!("{NAMESPACE}/{}", service_name(service)).parse().ok()
}

/// Makes changes, and measures each.
pub(crate) async fn series(
    what: &'static str,
    count: usize,
    change: impl Fn(usize) -> Change,
    server: &Server,
    control: &mut Control,
    fleet: &mut Fleet,
) -> Result<Series> {
    let before = control.cpu()?;
    let (mut times, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let (mut told, mut bytes) = (0, 0);
    for number in 0..count {
        let change = change(number);
        let users = change.users(fleet.size);
        let started = Instant::now();
        change.make(server, fleet.size).await?;
        answers.push(started.elapsed());
        let arrived = fleet.until(&users, |_, snapshot| change.holds(snapshot)).await;
        let arrived = arrived.with_context(|| format!("{change:?}\n{}", control.last_words()))?;
        times.push(arrived.at.duration_since(started));
        told += users.len();
        bytes += arrived.bytes;
        control.check()?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Series {
        what,
        aim: change(0).aim(),
        told_each: told as f64 / count as f64,
        times: Times::of(times),
        answers: Times::of(answers),
        cpu_each: (control.cpu()? - before).div_f64(count as f64),
        bytes_each: bytes as f64 / told as f64,
        resident: control.resident()?,
    })
}
