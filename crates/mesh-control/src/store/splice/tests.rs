//! Weights in many styles of YAML.

use super::*;
use mesh_api::document::sources;
use std::path::Path;

fn wrap(backends: &str) -> String {
    format!(
        "# head\napiVersion: mesh.dev/v1alpha1\nkind: ModelRoute\nmetadata: {{name: fraud}}\nspec:\n  service: fraud\n  rules:\n  - name: first\n    split:\n      backends:\n{backends}"
    )
}

fn change(text: &str, wanted: &[(&str, u32)]) -> (String, Vec<u32>) {
    let source = sources(Path::new("f.yaml"), text).remove(0);
    let Document::ModelRoute(object) = parse_one(&source).unwrap() else {
        panic!("{text}")
    };
    let wanted = wanted
        .iter()
        .map(|(name, weight)| ((*name).to_owned(), *weight))
        .collect();
    let next = weights(&source, &object, 0, &wanted).unwrap();
    let next = edit::substitute(text, &source, &next);
    let reread = sources(Path::new("f.yaml"), &next).remove(0);
    let Document::ModelRoute(object) = parse_one(&reread).unwrap() else {
        panic!("{next}")
    };
    let backends = &object.spec.rules[0].split.backends;
    (next, backends.iter().map(|backend| backend.weight).collect())
}

#[test]
fn only_the_weights_change() {
    for (before, after) in [
        (
            "      - {name: a, service: s, weight: 95}   # old\n      - {name: b, service: s, weight: 5}\n",
            "      - {name: a, service: s, weight: 7}   # old\n      - {name: b, service: s, weight: 123}\n",
        ),
        (
            "      - name: a\n        # why\n        service: s\n        weight: 95  # most\n      - weight: 5\n        name: b\n        service: s",
            "      - name: a\n        # why\n        service: s\n        weight: 7  # most\n      - weight: 123\n        name: b\n        service: s",
        ),
        (
            "        [{\"name\": \"a\", \"service\": \"s\"}, {\"name\": \"b\", \"service\": \"s\", \"weight\": 5}]\n",
            "        [{\"name\": \"a\", \"weight\": 7, \"service\": \"s\"}, {\"name\": \"b\", \"service\": \"s\", \"weight\": 123}]\n",
        ),
        (
            "      - {service: s, name: a}\n      - {name: 'b', service: s, model: {name: \"ü🔑\"}}\n",
            "      - {service: s, name: a, weight: 7}\n      - {name: 'b', weight: 123, service: s, model: {name: \"ü🔑\"}}\n",
        ),
        (
            "      - name: a # the first\n        service: s\n      -   service: s\n          name: b",
            "      - name: a # the first\n        weight: 7\n        service: s\n      -   service: s\n          name: b\n          weight: 123",
        ),
        (
            "      - \"name\": a\r\n        service: s\r\n      - name: b\r\n        service: s\r\n",
            "      - \"name\": a\r\n        weight: 7\r\n        service: s\r\n      - name: b\r\n        weight: 123\r\n        service: s\r\n",
        ),
        (
            "      -\n        name: a\n        service: s\n      - ? name\n        : b\n        ? weight\n        : 0x5\n        ? service\n        : s\n",
            "      -\n        name: a\n        weight: 7\n        service: s\n      - ? name\n        : b\n        ? weight\n        : 123\n        ? service\n        : s\n",
        ),
    ] {
        let (text, weights) = change(&wrap(before), &[("a", 7), ("b", 123)]);
        assert_eq!(text, wrap(after));
        assert_eq!(weights, [7, 123]);
    }
}

#[test]
fn the_others_keep_theirs() {
    let before = wrap("      - {name: a, service: s, weight: 95}\n      - {name: b, service: s}\n");
    let (text, weights) = change(&before, &[("a", 5)]);
    assert_eq!(text, before.replace("95", "5"));
    assert_eq!(weights, [5, 1]);
    assert_eq!(change(&before, &[("b", 1)]).1, [95, 1]);
}

#[test]
fn what_cannot_be_spliced_is_written_anew_with_the_comments_above() {
    for before in [
        // One weight that stands for two.
        "      - {name: a, service: s, weight: &w 50}\n      - {name: b, service: s, weight: *w}\n",
        "      - &x {name: a, service: s, weight: 50}\n      - {<<: *x, name: b}\n",
        "      - name: >-\n          a\n        service: s\n      - {name: b, service: s, weight: 50}\n",
    ] {
        let (text, weights) = change(&wrap(before), &[("a", 7), ("b", 8)]);
        assert_eq!(weights, [7, 8], "{text}");
        assert!(text.starts_with("# head\n"), "{text}");
    }
}

#[test]
fn other_documents_of_the_file_stay_byte_for_byte() {
    let route = wrap("      - {name: a, service: s, weight: 95}\n      - {name: b, service: s, weight: 5}\n");
    let other = "\n\n# other\napiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: http, port: 80}]}\n";
    let bad = " # on the marker's line\nnot: a document\n";
    let text = format!("---{bad}--- # here\n\n{route}---{other}---\n");
    let id = "ModelRoute default/fraud";
    let source = sources(Path::new("f.yaml"), &text)
        .into_iter()
        .find(|source| parse_one(source).is_ok_and(|document| document.id().to_string() == id))
        .unwrap();
    let Document::ModelRoute(object) = parse_one(&source).unwrap() else {
        panic!()
    };
    let next = weights(&source, &object, 0, &Weights::from([("a".into(), 1)])).unwrap();
    assert_eq!(
        edit::substitute(&text, &source, &next),
        text.replace("weight: 95", "weight: 1")
    );

    let anew = "apiVersion: mesh.dev/v1alpha1\nkind: Service\nmetadata: {name: new}\nspec: {ports: [{name: http, port: 81}]}";
    let replaced = edit::replace(&text, &source, anew);
    assert_eq!(
        replaced,
        format!("---{bad}--- # here\n\n# head\n{anew}\n---{other}---\n")
    );
    assert_eq!(edit::remove(&text, &source), format!("---{bad}---{other}---\n"));
    let first = sources(Path::new("f.yaml"), &route).remove(0);
    assert_eq!(edit::remove(&format!("{route}---{other}"), &first), other[1..]);
    assert_eq!(edit::append(Some("a: b"), "c: d"), "a: b\n---\nc: d\n");
    assert_eq!(edit::append(Some("\n"), "c: d\n"), "\nc: d\n");
}
