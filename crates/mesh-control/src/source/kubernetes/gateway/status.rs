//! What is said on the status of routes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use mesh_api::kubernetes::{ConditionType, Conditions as _, condition};

use super::parsed::Parsed;
use super::types::{ParentRef, ParentStatus};

/// The name under which the mesh speaks on the status of routes.
pub const CONTROLLER: &str = "mesh.dev/mesh-control";

/// Whether a condition holds, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it does.
    pub holds: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Judgement {
    pub(super) fn good(reason: &'static str, message: String) -> Self {
        let holds = true;
        Self {
            holds,
            reason,
            message,
        }
    }

    /// That it does not hold.
    pub fn bad(reason: &'static str, message: String) -> Self {
        let holds = false;
        Self {
            holds,
            reason,
            message,
        }
    }

    fn condition(&self, of: ConditionType, generation: Option<i64>, now: &Time) -> Condition {
        condition(
            of,
            self.holds,
            self.reason,
            self.message.as_str(),
            generation,
            now.clone(),
        )
    }
}

/// What is to be said of a route and one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The parent.
    pub parent: ParentRef,
    /// Whether the route is in force for it.
    pub accepted: Judgement,
    /// Whether all that the route names is there.
    pub resolved_refs: Judgement,
}

/// What a route's status is to say of all its parents, those of other controllers included; none: it says so already.
pub fn parents(route: &Parsed, verdicts: &[Verdict], now: &Time) -> Option<Vec<ParentStatus>> {
    let ours = |status: &&ParentStatus| status.controller_name == CONTROLLER;
    let mut all: Vec<ParentStatus> = route.said.iter().filter(|it| !ours(it)).cloned().collect();
    for verdict in verdicts {
        let before = route
            .said
            .iter()
            .filter(ours)
            .find(|it| it.parent_ref == verdict.parent);
        let mut conditions = before.map(|it| it.conditions.clone()).unwrap_or_default();
        conditions.set([
            verdict
                .accepted
                .condition(ConditionType::Accepted, route.generation, now),
            verdict
                .resolved_refs
                .condition(ConditionType::ResolvedRefs, route.generation, now),
        ]);
        all.push(ParentStatus {
            parent_ref: verdict.parent.clone(),
            controller_name: CONTROLLER.into(),
            conditions,
        });
    }
    let same = all.len() == route.said.len() && all.iter().all(|status| route.said.contains(status));
    (!same).then_some(all)
}
