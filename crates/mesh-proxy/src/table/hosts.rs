//! The names under which callers know services.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_api::name::{Name, ObjectName};
use mesh_api::snapshot;

/// What may stand behind `name.namespace`, the longest first.
const SUFFIXES: [&str; 3] = [".svc.cluster.local", ".svc", ".mesh"];

/// Services by the names that callers use, in lower case and without a port: `name.namespace` with or without one of
/// [`SUFFIXES`], the bare name in the caller's own namespace, and whatever hosts a service claims further.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// By `name.namespace` and bare names: the position of the service in the order of their names.
    own: HashMap<Box<str>, usize>,
    /// Names that services claim further. A service's own names win over them.
    further: HashMap<Box<str>, usize>,
}

type Services = BTreeMap<ObjectName, Arc<snapshot::Service>>;

impl Hosts {
    /// The names of services for a caller in `home`.
    pub(super) fn new(services: &Services, home: &Name) -> Self {
        let mut hosts = Self {
            own: HashMap::with_capacity(services.len()),
            further: HashMap::new(),
        };
        for (position, (name, service)) in services.iter().enumerate() {
            let ObjectName { namespace, name } = name;
            hosts.own.insert(format!("{name}.{namespace}").into(), position);
            if namespace == home {
                hosts.own.insert(name.as_str().into(), position);
            }
            for host in &service.hosts {
                hosts.further.insert(host.as_str().into(), position);
            }
        }
        hosts
    }

    /// The position of the service that a host names, in the order of their names.
    pub(super) fn position(&self, host: &str) -> Option<usize> {
        self.exactly(host)
            .or_else(|| self.exactly(host.to_ascii_lowercase().trim_end_matches('.')))
    }

    fn exactly(&self, host: &str) -> Option<usize> {
        let long = || {
            let name = SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix))?;
            // Only the long form has a suffix.
            self.own.get(name).filter(|_| name.contains('.'))
        };
        self.own
            .get(host)
            .or_else(long)
            .or_else(|| self.further.get(host))
            .copied()
    }
}

/// Whether two sets of services are known under the same names.
pub(super) fn same(a: &Services, b: &Services) -> bool {
    let alike =
        |a: &Arc<snapshot::Service>, b: &Arc<snapshot::Service>| Arc::ptr_eq(a, b) || a.hosts == b.hosts;
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && alike(a.1, b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(of: &[(&str, &[&str])]) -> Services {
        let service = |hosts: &[&str]| snapshot::Service {
            ports: Vec::new(),
            addresses: Vec::new(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            policy: snapshot::TrafficPolicy::default(),
            endpoints: Arc::default(),
            route: None,
        };
        of.iter()
            .map(|(name, hosts)| (name.parse().unwrap(), Arc::new(service(hosts))))
            .collect()
    }

    #[test]
    fn every_form_of_a_name_leads_to_its_service() {
        let services = services(&[
            ("mesh/svc", &[]),
            ("ml/fraud", &["fraud.example", "web.ml"]),
            ("ml/svc", &[]),
            ("ml/web", &["a.b.mesh"]),
            ("other/fraud", &[]),
            ("svc/x", &["fraud.ml.svc"]),
        ]);
        let hosts = Hosts::new(&services, &"ml".parse().unwrap());
        let names: Vec<_> = services.keys().map(ToString::to_string).collect();
        for (host, wanted) in [
            ("fraud", Some("ml/fraud")),
            ("fraud.ml", Some("ml/fraud")),
            ("fraud.ml.svc", Some("ml/fraud")),
            ("fraud.ml.svc.cluster.local", Some("ml/fraud")),
            ("fraud.ml.mesh", Some("ml/fraud")),
            ("Fraud.ML.mesh.", Some("ml/fraud")),
            ("fraud.other", Some("other/fraud")),
            ("fraud.other.svc", Some("other/fraud")),
            ("fraud.example", Some("ml/fraud")),
            // A service's own name wins over what another one claims.
            ("web.ml", Some("ml/web")),
            ("a.b.mesh", Some("ml/web")),
            // Names that look like suffixes.
            ("x.svc", Some("svc/x")),
            ("x.svc.svc", Some("svc/x")),
            ("x.svc.mesh", Some("svc/x")),
            ("svc.mesh", Some("mesh/svc")),
            ("svc.mesh.mesh", Some("mesh/svc")),
            ("svc", Some("ml/svc")),
            // What is no name.
            ("x", None),
            ("fraud.svc", None),
            ("fraud.mesh", None),
            ("fraud.svc.cluster.local", None),
            ("fraud.example.svc", None),
            ("fraud.ml.svc.mesh", None),
            ("fraud.nowhere", None),
            ("", None),
            (".", None),
            (".svc", None),
        ] {
            let found = hosts.position(host).map(|at| names[at].as_str());
            assert_eq!(found, wanted, "{host:?}");
        }
    }

    #[test]
    fn names_are_the_same_until_a_service_or_a_host_comes_or_goes() {
        let before = services(&[("ml/a", &["a.example"]), ("ml/b", &[])]);
        assert!(same(
            &before,
            &services(&[("ml/a", &["a.example"]), ("ml/b", &[])])
        ));
        for other in [
            services(&[("ml/a", &["a.example"])]),
            services(&[("ml/a", &["a.example"]), ("ml/c", &[])]),
            services(&[("ml/a", &[]), ("ml/b", &[])]),
            services(&[("ml/a", &[]), ("ml/b", &["a.example"])]),
        ] {
            assert!(!same(&before, &other) && !same(&other, &before));
        }
    }
}
