//! Explanations of documents, case by case.

use http::Method;

use super::*;
use crate::document::parse_all;

const MESH: &str = include_str!("tests.yaml");

fn explained(target: &str, headers: &[(&'static str, &'static str)], body: &[u8]) -> Explanation {
    explained_with([], target, headers, body)
}

fn explained_with(
    routes: impl IntoIterator<Item = Route>,
    target: &str,
    headers: &[(&'static str, &'static str)],
    body: &[u8],
) -> Explanation {
    let documents: Vec<Document> = parse_all("mesh.yaml".as_ref(), MESH)
        .into_iter()
        .map(|it| it.unwrap().0)
        .collect();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    let question = Question {
        service: &"ml/fraud".parse().unwrap(),
        port: None,
        method: &Method::POST,
        target,
        headers: &headers,
        body,
        caller: None,
    };
    explain(&documents, routes, &question).unwrap()
}

#[test]
fn a_key_makes_it_certain() {
    let found = explained("/v2/models/fraud/infer", &[("x-user-id", "user-1")], b"");
    assert_eq!(found.model.unwrap().model.as_deref(), Some("fraud"));
    let Decision::Split { how, backends, .. } = found.decision else {
        panic!()
    };
    assert!(matches!(how, How::Key { value, .. } if value == "user-1"));
    assert_eq!((backends.len(), backends[0].probability), (1, 1.0));
    assert_eq!(backends[0].endpoints.len(), 1);
}

#[test]
fn without_the_key_the_weights_say_how_likely() {
    let found = explained("/v2/models/fraud/infer", &[], b"");
    let Decision::Split { how, backends, .. } = found.decision else {
        panic!()
    };
    assert_eq!(
        how,
        How::Draw {
            missing: Some("header x-user-id".into())
        }
    );
    let parts: Vec<f64> = backends.iter().map(|it| it.probability).collect();
    assert_eq!(parts, [0.95, 0.05]);
    assert_eq!(
        backends[1].target.as_deref(),
        Some("/v2/models/fraud/versions/2/infer")
    );
}

#[test]
fn what_no_rule_takes_says_why() {
    let found = explained("/v2/models/iris/infer", &[], b"");
    assert_eq!(found.rules.len(), 1);
    assert_eq!(found.rules[0].mismatches, [Some("model")]);
    assert!(matches!(found.decision, Decision::Own { endpoints } if endpoints.len() == 2));
}

#[test]
fn what_is_refused_says_how() {
    let found = explained("/v2/models/fraud/../iris/infer", &[], b"");
    assert!(
        matches!(found.decision, Decision::Refused { status: 400, reason, .. } if reason == "ambiguous-path")
    );
}

#[test]
fn routes_that_documents_do_not_say_stand_for_those_that_they_do() {
    use crate::wire::config as wire;
    let rule = |name: &str, port: &str| wire::Rule {
        name: name.into(),
        origin: "HTTPRoute ml/web".into(),
        port: port.into(),
        action: Some(wire::rule::Action::Refused(wire::Refused {
            reason: "no-backend".into(),
            detail: name.into(),
        })),
        ..wire::Rule::default()
    };
    let route = wire::Route {
        service: "ml/fraud".into(),
        object: String::new(),
        rules: vec![rule("of-another-port", "metrics"), rule("of-any", "")],
    };
    let found = explained_with(
        [crate::wire::route(route).unwrap()],
        "/v2/models/fraud/infer",
        &[],
        b"",
    );
    let asked: Vec<_> = found
        .rules
        .iter()
        .map(|it| format!("{} {}", it.origin, it.rule))
        .collect();
    assert_eq!(asked, ["HTTPRoute ml/web of-any"]);
    assert!(
        matches!(found.decision, Decision::Refused { status: 500, .. }),
        "{:?}",
        found.decision
    );
}
