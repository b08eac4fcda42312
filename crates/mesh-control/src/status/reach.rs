//! How far what is in force has come: of the proxies that use something, how many serve it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::name::ObjectName;
use mesh_api::snapshot::Service;

use crate::proxies::Follower;
use crate::view::View;

/// How far something has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many proxies use it.
    pub using: usize,
    /// How many of them serve what is in force of it.
    pub serving: usize,
    /// Why one of the others refuses it, with the workload it stands before.
    pub refusal: Option<String>,
}

impl Count {
    fn add(&mut self, follower: &Follower, serves: bool) {
        self.using += 1;
        self.serving += usize::from(serves);
        if !serves && !follower.refusal.is_empty() && self.refusal.is_none() {
            self.refusal = Some(format!("{}: {}", follower.workload, follower.refusal));
        }
    }
}

/// How far routes, policies and what holds for the whole mesh have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Routes, by the service they are about.
    pub routes: BTreeMap<ObjectName, Count>,
    /// Policies, by the service they are about.
    pub policies: BTreeMap<ObjectName, Count>,
    /// What holds for the whole mesh.
    pub mesh: Count,
}

impl Reach {
    /// How far what a view says has come.
    pub fn of(view: &View, followers: &[Follower]) -> Self {
        let mut reach = Self::default();
        for follower in followers {
            let Some(wanted) = &follower.wanted else { continue };
            let serves = follower.serves.as_ref();
            let mesh = serves.is_some_and(|serves| serves.mesh == *view.mesh());
            reach.mesh.add(follower, mesh);
            for (name, service) in &wanted.services {
                let in_force = view.service(name);
                let served = serves.and_then(|serves| serves.services.get(name));
                let same = |part: fn(&Service, &Service) -> bool| match (in_force, served) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b) || part(a, b),
                    _ => false,
                };
                if in_force.unwrap_or(service).route.is_some() {
                    let count = reach.routes.entry(name.clone()).or_default();
                    count.add(follower, same(|a, b| a.route == b.route));
                }
                let count = reach.policies.entry(name.clone()).or_default();
                count.add(follower, same(|a, b| a.policy == b.policy));
            }
        }
        reach
    }
}
