//! What must hold of documents that have to do with interception.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use mesh_api::document::{Document, parse_all};
use mesh_api::validate::{alone, together};

fn parse(text: &str) -> Vec<Document> {
    let documents = parse_all(Path::new("mesh.yaml"), text).into_iter();
    documents.map(|result| result.unwrap().0).collect()
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: mesh.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: ml}}\nspec: {spec}\n"
    )
}

fn workload(name: &str, spec: &str) -> String {
    document("Workload", name, &format!("{{{spec}}}"))
}

fn service(name: &str, addresses: &str) -> String {
    let spec = format!(
        "{{ports: [{{name: a, port: 80}}, {{name: b, port: 81, appProtocol: detect}}], addresses: [{addresses}]}}"
    );
    document("Service", name, &spec)
}

#[test]
fn documents_by_themselves() {
    let ports = "ports: [{name: http, port: 8000}]";
    let cases = [
        // Good ones
        (
            workload("a", &format!("address: 10.0.0.2, interception: {{}}, {ports}")),
            "",
        ),
        (
            workload(
                "a",
                "address: 'fd00::2', interception: {inboundPort: 1, outboundPort: 2}",
            ),
            "",
        ),
        (
            workload(
                "a",
                "address: 10.0.0.2, interception: {}, ports: [{name: http, port: 8000, listen: 18000}]",
            ),
            "",
        ),
        (service("a", "10.96.0.7, 'fd00::7'"), ""),
        (document("MeshConfig", "a", "{detection: {wait: 1ms}}"), ""),
        // Bad ones
        (workload("a", ports), "spec.ports[0].listen: missing"),
        (
            workload("a", &format!("interception: {{}}, {ports}")),
            "spec.address: 127.0.0.1 is not where others",
        ),
        (
            workload("a", "address: 0.0.0.0, interception: {}"),
            "spec.address: 0.0.0.0 is not where others",
        ),
        (
            workload("a", "address: 10.0.0.2, interception: {inboundPort: 15001}"),
            "spec.interception.outboundPort: 127.0.0.1:15001 is used by an earlier port too",
        ),
        (
            workload("a", "address: 10.0.0.2, interception: {outboundPort: 0}"),
            "spec.interception.outboundPort: 0 is not a port",
        ),
        (
            workload(
                "a",
                "address: 10.0.0.2, interception: {}, ports: [{name: http, port: 15006}]",
            ),
            "spec.ports[0].port: 127.0.0.1:15006 is used by an earlier port too",
        ),
        (
            workload(
                "a",
                "address: 10.0.0.2, interception: {}, outbound: {proxyPort: 15001}",
            ),
            "spec.outbound.proxyPort: 127.0.0.1:15001 is used by an earlier port too",
        ),
        (
            service("a", "127.0.0.9"),
            "spec.addresses[0]: 127.0.0.9 is loopback",
        ),
        (
            service("a", "10.96.0.7, 224.0.0.1"),
            "spec.addresses[1]: 224.0.0.1 can't be connected to",
        ),
        (
            service("a", "'::'"),
            "spec.addresses[0]: :: can't be connected to",
        ),
        (
            service("a", "'::ffff:10.0.0.1'"),
            "spec.addresses[0]: ::ffff:10.0.0.1 is an IPv4 address",
        ),
        (
            service("a", "10.96.0.7, 10.96.0.7"),
            "spec.addresses[1]: 10.96.0.7 stands here twice",
        ),
        (
            document("MeshConfig", "a", "{detection: {wait: 0s}}"),
            "spec.detection.wait: 0s is not between",
        ),
        (
            document("MeshConfig", "a", "{detection: {wait: 11s}}"),
            "spec.detection.wait: 11s is not between",
        ),
    ];
    for (text, expected) in cases {
        let problems: Vec<_> = alone(&parse(&text)[0]).iter().map(ToString::to_string).collect();
        let as_expected = match problems.as_slice() {
            [] => expected.is_empty(),
            [only] => !expected.is_empty() && only.starts_with(expected),
            _ => false,
        };
        assert!(as_expected, "{text}\n{problems:?} instead of {expected:?}");
    }
}

#[test]
fn documents_beside_each_other() {
    let intercepted = "interception: {}, ports: [{name: http, port: 8000}]";
    let own = workload("a", &format!("address: 10.0.0.2, {intercepted}"))
        + &workload("b", &format!("address: 10.0.0.3, {intercepted}"))
        + &workload("c", "ports: [{name: http, port: 8000, listen: 18000}]");
    assert_eq!(
        together(&parse(&own)).refused,
        [],
        "each has a network namespace of its own"
    );

    let cases = [
        (
            workload("a", &format!("address: 10.0.0.2, {intercepted}"))
                + &workload("b", &format!("address: 10.0.0.2, {intercepted}")),
            "Workload ml/b: spec.interception.inboundPort: Workload ml/a listens on 127.0.0.1:15006 already",
        ),
        (
            service("a", "10.96.0.7, 10.96.0.8") + &service("b", "10.96.0.8"),
            "Service ml/b: spec.addresses[0]: 10.96.0.8:80 stands for Service ml/a already",
        ),
    ];
    for (text, expected) in cases {
        let refused = together(&parse(&text)).refused;
        let [(id, problem)] = refused.as_slice() else {
            panic!("{refused:?}")
        };
        let said = format!("{id}: {problem}");
        assert!(said.starts_with(expected), "{said}");
    }
}
