//! However objects come, in whatever order and by whatever detours, the same objects give the same view.

use mesh_api::snapshot::Version;
use proptest::prelude::*;

use super::*;
use crate::publish::{Publisher, Session, Uses};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// An object of a small Kubernetes cluster, where everything has to do with everything.
#[derive(Clone, Debug)]
enum Any {
    Service(Service),
    Slice(Slice),
    Pod(Pod),
    Namespace(Namespace),
    Route(Written),
}

impl Any {
    /// Which object it is, of which kind.
    fn which(&self) -> (u8, Key) {
        match self {
            Self::Service(object) => (0, object.key()),
            Self::Slice(object) => (1, object.key()),
            Self::Pod(object) => (2, object.key()),
            Self::Namespace(object) => (3, object.key()),
            Self::Route(object) => (4, object.key()),
        }
    }

    fn apply(self) -> Event {
        match self {
            Self::Service(object) => apply(Event::Services, object),
            Self::Slice(object) => apply(Event::Slices, object),
            Self::Pod(object) => apply(Event::Pods, object),
            Self::Namespace(object) => apply(Event::Namespaces, object),
            Self::Route(object) => put_route(object),
        }
    }

    fn delete(self) -> Event {
        let (kind, key) = self.which();
        match kind {
            0 => Event::Services(Change::Delete(key)),
            1 => Event::Slices(Change::Delete(key)),
            2 => Event::Pods(Change::Delete(key)),
            3 => Event::Namespaces(Change::Delete(key)),
            _ => Event::Documents(Kind::ModelRoute, Change::Delete(key)),
        }
    }
}

fn any_object() -> impl Strategy<Value = Any> {
    let name = || prop::sample::select(&NAMES[..]);
    let service = (
        name(),
        any::<bool>(),
        prop::sample::select(&["http:80", "http:80=grpc", ":80", "http:81=http"][..]),
    )
        .prop_map(|(name, v6, port)| {
            let address = format!("10.96.0.{}", name.len() + usize::from(v6));
            Any::Service(Service {
                prefers_v6: v6,
                ..service(&format!("ml/{name}"), &address, &[port])
            })
        });
    let endpoint = (
        name(),
        1_u8..4,
        prop::sample::select(&["ready", "draining", "unready"][..]),
    );
    let slice = (
        prop::sample::select(&["x", "y", "z"][..]),
        name(),
        prop::sample::select(&["http:8000", "http:8001", ":8000"][..]),
        prop::collection::vec(endpoint, 0..3),
        any::<bool>(),
    )
        .prop_map(|(name, service, port, endpoints, v6)| {
            let family = if v6 { "fd00::" } else { "10.0.0." };
            let endpoints: Vec<_> = endpoints
                .into_iter()
                .map(|(pod, host, state)| {
                    format!("{family}{host} {} {state}", if pod == "c" { "-" } else { pod })
                })
                .collect();
            let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
            Any::Slice(slice(&format!("ml/{name}"), service, &[port], &endpoints))
        });
    let pod = (name(), 0_u8..3, any::<bool>(), any::<bool>()).prop_map(|(name, host, sidecar, strict)| {
        let address = if host == 0 {
            String::new()
        } else {
            format!("10.0.0.{host}")
        };
        let mtls = Mtls::read(strict.then_some("strict"));
        Any::Pod(Pod {
            mtls,
            ..pod(&format!("ml/{name}"), &address, sidecar)
        })
    });
    let namespace = any::<bool>().prop_map(|strict| {
        let mtls = Mtls::read(strict.then_some("strict"));
        Any::Namespace(Namespace {
            name: "ml".parse().unwrap(),
            mtls,
        })
    });
    let routes = (name(), name(), 1_u32..4).prop_map(|(name, service, weight)| {
        // When an object was created does not change.
        let created = i64::from(name.as_bytes()[0] % 2);
        Any::Route(route(&format!("ml/{name}"), created, service, &[("a", weight)]))
    });
    prop_oneof![4 => service, 6 => slice, 6 => pod, 1 => namespace, 3 => routes]
}

/// All objects at once, in the order of a permutation.
fn from_scratch(objects: &[Any]) -> Catalog {
    let mut catalog = Catalog::new(settings());
    catalog.apply(objects.iter().cloned().map(Any::apply));
    catalog
}

/// The proxies of pods, each of which uses something in every way there is, and acknowledges what it is sent.
struct Followers {
    publisher: Publisher,
    sessions: BTreeMap<ObjectName, Session>,
}

impl Followers {
    fn new() -> Self {
        let sessions = NAMES.map(|name| {
            let workload: ObjectName = format!("ml/{name}").parse().unwrap();
            let mut session = Session::new(workload.clone(), None);
            session.uses(Uses {
                sequence: 1,
                services: if name == "a" {
                    vec![workload.clone()]
                } else {
                    Vec::new()
                },
                hosts: if name == "b" {
                    vec!["c.ml".into()]
                } else {
                    Vec::new()
                },
                addresses: vec!["10.96.0.1:80".parse().unwrap(), "10.0.0.1:8000".parse().unwrap()],
            });
            (workload, session)
        });
        Self {
            publisher: Publisher::by_clock(View::empty(&settings().trust_domain)),
            sessions: sessions.into(),
        }
    }

    /// Publishes what has changed: proxies that are passed over serve what they would have been told.
    fn follow(&mut self, catalog: &mut Catalog) -> Result<(), TestCaseError> {
        let difference = catalog.take_difference();
        self.publisher
            .publish(catalog.view().clone(), difference)
            .unwrap();
        let published = self.publisher.current();
        for (workload, session) in &mut self.sessions {
            if let Some(delta) = session.next(&published) {
                session.ack(delta.version);
            }
            let used = session.used(&published.view);
            let Some(wanted) = published.view.snapshot(workload, Version(0), &used) else {
                continue;
            };
            let served = session.serves().map(|it| (&it.workload, &it.mesh, &it.services));
            prop_assert_eq!(served, Some((&wanted.workload, &wanted.mesh, &wanted.services)));
            prop_assert_eq!(session.current(), published.version);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn incremental_is_from_scratch(
        steps in prop::collection::vec((any_object(), prop::bool::weighted(0.8)), 1..60),
        at_once in 1_usize..5,
    ) {
        let mut catalog = Catalog::new(settings());
        let mut followers = Followers::new();
        let mut there: BTreeMap<(u8, Key), Any> = BTreeMap::new();
        for steps in steps.chunks(at_once) {
            let before = catalog.view().clone();
            let mut events = Vec::new();
            for (object, applied) in steps {
                if *applied {
                    there.insert(object.which(), object.clone());
                    events.push(object.clone().apply());
                } else {
                    there.remove(&object.which());
                    events.push(object.clone().delete());
                }
            }
            let changed = catalog.apply(events);
            prop_assert!(changed || before == *catalog.view(), "a change that nobody is told of");
            let mut objects: Vec<_> = there.values().cloned().collect();
            let scratch = from_scratch(&objects);
            prop_assert_eq!(catalog.view(), scratch.view());
            objects.reverse();
            let reversed = from_scratch(&objects);
            prop_assert_eq!(reversed.view(), scratch.view(), "the order matters");
            if changed {
                followers.follow(&mut catalog)?;
            }
        }
        // Nothing is left when everything goes.
        catalog.apply(there.into_values().map(Any::delete));
        let nothing = from_scratch(&[]);
        prop_assert_eq!(catalog.view(), nothing.view());
        prop_assert!(catalog.slices_of.is_empty() && catalog.slices_with.is_empty());
    }
}
