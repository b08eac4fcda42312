//! What changes while the load runs: weights, routes, endpoints, policies; the control plane dies, and a sidecar is
//! replaced.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use mesh_e2e::canary::split;
use mesh_e2e::documents::{backend, object, route, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::server::Server;
use serde_json::{Value, json};

/// The sidecar that is replaced.
pub(crate) const REPLACED: &str = "caller-1";
/// How often the control plane is killed, and how long it stays away.
const KILL: Duration = Duration::from_secs(75);
const AWAY: Duration = Duration::from_secs(5);
/// How often the sidecar is replaced.
const REPLACE: Duration = Duration::from_secs(50);

/// What has changed so far.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The workload that comes and goes behind `stable`, and itself when it serves nothing.
    there: Value,
    away: Value,
    configurations: u32,
    kills: u32,
    replacements: u32,
}

impl Changes {
    /// Nothing yet. `second` serves `stable` too, now and then; its sidecar listens at `port`.
    pub(crate) fn new(second: &Server, port: u16) -> Self {
        let of = |service| workload("stable-2", service, second.port(), port, super::PROTOCOL);
        Self {
            there: of("stable"),
            away: of("nothing"),
            configurations: 0,
            kills: 0,
            replacements: 0,
        }
    }

    /// Changes the next thing.
    pub(crate) async fn next(&mut self, mesh: &mut Mesh, elapsed: Duration) -> Result<()> {
        let due = |every: Duration, done: u32| elapsed > every * (done + 1);
        if due(KILL, self.kills) {
            self.kills += 1;
            mesh.kill_control()?;
            tokio::time::sleep(AWAY).await;
            mesh.start_control().await?;
        }
        if due(REPLACE, self.replacements) {
            self.replacements += 1;
            mesh.proxy(REPLACED)?.upgrade().await?;
        }
        let number = self.configurations;
        self.configurations += 1;
        match number % 5 {
            0 => mesh.apply(&split([90 - number % 80, 10 + number % 80])).await?,
            1 => {
                let weights = [("stable", 95 - number % 90), ("canary", 5 + number % 90)];
                mesh.set_split("fraud", &weights).await?
            }
            2 => mesh.apply(&more_rules(number)).await?,
            3 if number % 10 == 3 => mesh.apply(&self.away).await?,
            3 => mesh.apply(&self.there).await?,
            _ => mesh.apply(&policy(number)).await?,
        };
        Ok(())
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} configurations, {} deaths of the control plane, {} replacements",
            self.configurations, self.kills, self.replacements
        )
    }
}

/// A route of `fraud` with many rules before its split.
fn more_rules(number: u32) -> Value {
    let mut rules: Vec<Value> = (0..20 + number % 30)
        .map(|rule| json!({"matches": [{"model": format!("other-{rule}")}], "split": {"backends": [backend("canary", 1)]}}))
        .collect();
    let backends = [backend("stable", 10), backend("canary", 1 + number % 7)];
    rules.push(json!({"name": "split", "matches": [{"model": "fraud"}], "split": {"backends": backends}}));
    route("fraud", &json!(rules))
}

fn policy(number: u32) -> Value {
    let algorithm = ["peak-ewma", "least-request", "round-robin", "random"][number as usize / 5 % 4];
    object(
        "TrafficPolicy",
        "stable",
        &json!({"service": "stable", "loadBalancing": {"algorithm": algorithm}}),
    )
}
