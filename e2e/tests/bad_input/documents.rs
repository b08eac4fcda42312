//! Bad documents: each is refused alone, with file, line, object, field and reason, and what was in force stays.

use anyhow::{Context as _, Result};
use http::Method;
use mesh_e2e::canary::{Canary, INFER, KEY, TENSOR};
use mesh_e2e::client::{Http1, full, request};
use mesh_e2e::wait;

/// A document of kind and spec, named `bad`.
fn document(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: bad, namespace: ml}}\nspec: {spec}\n"
    )
}

/// What is wrong, the text, the object that is named, and parts of field and reason.
fn cases() -> Vec<(&'static str, String, &'static str, &'static str, &'static str)> {
    let route = |rest: &str| document("ModelRoute", &format!("{{service: bad, rules: [{rest}]}}"));
    let split = "split: {backends: [{name: a, service: a}]}";
    let named = "ModelRoute ml/bad";
    vec![
        ("no YAML", "kind: [".into(), "", "", ""),
        ("a scalar", "just text\n".into(), "", "", ""),
        ("a list", "- a\n- b\n".into(), "", "", ""),
        (
            "no version",
            "kind: Service\nmetadata: {name: bad}\nspec: {}\n".into(),
            "Service default/bad",
            "apiVersion",
            "mesh.dev/v1alpha1",
        ),
        (
            "another API",
            document("Service", "{}").replace("mesh.dev/v1alpha1", "v1"),
            "Service ml/bad",
            "apiVersion",
            "mesh.dev/v1alpha1",
        ),
        (
            "another kind",
            document("VirtualService", "{}"),
            "",
            "kind",
            "VirtualService",
        ),
        (
            "a kind in lower case",
            document("modelroute", "{}"),
            named,
            "kind",
            "is written ModelRoute",
        ),
        (
            "a bad name",
            document("Service", "{}").replace("name: bad", "name: Bad_"),
            "",
            "metadata.name",
            "not a name",
        ),
        (
            "an unknown field",
            document("Service", "{portz: []}"),
            "Service ml/bad",
            "spec",
            "portz",
        ),
        (
            "a service without ports",
            document("Service", "{ports: []}"),
            "Service ml/bad",
            "spec.ports",
            "port",
        ),
        (
            "a port beyond all ports",
            document("Service", "{ports: [{name: a, port: 70000}]}"),
            "Service ml/bad",
            "spec.ports[0].port",
            "",
        ),
        (
            "port 0",
            document("Service", "{ports: [{name: a, port: 0}]}"),
            "Service ml/bad",
            "spec.ports[0].port",
            "0",
        ),
        (
            "a port twice",
            document("Service", "{ports: [{name: a, port: 1}, {name: a, port: 2}]}"),
            "Service ml/bad",
            "spec.ports[1].name",
            "earlier",
        ),
        (
            "an unknown protocol",
            document("Service", "{ports: [{name: a, port: 1, appProtocol: gopher}]}"),
            "Service ml/bad",
            "spec.ports[0].appProtocol",
            "gopher",
        ),
        (
            "no backends",
            route("{split: {backends: []}}"),
            named,
            "spec.rules[0].split.backends",
            "0 backends",
        ),
        (
            "all weights 0",
            route("{split: {backends: [{name: a, service: a, weight: 0}]}}"),
            named,
            "spec.rules[0].split.backends",
            "all weights are 0",
        ),
        (
            "a negative weight",
            route("{split: {backends: [{name: a, service: a, weight: -1}]}}"),
            named,
            "weight",
            "",
        ),
        (
            "a huge weight",
            route("{split: {backends: [{name: a, service: a, weight: 1000001}]}}"),
            named,
            "weight",
            "1000000",
        ),
        (
            "a backend twice",
            route("{split: {backends: [{name: a, service: a}, {name: a, service: b}]}}"),
            named,
            "backends[1].name",
            "earlier",
        ),
        (
            "an unknown operation",
            route(&format!("{{matches: [{{operation: [dance]}}], {split}}}")),
            named,
            "operation",
            "dance",
        ),
        (
            "a timeout without unit",
            route(&format!("{{timeouts: {{total: 30}}, {split}}}")),
            named,
            "timeouts.total",
            "",
        ),
        (
            "a timeout of nothing",
            route(&format!("{{timeouts: {{total: 0s}}, {split}}}")),
            named,
            "timeouts.total",
            "0s",
        ),
        (
            "too many retries",
            route(&format!("{{retries: {{attempts: 11}}, {split}}}")),
            named,
            "retries.attempts",
            "10",
        ),
        (
            "a header that is none",
            route(&format!("{{matches: [{{headers: {{\"a b\": x}}}}], {split}}}")),
            named,
            "headers",
            "a b",
        ),
        (
            "a caller that is none",
            route(&format!("{{matches: [{{caller: nobody}}], {split}}}")),
            named,
            "caller",
            "nobody",
        ),
        (
            "an address that is none",
            document("Workload", "{address: localhost}"),
            "Workload ml/bad",
            "spec.address",
            "",
        ),
        (
            "a listener twice",
            document("Workload", "{ports: [{name: a, port: 9001, listen: 9001}]}"),
            "Workload ml/bad",
            "listen",
            "earlier",
        ),
        (
            "a read-ahead of nothing",
            document("MeshConfig", "{inference: {readAheadBytes: 1}}"),
            "MeshConfig ml/bad",
            "readAheadBytes",
            "16384",
        ),
        (
            "another trust domain",
            document("MeshConfig", "{trustDomain: other.mesh}"),
            "MeshConfig ml/bad",
            "trustDomain",
            "mesh.local",
        ),
        (
            "a mode that is none",
            document("MeshConfig", "{mtls: sometimes}"),
            "MeshConfig ml/bad",
            "spec.mtls",
            "sometimes",
        ),
        (
            "a connect timeout beyond all bounds",
            document(
                "TrafficPolicy",
                "{service: bad, connection: {connectTimeout: 2h}}",
            ),
            "TrafficPolicy ml/bad",
            "connectTimeout",
            "60s",
        ),
        ("an alias bomb", bomb(), "", "", ""),
    ]
}

