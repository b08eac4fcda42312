//! Acceptance: HTTPRoutes and GRPCRoutes for Services decide about the requests of injected pods as the Gateway API says, and
//! their status says whether they do.

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::kubernetes::{Namespace, install_gateway_api};

use crate::control::condition;
use crate::mesh::{CLIENT, INJECT, Mesh, model};

/// How many requests a share is judged by.
const SAMPLE: u32 = 400;

/// Services that have routes: of plain HTTP, of gRPC, and some whose routes are wrong.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {role: model}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: calls}
spec: {selector: {role: model}, ports: [{name: grpc, port: 80, targetPort: 8080, appProtocol: grpc}]}
---
apiVersion: v1
kind: Service
metadata: {name: lost}
spec: {selector: {role: model}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: across}
spec: {selector: {role: model}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
";

const HTTP_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: v2, port: 80}]
  - matches: [{path: {value: /split}}]
    backendRefs: [{name: v1, port: 80, weight: 80}, {name: v2, port: 80, weight: 20}]
  - matches: [{headers: [{name: x-canary, value: 'yes'}]}]
    backendRefs: [{name: v2, port: 80}]
  - matches: [{path: {value: /headers}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-size, value: '7'}], remove: [x-stream]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-by, value: mesh}]}}
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /rewritten}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /moved}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {hostname: example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}
  - matches: [{path: {value: /slow}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: v1, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost}
spec:
  parentRefs: [{group: '', kind: Service, name: lost}]
  rules: [{backendRefs: [{name: gone, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: across}
spec:
  parentRefs: [{group: '', kind: Service, name: across}]
  rules: [{backendRefs: [{name: mesh-control, namespace: mesh-system, port: 15010}]}]
---
";

const GRPC_ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{group: '', kind: Service, name: calls}]
  rules:
  - matches: [{method: {service: shop.Cart, method: Add}}]
    backendRefs: [{name: v2, port: 80}]
  - matches: [{method: {service: shop.Cart}}]
    backendRefs: [{name: v1, port: 80, weight: 80}, {name: v2, port: 80, weight: 20}]
  - matches: [{method: {service: shop.Till}, headers: [{name: x-canary, value: 'yes'}]}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-by, value: mesh}]}}]
    backendRefs: [{name: v2, port: 80}]
---
";

/// A pod from which methods are called.
const CALLER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: caller
    image: mesh.local/model:e2e
    imagePullPolicy: IfNotPresent
    args: ['8080']
";

/// Models `v1` and `v2`, a client, and the Services.
async fn start(namespace: &Namespace) -> Result<()> {
    install_gateway_api(namespace.cluster().kubectl())?;
    let documents = model("v1", 1) + &model("v2", 1) + SERVICES + CLIENT;
    namespace.apply(&documents).await?;
    for deployment in ["v1", "v2"] {
        namespace.rolled_out(deployment).await?;
    }
    namespace.condition("pod/client", "Ready").await
}

/// Waits until the mesh says so of a route: of `Accepted` and `ResolvedRefs`, `True` or `False` with its reason.
async fn says(namespace: &Namespace, route: &str, expected: [&str; 2]) -> Result<()> {
    let (what, mut last) = (format!("the conditions of {route}"), String::new());
    let found = namespace.until(&what, async || {
        let status = namespace.get(route)?["status"].take();
        last = status.to_string();
        let said = ["Accepted", "ResolvedRefs"].map(|name| {
            let [status, reason, _] = condition(&status["parents"][0]["conditions"], name);
            format!("{status} {reason}")
        });
        Ok((said == expected).then_some(()))
    });
    let found = found.await;
    found.with_context(|| format!("{route} says {last}"))
}

fn shell(namespace: &Namespace, command: &str) -> Result<String> {
    namespace.exec("client", "client", &["sh", "-c", command])
}

/// The head and body of the answer to a request for this, with what else `curl` is told.
fn get(namespace: &Namespace, what: &str) -> Result<String> {
    shell(
        namespace,
        &format!("curl --silent --max-time 10 --dump-header - http://{what}"),
    )
}

/// Waits for the first answer that has `part` in it: conditions are written when the mesh decides, a moment before proxies know.
async fn first(namespace: &Namespace, part: &str, ask: impl Fn() -> Result<String>) -> Result<()> {
    let mut last = String::new();
    let found = namespace.until("the route to be in force", async || {
        last = ask().unwrap_or_else(|error| format!("{error:#}"));
        Ok(last.contains(part).then_some(()))
    });
    let found = found.await;
    found.with_context(|| last)
}

