//! Events in, documents in force and problems out.

use super::*;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
    )
}

fn route(name: &str, service: &str) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\nspec:\n  service: {service}\n  rules: [{{split: {{backends: [{{name: b, service: {service}}}]}}}}]\n"
    )
}

fn workload(name: &str, port: u16) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\nspec:\n  outbound: {{proxyPort: {port}}}\n"
    )
}

fn bad(text: &str) -> String {
    text.replace("spec:", "spec:\n  colour: red")
}

fn text(file: &str, documents: &[String]) -> Event {
    Event::Text(file.into(), documents.join("---\n"))
}

fn index() -> Index {
    Index::new(TrustDomain::default())
}

/// What is in force, by kind, name and file, with what tells versions apart.
fn in_force(index: &Index) -> Vec<String> {
    index
        .documents()
        .map(|stored| {
            let what = match &stored.document {
                Document::Service(object) => object.spec.ports[0].port.to_string(),
                Document::ModelRoute(object) => object.spec.service.to_string(),
                Document::Workload(object) => format!("{}", object.spec.outbound.proxy_port.unwrap_or(0)),
                Document::MeshConfig(_) | Document::TrafficPolicy(_) => String::new(),
            };
            let file = stored.source.file.display();
            format!(
                "{} {} {what} {file}",
                stored.document.id().kind,
                stored.document.id().name.name
            )
        })
        .collect()
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn histories_of_files() {
    let (a, a2, b) = (service("a", 80), service("a", 81), service("b", 90));
    let gone = |file: &str| Event::Gone(file.into());
    // (what happens, what is in force after it, how many problems)
    let table: Vec<(&str, Vec<Event>, Vec<&str>, usize)> = vec![
        (
            "two documents",
            vec![text("1", &[a.clone(), b.clone()])],
            vec!["Service a 80 1", "Service b 90 1"],
            0,
        ),
        (
            "one changes",
            vec![text("1", &[a2.clone(), b.clone()])],
            vec!["Service a 81 1", "Service b 90 1"],
            0,
        ),
        (
            "one goes bad",
            vec![text("1", &[bad(&a), b.clone()])],
            vec!["Service a 81 1", "Service b 90 1"],
            1,
        ),
        (
            "the other goes",
            vec![text("1", &[bad(&a)])],
            vec!["Service a 81 1", "Service b 90 1"],
            1,
        ),
        (
            "not YAML",
            vec![text("1", &["{".into()])],
            vec!["Service a 81 1", "Service b 90 1"],
            1,
        ),
        (
            "unreadable",
            vec![Event::Unreadable("1".into(), "no permission".into())],
            vec!["Service a 81 1", "Service b 90 1"],
            1,
        ),
        (
            "half of it, and good",
            vec![text("1", std::slice::from_ref(&a))],
            vec!["Service a 80 1"],
            0,
        ),
        (
            "twice",
            vec![text("0", std::slice::from_ref(&a2))],
            vec!["Service a 80 1"],
            1,
        ),
        ("the first goes", vec![gone("1")], vec!["Service a 81 0"], 0),
        (
            "bad in one file, good in another",
            vec![text("0", &[bad(&a2)]), text("2", &[a])],
            vec!["Service a 80 2"],
            1,
        ),
        (
            "everything goes",
            vec![gone("0"), gone("2"), gone("3")],
            vec![],
            0,
        ),
    ];
    let mut index = index();
    for (what, events, expected, count) in table {
        index.apply(events);
        assert_eq!(in_force(&index), expected, "{what}");
        assert_eq!(problems(&index).len(), count, "{what}: {:?}", problems(&index));
    }
}

#[test]
fn what_is_in_force_stays_beside_a_newcomer_that_excludes_it() {
    let mut index = index();
    index.apply([text("b", &[service("s", 80), route("old", "s")])]);
    index.apply([text("a", &[route("new", "s")])]);
    assert_eq!(in_force(&index), ["Service s 80 b", "ModelRoute old s b"]);
    assert!(
        problems(&index)[0].starts_with("a:1: ModelRoute default/new: spec.service: ModelRoute default/old")
    );
    // When the old one goes, the new one comes into force.
    index.apply([text("b", &[service("s", 80)])]);
    assert_eq!(in_force(&index), ["Service s 80 b", "ModelRoute new s a"]);
    assert!(problems(&index).is_empty());
}

#[test]
fn a_change_that_collides_leaves_the_last_good_version() {
    let mut index = index();
    index.apply([text("1", &[workload("x", 1001), workload("y", 1002)])]);
    index.apply([text("1", &[workload("x", 1002), workload("y", 1002)])]);
    assert_eq!(in_force(&index), ["Workload x 1001 1", "Workload y 1002 1"]);
    assert_eq!(problems(&index).len(), 1);
    // Two that change places at once don't collide.
    index.apply([text("1", &[workload("x", 1002), workload("y", 1001)])]);
    assert_eq!(in_force(&index), ["Workload x 1002 1", "Workload y 1001 1"]);
    assert!(problems(&index).is_empty());
}

#[test]
fn problems_come_and_go_with_their_place() {
    let mut index = index();
    let config = "apiVersion: mesh.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: mesh}\nspec: {trustDomain: evil.example}\n";
    index.apply([text("dir/m.yaml", &[service("a", 80), config.into()])]);
    assert_eq!(
        problems(&index),
        [
            "dir/m.yaml:6: MeshConfig default/mesh: spec.trustDomain: the control plane was started with trust domain \
          mesh.local: write it here too, or leave the field out"
        ]
    );
    index.apply([text("dir/m.yaml", &[route("r", "absent")])]);
    assert!(problems(&index).is_empty());
    assert_eq!(
        index.warnings().len(),
        2,
        "service and backend are missing: {:?}",
        index.warnings()
    );
    assert_eq!(in_force(&index), ["ModelRoute r absent dir/m.yaml"]);
}

#[test]
fn the_order_of_files_does_not_matter_at_the_start() {
    let events = [
        text("b", &[route("two", "s")]),
        text("a", &[route("one", "s")]),
        text("c", &[service("s", 80)]),
    ];
    let mut reversed = events.clone();
    reversed.reverse();
    let (mut one, mut other) = (index(), index());
    one.apply(events);
    other.apply(reversed);
    assert_eq!(in_force(&one), in_force(&other));
    assert_eq!(in_force(&one), ["Service s 80 c", "ModelRoute one s a"]);
}
