//! What a proxy that starts anew takes to be used: the services whose routes lead to all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::name::ObjectName;
use mesh_api::route::Route;
use mesh_api::snapshot::Service;

/// The fewest services whose routes lead to all others: of those that lead to each other in a circle, the first by name.
pub(super) fn origins(services: &BTreeMap<ObjectName, Arc<Service>>) -> Vec<ObjectName> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot;

    /// Services whose routes lead to others: `a>b` for each.
    fn routed(services: &[&str]) -> BTreeMap<ObjectName, Arc<Service>> {
        let template = Arc::unwrap_or_clone(snapshot(1).services.into_values().next().unwrap());
        let services = services.iter().map(|text| {
            let (name, to) = text.split_once('>').unwrap_or((text, ""));
            let backends: Vec<_> = to.split(',').filter(|to| !to.is_empty()).collect();
            let backends = backends
                .iter()
                .map(|to| serde_json::json!({"name": to, "service": to}));
            let rules = serde_json::json!([{"split": {"backends": backends.collect::<Vec<_>>()}}]);
            let spec = serde_json::from_value(serde_json::json!({"service": name, "rules": rules}));
            let name: ObjectName = format!("ml/{name}").parse().unwrap();
            let route = (!to.is_empty()).then(|| Route::new(&name, &spec.unwrap()).unwrap());
            let service = Service {
                route,
                ..template.clone()
            };
            (name, Arc::new(service))
        });
        services.collect()
    }

    #[test]
    fn what_comes_with_another_service_does_not_count_when_a_proxy_starts_anew() {
        type Case = (&'static [&'static str], &'static [&'static str]);
        let cases: [Case; 6] = [
            (&[], &[]),
            (&["a", "b"], &["ml/a", "ml/b"]),
            (&["a>b,c", "b>d", "c", "d"], &["ml/a"]),
            (&["b", "c>a,b", "a"], &["ml/c"]),
            (&["a>a", "b>a,gone"], &["ml/b"]),
            (&["a>b", "b>c", "c>a", "d"], &["ml/d", "ml/a"]),
        ];
        for (services, wanted) in cases {
            let found: Vec<_> = origins(&routed(services))
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, wanted, "{services:?}");
        }
    }
}
