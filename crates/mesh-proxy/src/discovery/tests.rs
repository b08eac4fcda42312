//! Asking, being answered, and letting go, in simulated time.

use std::sync::Arc;

use mesh_api::snapshot::{Endpoint, Interception};

use super::*;
use crate::table;
use crate::testing::snapshot;

fn table(on_demand: bool) -> Table {
    let mut snapshot = snapshot(1);
    snapshot.workload.on_demand = on_demand;
    table::build(Arc::new(snapshot), None)
}

fn empty() -> Table {
    let mut snapshot = snapshot(1);
    snapshot.workload.on_demand = true;
    snapshot.services.clear();
    table::build(Arc::new(snapshot), None)
}

fn discovery() -> Arc<Discovery> {
    let discovery = Discovery::new(OnDemand {
        max_on_demand: 100,
        ..OnDemand::default()
    });
    discovery.configure(&empty().snapshot);
    discovery.connected(true);
    Arc::new(discovery)
}

fn asking(discovery: &Arc<Discovery>, host: &str) -> tokio::task::JoinHandle<Result<bool, Reason>> {
    let (discovery, host) = (Arc::clone(discovery), host.to_owned());
    tokio::spawn(async move { discovery.resolve(&host).await.map_err(|failure| failure.reason) })
}

/// Simulated time goes on when nobody has anything left to do.
async fn everybody_has_asked() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_held_until_its_service_is_there() {
    let discovery = discovery();
    let waiting = [asking(&discovery, "Fraud.ml."), asking(&discovery, "fraud.ml")];
    discovery.changed().await;
    let uses = discovery.uses().unwrap();
    assert_eq!(
        (uses.services.len(), uses.hosts),
        (0, vec!["fraud.ml".to_owned()])
    );
    discovery.answered(uses.sequence - 1, &table(true));
    assert!(!waiting[0].is_finished(), "an answer to what was said before");
    discovery.answered(uses.sequence, &table(true));
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), Ok(true));
    }
    let uses = discovery.uses().unwrap();
    assert_eq!(
        (uses.services, uses.hosts.len()),
        (vec!["ml/fraud".to_owned()], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_none_is_asked_for_once_in_a_while() {
    let discovery = discovery();
    for _ in 0..2 {
        let waiting = asking(&discovery, "nothing.ml");
        discovery.changed().await;
        let uses = discovery.uses().unwrap();
        discovery.answered(uses.sequence, &table(true));
        assert_eq!(waiting.await.unwrap(), Ok(false));
        for _ in 0..100 {
            assert_eq!(asking(&discovery, "nothing.ml").await.unwrap(), Ok(false));
        }
        assert!(discovery.uses().unwrap().hosts.is_empty(), "it is known");
        tokio::time::advance(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_the_request_fails_in_time_and_the_next_one_asks_again() {
    let discovery = discovery();
    let asked = Instant::now();
    assert_eq!(
        asking(&discovery, "fraud.ml").await.unwrap(),
        Err(Reason::Unresolved)
    );
    assert_eq!(asked.elapsed().as_secs(), 5);
    assert!(discovery.uses().unwrap().hosts.is_empty());
    let waiting = asking(&discovery, "fraud.ml");
    discovery.changed().await;
    let uses = discovery.uses().unwrap();
    discovery.answered(uses.sequence, &table(true));
    assert_eq!(waiting.await.unwrap(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn random_names_are_bounded() {
    let discovery = discovery();
    let waiting: Vec<_> = (0..1_000)
        .map(|number| asking(&discovery, &format!("n{number}.ml")))
        .collect();
    discovery.changed().await;
    everybody_has_asked().await;
    let uses = discovery.uses().unwrap();
    assert_eq!(uses.hosts.len(), HOSTS.0);
    discovery.answered(uses.sequence, &empty());
    let mut refused = 0;
    for waiting in waiting {
        match waiting.await.unwrap() {
            Err(Reason::TooManyServices) => refused += 1,
            other => assert_eq!(other, Ok(false)),
        }
    }
    assert_eq!(refused, 1_000 - HOSTS.0);
    for round in 0..40 {
        let waiting: Vec<_> = (0..50)
            .map(|n| asking(&discovery, &format!("r{round}-{n}.ml")))
            .collect();
        discovery.changed().await;
        everybody_has_asked().await;
        let uses = discovery.uses().unwrap();
        discovery.answered(uses.sequence, &empty());
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), Ok(false));
        }
    }
    assert!(discovery.lock().hosts.remembers() <= HOSTS.1);
    for host in ["10.1.2.3", "::1", "a b", "", &"a".repeat(300)] {
        assert_eq!(asking(&discovery, host).await.unwrap(), Ok(false), "{host}");
    }
    assert!(discovery.uses().unwrap().hosts.is_empty(), "no host can be so");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_called_any_more_is_let_go() {
    let discovery = discovery();
    let table = table(true);
    let waiting = asking(&discovery, "fraud.ml");
    discovery.changed().await;
    discovery.answered(discovery.uses().unwrap().sequence, &table);
    waiting.await.unwrap().unwrap();
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(300)).await;
        table.find("fraud.ml", None).unwrap().called();
        discovery.sweep(&table);
        assert_eq!(discovery.used(), 1, "it is called now and then");
    }
    tokio::time::advance(Duration::from_secs(599)).await;
    discovery.sweep(&table);
    assert_eq!(discovery.used(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    discovery.sweep(&table);
    discovery.changed().await;
    assert!(discovery.uses().unwrap().services.is_empty());
    // What is called though nobody asked, such as a backend of another service, is kept too.
    table.find("fraud.ml", None).unwrap().called();
    discovery.sweep(&table);
    assert_eq!(discovery.used(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_starts_anew_keeps_what_it_had() {
    let discovery = Discovery::default();
    assert!(discovery.uses().is_none());
    discovery.configure(&table(true).snapshot);
    assert_eq!(discovery.uses().unwrap().services, ["ml/fraud"]);
    discovery.configure(&table(true).snapshot);
    assert_eq!(discovery.uses().unwrap().services, ["ml/fraud"]);
    discovery.configure(&table(false).snapshot);
    assert!(discovery.uses().is_none());
    assert_eq!(
        asking(&Arc::new(discovery), "fraud.ml").await.unwrap(),
        Ok(false),
        "not on demand"
    );
}

/// A proxy that takes intercepted connections, for a service at 10.0.0.1:8080 that has an endpoint at 10.1.0.1:9000.
fn intercepting() -> Table {
    let mut snapshot = snapshot(1);
    snapshot.workload.on_demand = true;
    snapshot.workload.interception = Some(Interception {
        inbound: 15006,
        outbound: 15001,
    });
    let service = Arc::make_mut(snapshot.services.values_mut().next().unwrap());
    service.addresses = vec!["10.0.0.1".parse().unwrap()];
    let port = service.ports[0].name.clone();
    service.endpoints = Arc::new([Endpoint {
        workload: None,
        identity: None,
        addresses: BTreeMap::from([(port, "10.1.0.1:9000".parse().unwrap())]),
    }]);
    table::build(Arc::new(snapshot), None)
}

fn going_to(discovery: &Arc<Discovery>, address: &str) -> tokio::task::JoinHandle<Result<bool, Reason>> {
    let (discovery, address) = (Arc::clone(discovery), address.parse().unwrap());
    tokio::spawn(async move {
        let found = discovery.resolve_address(address).await;
        found.map_err(|failure| failure.reason)
    })
}

async fn say(discovery: &Discovery) -> Uses {
    discovery.changed().await;
    everybody_has_asked().await;
    discovery.uses().unwrap()
}

#[tokio::test(start_paused = true)]
async fn addresses_are_asked_for_as_names_are() {
    let (discovery, table) = (discovery(), intercepting());
    let cases = [
        ("10.0.0.1:8080", true),
        ("10.0.0.1:8081", false),
        ("10.1.0.1:9000", true),
        ("[::1]:9000", false),
    ];
    let waiting = cases.map(|(address, _)| going_to(&discovery, address));
    let uses = say(&discovery).await;
    let mut asked = cases.map(|(address, _)| address.to_owned());
    asked.sort();
    assert_eq!((uses.hosts.len(), uses.addresses), (0, asked.to_vec()));
    discovery.answered(uses.sequence, &table);
    for (waiting, (address, there)) in waiting.into_iter().zip(cases) {
        assert_eq!(waiting.await.unwrap(), Ok(there), "{address}");
    }
    assert_eq!(discovery.uses().unwrap().services, ["ml/fraud"]);
}

#[tokio::test(start_paused = true)]
async fn what_stood_for_no_service_passes_while_the_control_plane_is_away() {
    let discovery = discovery();
    let outside = "192.0.2.1:5432";
    let waiting = going_to(&discovery, outside);
    let uses = say(&discovery).await;
    discovery.answered(uses.sequence, &intercepting());
    assert_eq!(waiting.await.unwrap(), Ok(false));

    // It says nothing any more, though the stream is still open; and then it is not.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(
        going_to(&discovery, outside).await.unwrap(),
        Ok(false),
        "held, and let go"
    );
    discovery.connected(false);
    let asked = Instant::now();
    assert_eq!(going_to(&discovery, outside).await.unwrap(), Ok(false));
    assert_eq!(asked.elapsed(), Duration::ZERO, "there is nobody to wait for");
    assert_eq!(
        going_to(&discovery, "192.0.2.2:5432").await.unwrap(),
        Err(Reason::Unresolved),
        "nobody knows what this is"
    );

    // When it is back, what was taken to be none can turn out to be one.
    discovery.connected(true);
    let waiting = going_to(&discovery, outside);
    let mut snapshot = Snapshot::clone(&intercepting().snapshot);
    Arc::make_mut(snapshot.services.values_mut().next().unwrap()).addresses =
        vec!["192.0.2.1".parse().unwrap()];
    Arc::make_mut(snapshot.services.values_mut().next().unwrap()).ports[0].port = 5_432;
    let table = table::build(Arc::new(snapshot), None);
    let uses = say(&discovery).await;
    discovery.answered(uses.sequence, &table);
    assert_eq!(waiting.await.unwrap(), Ok(true));
}

#[tokio::test(start_paused = true)]
async fn names_do_not_use_up_the_room_of_addresses() {
    let discovery = Discovery::new(OnDemand {
        max_on_demand: 1,
        ..OnDemand::default()
    });
    discovery.configure(&empty().snapshot);
    discovery.connected(true);
    let discovery = Arc::new(discovery);
    let waiting = asking(&discovery, "fraud.ml");
    discovery.answered(say(&discovery).await.sequence, &table(true));
    assert_eq!(waiting.await.unwrap(), Ok(true));
    let names: Vec<_> = (0..100)
        .map(|n| asking(&discovery, &format!("n{n}.ml")))
        .collect();
    for name in names {
        assert_eq!(name.await.unwrap(), Err(Reason::TooManyServices));
    }

    // What is none of the mesh's passes, another service has no room.
    let mut snapshot = Snapshot::clone(&intercepting().snapshot);
    let service = snapshot.services.pop_first().unwrap().1;
    snapshot.services.insert("ml/other".parse().unwrap(), service);
    let other = table::build(Arc::new(snapshot), None);
    let outside = going_to(&discovery, "192.0.2.1:5432");
    let inside = going_to(&discovery, "10.0.0.1:8080");
    discovery.answered(say(&discovery).await.sequence, &other);
    assert_eq!(outside.await.unwrap(), Ok(false));
    assert_eq!(inside.await.unwrap(), Err(Reason::TooManyServices));
    discovery.changed().await;
    let uses = discovery.uses().unwrap();
    assert_eq!(uses.services, ["ml/fraud"], "the other one is let go of again");
    assert!(uses.addresses.is_empty());

    // So many at a time.
    let many: Vec<_> = (0..ADDRESSES.0 + 10)
        .map(|n| going_to(&discovery, &format!("198.51.{}.{}:443", n / 256, n % 256)))
        .collect();
    let uses = say(&discovery).await;
    assert_eq!(uses.addresses.len(), ADDRESSES.0);
    discovery.answered(uses.sequence, &empty());
    let mut refused = 0;
    for one in many {
        refused += usize::from(one.await.unwrap() == Err(Reason::TooManyServices));
    }
    assert_eq!(refused, 10);
}
