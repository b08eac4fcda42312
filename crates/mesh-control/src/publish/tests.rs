//! Versions over restarts, and how slow proxies follow.

use super::*;
use crate::compile::compile;
use crate::index::{Event, Index};

fn view(weight: u32) -> View {
    let text = format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {{name: client}}\nspec: {{outbound: {{services: [s]}}}}\n---\n\
         apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {{name: hermit}}\nspec: {{outbound: {{services: []}}}}\n---\n\
         apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: s}}\nspec:\n  service: s\n  \
         rules: [{{split: {{backends: [{{name: a, service: s, weight: {weight}}}]}}}}]\n"
    );
    let mut index = Index::new("mesh.local".parse().unwrap());
    index.apply([Event::Text("m".into(), text)]);
    assert!(index.problems().is_empty(), "{:?}", index.problems());
    compile(&index, &View::empty(index.trust_domain())).0
}

fn weight(snapshot: &Snapshot) -> u32 {
    let service = &snapshot.services[&"s".parse().unwrap()];
    service.route.as_ref().unwrap().rules[0].backends()[0].weight
}

fn open(dir: &std::path::Path) -> Publisher {
    Publisher::open(dir.join("version"), view(1)).unwrap()
}

#[test]
fn versions_rise_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = open(dir.path());
    assert_eq!(publisher.current().version, Version(0));
    let first = publisher.publish(view(1), Difference::Anything).unwrap();
    let mut last = first;
    for weight in 2..RESERVE as u32 + 5 {
        let next = publisher.publish(view(weight), Difference::Anything).unwrap();
        assert_eq!(next.0, last.0 + 1);
        last = next;
    }
    drop(publisher);
    let again = open(dir.path());
    assert!(again.publish(view(1), Difference::Anything).unwrap() > last);
    std::fs::write(dir.path().join("version"), "many").unwrap();
    let error = Publisher::open(dir.path().join("version"), view(1)).unwrap_err();
    assert!(error.to_string().contains("does not hold a version"), "{error}");
}

#[test]
fn a_version_that_cannot_be_promised_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = Publisher::open(dir.path().join("absent/version"), view(1)).unwrap();
    assert!(publisher.publish(view(1), Difference::Anything).is_err());
    assert_eq!(publisher.current().version, Version(0));
}

#[test]
fn a_slow_proxy_gets_from_what_it_has_to_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = open(dir.path());
    let mut session = Session::new("client".parse().unwrap(), None);
    let mut hermit = Session::new("hermit".parse().unwrap(), None);
    assert!(
        session.next(&publisher.current()).is_none(),
        "nothing is published"
    );
    publisher.publish(view(1), Difference::Anything).unwrap();
    let first = session.next(&publisher.current()).unwrap();
    assert!(first.full);
    hermit.next(&publisher.current()).unwrap();
    hermit.ack(first.version);
    for weight in 2..=1_000 {
        publisher.publish(view(weight), Difference::Anything).unwrap();
        assert!(session.next(&publisher.current()).is_none(), "one is on its way");
    }
    assert_eq!(session.ack(Version(first.version.0 + 1)), Answer::Stray);
    assert_eq!(session.ack(first.version), Answer::Expected);
    assert_eq!(session.ack(first.version), Answer::Stray, "once");
    let served = session.serves().unwrap().clone();
    let second = session.next(&publisher.current()).unwrap();
    assert_eq!(
        (second.version.0, second.routes.len(), second.full),
        (first.version.0 + 999, 1, false)
    );
    assert_eq!(
        weight(&Snapshot::after(Some(&served), second.clone()).unwrap()),
        1_000
    );
    assert!(hermit.next(&publisher.current()).is_none(), "not concerned");
    assert_eq!(hermit.current(), publisher.version(), "and so up to date");
    assert_eq!(session.current(), first.version, "one is on its way");

    // Refused: it stays on what it serves, and gets all that changed since then with the next version.
    assert_eq!(session.nack(second.version), Answer::Expected);
    assert!(
        session.next(&publisher.current()).is_none(),
        "the same is not sent twice"
    );
    publisher.publish(view(7), Difference::Anything).unwrap();
    let third = session.next(&publisher.current()).unwrap();
    assert_eq!(weight(&Snapshot::after(Some(&served), third.clone()).unwrap()), 7);

    // Refused again, and then everything is as it was: there is nothing to be sent.
    session.nack(third.version);
    assert_eq!(session.current(), first.version);
    publisher.publish(view(1), Difference::Anything).unwrap();
    assert!(session.next(&publisher.current()).is_none());
    assert_eq!(session.current(), publisher.version());
}

#[test]
fn a_workload_that_is_not_there_gets_nothing_until_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = open(dir.path());
    publisher.publish(view(1), Difference::Anything).unwrap();
    let mut session = Session::new("nobody".parse().unwrap(), None);
    assert!(session.next(&publisher.current()).is_none());
}