/// Whether a fifth of all answers are of `v2`, as far as so many can tell.
fn is_split(answers: &str) -> Result<()> {
    let of = |model: &str| answers.matches(&format!("x-server: {model}-")).count() as f64;
    let (v1, v2) = (of("v1"), of("v2"));
    let all = f64::from(SAMPLE);
    ensure!(v1 + v2 == all, "{v1} and {v2} of {all} requests were answered");
    let deviation = (0.2 * 0.8 / all).sqrt();
    ensure!(
        (v2 / all - 0.2).abs() < 4.0 * deviation,
        "{v2} of {all} requests went to v2"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_routes_decide_about_the_requests_of_injected_pods() -> Result<()> {
    let mesh = Mesh::installed()?;
    Namespace::scenario("http-routes", &[INJECT], async |namespace| {
        start(namespace).await?;
        namespace.apply(HTTP_ROUTE).await?;
        for (route, expected) in [
            ("httproute/web", ["True Accepted", "True ResolvedRefs"]),
            ("httproute/lost", ["True Accepted", "False BackendNotFound"]),
            ("httproute/across", ["True Accepted", "False RefNotPermitted"]),
        ] {
            says(namespace, route, expected).await?;
        }
        first(namespace, "x-server: v2-", || get(namespace, "web/exact")).await?;
        for (what, parts) in [
            ("web/exact", &["HTTP/1.1 200", "x-server: v2-"][..]),
            ("web/exact/more", &["HTTP/1.1 404", "mesh-error: no-rule"]),
            ("web/else", &["HTTP/1.1 404", "mesh-error: no-rule"]),
            (
                "web/else --header 'x-canary: yes'",
                &["HTTP/1.1 200", "x-server: v2-"],
            ),
            ("web/else --header 'x-canary: no'", &["HTTP/1.1 404"]),
            (
                "web/headers --header 'x-stream: 9,1'",
                &["HTTP/1.1 200", "x-by: mesh", "\r\n\r\nxxxxxxx"],
            ),
            ("web/rewritten/x", &["HTTP/1.1 200", "\"path\":\"/new/x\""]),
            (
                "web/moved/x",
                &["HTTP/1.1 301", "location: http://example.com/new/x\r\n"],
            ),
            ("web/slow", &["HTTP/1.1 200"]),
            (
                "web/slow --header 'x-delay: 8000'",
                &["HTTP/1.1 504", "mesh-error: total-timeout"],
            ),
            ("lost/", &["HTTP/1.1 500", "mesh-error: no-backend"]),
            ("across/", &["HTTP/1.1 500", "mesh-error: no-backend"]),
            // Backends are asked for themselves, not by the routes of the Service that was called.
            ("v1/else", &["HTTP/1.1 200", "x-server: v1-"]),
        ] {
            let answer = get(namespace, what)?;
            for part in parts {
                ensure!(answer.contains(part), "{what}: {part:?} is not in {answer}");
            }
        }
        is_split(&get(namespace, &format!("'web/split?[1-{SAMPLE}]'"))?)?;
        let rule = format!("of HTTPRoute {}/web takes it", namespace.name());
        for (path, answer) in [
            ("/split", "20.0% v2"),
            ("/moved/x", "301 to http://example.com/new/x"),
            ("/else", "404 mesh-error: no-rule"),
        ] {
            let ask = [
                "explain",
                "--service",
                "web",
                "--path",
                path,
                "--namespace",
                namespace.name(),
            ];
            let told = mesh.meshctl(&ask)?;
            ensure!(told.contains(answer) && told.contains(&rule), "{path}: {told}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_routes_decide_about_the_calls_of_injected_pods() -> Result<()> {
    Mesh::installed()?;
    Namespace::scenario("grpc-routes", &[INJECT], async |namespace| {
        start(namespace).await?;
        namespace.apply(CALLER).await?;
        namespace.condition("pod/caller", "Ready").await?;
        namespace.apply(GRPC_ROUTE).await?;
        says(
            namespace,
            "grpcroute/calls",
            ["True Accepted", "True ResolvedRefs"],
        )
        .await?;
        let call = |method: &str, more: &[&str]| {
            let url = format!("http://calls/{method}");
            let words = ["/usr/local/bin/grpc-client", &url];
            namespace.exec("caller", "caller", &[&words[..], more].concat())
        };
        first(namespace, "x-server: v2-", || call("shop.Cart/Add", &[])).await?;
        let canary = ["--header=x-canary=yes"];
        for (method, headers, parts) in [
            ("shop.Cart/Add", &[][..], &["x-server: v2-", "grpc-status: 0"][..]),
            ("shop.Till/Open", &canary, &["x-server: v2-", "x-by: mesh"]),
            // UNIMPLEMENTED.
            (
                "shop.Till/Open",
                &[],
                &["status: 200", "grpc-status: 12", "mesh-error: no-rule"],
            ),
            ("shop.Basket/Add", &[], &["status: 200", "grpc-status: 12"]),
        ] {
            let answer = call(method, headers)?;
            for part in parts {
                ensure!(answer.contains(part), "{method}: {part:?} is not in {answer}");
            }
        }
        is_split(&call("shop.Cart/Count", &[&format!("--calls={SAMPLE}")])?)
    })
    .await
}
