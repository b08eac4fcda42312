//! Asking, being answered, and letting go, in simulated time.

use std::sync::Arc;

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
    Arc::new(discovery)
}

fn asking(discovery: &Arc<Discovery>, host: &str) -> tokio::task::JoinHandle<Result<(), Reason>> {
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
        assert_eq!(waiting.await.unwrap(), Ok(()));
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
        assert_eq!(waiting.await.unwrap(), Err(Reason::NoSuchService));
        for _ in 0..100 {
            assert_eq!(
                asking(&discovery, "nothing.ml").await.unwrap(),
                Err(Reason::NoSuchService)
            );
        }
        assert!(discovery.uses().unwrap().hosts.is_empty(), "it is known");
        tokio::time::advance(ABSENT).await;
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
    assert_eq!(waiting.await.unwrap(), Ok(()));
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
    assert_eq!(uses.hosts.len(), MAX_ASKED);
    discovery.answered(uses.sequence, &empty());
    let mut refused = 0;
    for waiting in waiting {
        match waiting.await.unwrap() {
            Err(Reason::TooManyServices) => refused += 1,
            other => assert_eq!(other, Err(Reason::NoSuchService)),
        }
    }
    assert_eq!(refused, 1_000 - MAX_ASKED);
    for round in 0..40 {
        let waiting: Vec<_> = (0..50)
            .map(|n| asking(&discovery, &format!("r{round}-{n}.ml")))
            .collect();
        discovery.changed().await;
        everybody_has_asked().await;
        let uses = discovery.uses().unwrap();
        discovery.answered(uses.sequence, &empty());
        for waiting in waiting {
            waiting.await.unwrap().unwrap_err();
        }
    }
    assert!(discovery.lock().absent.len() <= MAX_ABSENT);
    for host in ["10.1.2.3", "::1", "a b", "", &"a".repeat(300)] {
        assert_eq!(
            asking(&discovery, host).await.unwrap(),
            Err(Reason::NoSuchService),
            "{host}"
        );
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
        discovery.resolve("fraud.ml").await.unwrap_err().reason,
        Reason::NoSuchService,
        "not on demand"
    );
}

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