#[test]
fn a_service_that_a_route_waits_for_is_told_of_when_it_comes() {
    let service = |name: &str| {
        format!(
            "apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let route = "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: client}\nspec: {outbound: {services: [s]}}\n---\n\
        apiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {name: s}\nspec:\n  service: s\n  \
        rules: [{split: {backends: [{name: a, service: s, weight: 9}, {name: b, service: late, weight: 1}]}}]\n";
    let mut index = Index::new("mesh.local".parse().unwrap());
    let mut view = View::empty(index.trust_domain());
    let publisher = Publisher::by_clock(view.clone());
    let mut publish = |file: &str, text: &str| {
        index.apply([Event::Text(file.into(), text.into())]);
        assert!(index.problems().is_empty(), "{:?}", index.problems());
        view = compile(&index, &view).0;
        let mut difference = Difference::default();
        difference.service(&name(file));
        publisher.publish(view.clone(), difference).unwrap();
        publisher.current()
    };
    let mut session = Session::new(name("client"), None);
    let first = session
        .next(&publish("s", &format!("{route}---\n{}", service("s"))))
        .unwrap();
    session.ack(first.version);
    let unconcerned = publish("other", &service("other"));
    assert!(session.next(&unconcerned).is_none());
    assert_eq!(session.current(), unconcerned.version);
    let came = session.next(&publish("late", &service("late"))).unwrap();
    assert!(came.services.contains_key(&name("late")), "{came:?}");
}

fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}

#[test]
fn what_a_proxy_uses_is_answered_also_when_there_is_nothing_to_change() {
    let text = "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {name: hub}\nspec: {outbound: {onDemand: true}}\n---\n\
        apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80}], hosts: [s.example]}\n---\n\
        apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {name: t}\nspec: {ports: [{name: http, port: 80}]}\n";
    let mut index = Index::new("mesh.local".parse().unwrap());
    index.apply([Event::Text("m".into(), text.into())]);
    assert!(index.problems().is_empty(), "{:?}", index.problems());
    let dir = tempfile::tempdir().unwrap();
    let empty = View::empty(index.trust_domain());
    let publisher = Publisher::open(dir.path().join("version"), empty.clone()).unwrap();
    let view = compile(&index, &empty).0;
    let version = publisher.publish(view.clone(), Difference::Anything).unwrap();
    let mut session = Session::new(name("hub"), None);
    let first = session.next(&publisher.current()).unwrap();
    assert!(first.full && first.services.is_empty() && session.answered() == 0);
    session.ack(version);
    let mut again = Session::new(name("hub"), session.serves().cloned());
    let everything = again.next(&publisher.current()).unwrap();
    assert!(everything.full, "an acknowledgement may have been lost");

    type Step = (
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let steps: [Step; 6] = [
        // Services and hosts that are said; services that come and go by it.
        (&[], &["s"], &["default/s"], &[]),
        (&["default/s"], &["nothing", "s.default"], &[], &[]),
        (
            &["default/s"],
            &["t.default.svc", "s.example"],
            &["default/t"],
            &[],
        ),
        (&["default/t", "default/gone"], &[], &[], &["default/s"]),
        (&["default/t"], &[], &[], &[]),
        (&[], &[], &[], &["default/t"]),
    ];
    for (sequence, (services, hosts, come, go)) in (1..).zip(steps) {
        session.uses(Uses {
            sequence,
            services: services.iter().map(|service| name(service)).collect(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            addresses: Vec::new(),
        });
        let delta = session.next(&publisher.current()).unwrap();
        let said = delta.services.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            said,
            come.iter().map(|it| name(it)).collect::<Vec<_>>(),
            "{sequence}"
        );
        assert_eq!(
            delta.removed_services,
            go.iter().map(|it| name(it)).collect::<Vec<_>>(),
            "{sequence}"
        );
        assert_eq!((delta.version, session.answered()), (version, sequence));
        assert!(session.next(&publisher.current()).is_none(), "one is on its way");
        assert_eq!(session.ack(version), Answer::Expected);
        assert!(
            session.next(&publisher.current()).is_none(),
            "it has all that it uses"
        );
    }

    // That there is nothing to be had is no new version for the proxy, and it has what there is of the newest.
    let newest = publisher.publish(view, Difference::Anything).unwrap();
    session.uses(Uses {
        sequence: 7,
        hosts: vec!["nothing".into()],
        ..Uses::default()
    });
    let delta = session.next(&publisher.current()).unwrap();
    assert!(delta.is_empty() && delta.version == version && version < newest);
    assert_eq!((session.answered(), session.current()), (7, newest));
    assert_eq!(session.ack(version), Answer::Expected);
    assert_eq!(session.current(), newest);
}

#[test]
fn versions_by_the_clock_rise_whatever_it_says() {
    let empty = View::empty(&"mesh.local".parse().unwrap());
    let before = crate::clock::unix_millis();
    let publisher = Publisher::by_clock(empty.clone());
    assert_eq!(publisher.version(), Version(0));
    let first = publisher.publish(empty.clone(), Difference::Anything).unwrap();
    assert!(first.0 >= before);
    let mut last = first;
    for _ in 0..10_000 {
        let next = publisher.publish(empty.clone(), Difference::Anything).unwrap();
        assert!(next > last);
        last = next;
    }
}