fn bomb() -> String {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, before) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        let aliases = vec![format!("*{before}"); 9].join(",");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_refused_alone() -> Result<()> {
    let mesh = Canary::start(1, [0, 100]).await?;
    let before = mesh.mesh.status().await?;
    assert!(before.problems.is_empty(), "{:?}", before.problems);
    let cases = cases();
    let file = |number: usize| format!("bad-{number:02}.yaml");
    for (number, (_, text, ..)) in cases.iter().enumerate() {
        mesh.mesh
            .write(&file(number), &format!("# a comment\n---\n{text}"))?;
    }
    let status = wait::until("the refusals", async || {
        let status = mesh.mesh.status().await?;
        let refused = |number| {
            status
                .problems
                .iter()
                .any(|problem| problem.file.ends_with(&file(number)))
        };
        Ok((0..cases.len()).all(refused).then_some(status))
    })
    .await?;
    for (number, (what, _, object, field, reason)) in cases.iter().enumerate() {
        let mut problems = status
            .problems
            .iter()
            .filter(|problem| problem.file.ends_with(&file(number)));
        let found = problems.clone().any(|problem| {
            !problem.warning
                && problem.object == *object
                && problem.field.contains(field)
                && problem.reason.contains(reason)
                && problem.line >= 2
                && !problem.reason.is_empty()
                && problem.reason.len() < 600
        });
        assert!(found, "{what}: {:?}", problems.next());
    }
    assert_eq!(status.version, before.version, "nothing of it is published");
    served_by(&mesh, "canary").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_good_stays_in_force() -> Result<()> {
    let mesh = Canary::start(1, [0, 100]).await?;
    let route = "modelroute-fraud.yaml";
    let good = std::fs::read_to_string(mesh.mesh.folder().join("documents").join(route))?;
    let broken = good.replace("weight: 100", "weight: 0");
    assert_ne!(good, broken, "the route gives the canary everything: {good}");
    for (what, text) in [("no YAML", "{".to_owned()), ("all weights 0", broken)] {
        mesh.mesh.write(route, &text)?;
        wait::until(what, async || {
            Ok((!mesh.mesh.status().await?.problems.is_empty()).then_some(()))
        })
        .await?;
        served_by(&mesh, "canary").await.context(what)?;
        // What is refused at start is not in force, and opens nothing: here, the service has no endpoints of its own.
        mesh.mesh.write(route, &good)?;
        wait::until("the good document", async || {
            Ok(mesh.mesh.status().await?.problems.is_empty().then_some(()))
        })
        .await?;
    }
    served_by(&mesh, "canary").await
}

async fn served_by(mesh: &Canary, server: &str) -> Result<()> {
    let request = request(Method::POST, INFER)
        .header(KEY, "user-1")
        .body(full(TENSOR))?;
    let answer = Http1::connect(mesh.caller(0)?)
        .await?
        .send(request)
        .await?
        .success()?;
    assert_eq!(answer.server(), server);
    Ok(())
}
