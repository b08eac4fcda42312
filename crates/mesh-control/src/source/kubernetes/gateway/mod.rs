//! HTTPRoutes and GRPCRoutes of the Gateway API whose parents are Services (GAMMA, GEP-1294): pure functions from them, and
//! from what is known of Services, to rules of the one Route model and to what is said on their status.
//!
//! [`compile`] is the way in. A Service that has routes is given the rules of [`Compiled::rules`], which [`combine`] puts
//! together with those of its ModelRoute.

mod attach;
mod backends;
mod combine;
mod filters;
mod grants;
mod grpc_route;
mod http_route;
mod names;
mod parsed;
mod precedence;
mod status;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Rule;

pub use combine::combine;
pub use grants::Grant;
use grants::Grants;
pub use parsed::{Key, Kind, Parsed};
pub use status::{CONTROLLER, Judgement, Verdict, parents};
pub use types::*;

/// What is known of Services.
pub trait Services {
    /// The ports of a Service, by number and by the name the mesh knows them by; none: there is no such Service.
    fn ports(&self, service: &ObjectName) -> Option<Vec<(u16, Name)>>;

    /// Whether a Service has an address of its own, so that requests can be sent to it: a headless one has none.
    fn is_routable(&self, service: &ObjectName) -> bool;
}

/// What routes come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// The rules of each Service that has routes, in order, without those of its ModelRoute.
    pub rules: BTreeMap<ObjectName, Vec<Rule>>,
    /// What is to be said on the status of each route, for each of its parents that is a Service.
    pub verdicts: BTreeMap<Key, Vec<Verdict>>,
}

/// Compiles routes, which lead to Services of other namespaces where a grant says that they may. The order they come in does
/// not matter.
pub fn compile<'a>(
    routes: impl IntoIterator<Item = &'a Parsed>,
    services: &impl Services,
    grants: impl IntoIterator<Item = &'a Grant>,
) -> Compiled {
    let grants = Grants::new(grants);
    let mut routes: Vec<&Parsed> = routes.into_iter().collect();
    routes.sort_by(|a, b| (a.created, &a.key).cmp(&(b.created, &b.key)));
    let resolved: Vec<_> = routes
        .iter()
        .map(|route| backends::resolve(route, services, &grants))
        .collect();
    let attached = attach::attach(&routes, services);
    let mut compiled = Compiled::default();
    let parents: BTreeSet<&ObjectName> = attached.groups.iter().map(|group| &group.service).collect();
    for service in parents {
        let groups = attached.groups.iter().filter(|group| group.service == *service);
        compiled
            .rules
            .insert(service.clone(), precedence::rules(service, groups, &resolved));
    }
    for (at, (route, resolved)) in routes.iter().zip(&resolved).enumerate() {
        let verdicts = route.parents.iter().enumerate().map(|(nth, parent)| Verdict {
            parent: parent.said.clone(),
            accepted: attached.judgement(at, nth, route),
            resolved_refs: resolved.judgement.clone(),
        });
        compiled.verdicts.insert(route.key.clone(), verdicts.collect());
    }
    compiled
}
