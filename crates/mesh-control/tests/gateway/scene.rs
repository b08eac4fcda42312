//! Routes as YAML, some Services, and requests that are decided by what comes of them.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_api::matching::{self, Request};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{Action, Asked, Filters, Route, Rule, Scheme};
use mesh_control::source::kubernetes::gateway::{
    Compiled, Grant, GrpcRoute, HttpRoute, Parsed, Services, combine, compile,
};
use serde_json::Value;

/// Services with their ports.
#[derive(Debug)]
pub(crate) struct Known(BTreeMap<ObjectName, Vec<(u16, Name)>>);

impl Services for Known {
    fn ports(&self, service: &ObjectName) -> Option<Vec<(u16, Name)>> {
        self.0.get(service).cloned()
    }

    fn is_routable(&self, service: &ObjectName) -> bool {
        service.name.as_str() != "headless"
    }
}

/// `web` (80 `http`, 8080 `more`), `v1`, `v2`, `headless` and `other/web`.
pub(crate) fn services() -> Known {
    let ports = |ports: &[(u16, &str)]| {
        ports
            .iter()
            .map(|(port, name)| (*port, name.parse().unwrap()))
            .collect()
    };
    let one: Vec<(u16, Name)> = ports(&[(80, "http")]);
    let all = [
        ("ml/web", ports(&[(80, "http"), (8080, "more")])),
        ("ml/v1", one.clone()),
        ("ml/v2", one.clone()),
        ("ml/headless", one.clone()),
        ("other/web", one),
    ];
    Known(
        all.into_iter()
            .map(|(name, ports)| (name.parse().unwrap(), ports))
            .collect(),
    )
}

/// Reads routes, one after the other.
pub(crate) fn parsed(yaml: &str) -> Vec<Parsed> {
    let documents = yaml.split("\n---\n").filter(|text| !text.trim().is_empty());
    documents
        .map(|text| {
            let value: Value = serde_saphyr::from_str(text).unwrap();
            match value["kind"].as_str() {
                Some("GRPCRoute") => Parsed::grpc(&serde_json::from_value::<GrpcRoute>(value).unwrap()),
                _ => Parsed::http(&serde_json::from_value::<HttpRoute>(value).unwrap()),
            }
            .unwrap()
        })
        .collect()
}

/// An HTTPRoute for `web`, made before others if `created` is a smaller letter or digit.
pub(crate) fn http_route(name: &str, created: u32, rules: &str) -> String {
    route(
        "HTTPRoute",
        "ml",
        name,
        created,
        "{group: '', kind: Service, name: web, namespace: ml}",
        rules,
    )
}

pub(crate) fn route(
    kind: &str,
    namespace: &str,
    name: &str,
    created: u32,
    parent: &str,
    rules: &str,
) -> String {
    format!(
        "kind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, generation: 3, creationTimestamp: \
         '2026-01-01T00:00:{created:02}Z'}}\nspec:\n  parentRefs: [{parent}]\n  rules: {rules}\n---\n"
    )
}

pub(crate) fn compiled(yaml: &str) -> Compiled {
    granted(yaml, &[])
}

pub(crate) fn granted(yaml: &str, grants: &[Grant]) -> Compiled {
    compile(&parsed(yaml), &services(), grants)
}

/// The route of `web`.
pub(crate) fn web(yaml: &str) -> Route {
    let service: ObjectName = "ml/web".parse().unwrap();
    let rules = compiled(yaml).rules.remove(&service).unwrap_or_default();
    combine(&service, None, rules).unwrap().unwrap()
}

/// A request of a workload of `ml` unless it says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) query: Option<&'static str>,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) from: &'static str,
    pub(crate) port: &'static str,
}

pub(crate) fn get(path: &'static str) -> Sent {
    Sent {
        method: Method::GET,
        path,
        query: None,
        headers: &[],
        from: "ml",
        port: "http",
    }
}

impl Sent {
    /// The rule that takes it.
    pub(crate) fn rule(&self, route: &Route) -> Rule {
        let headers: HeaderMap = self
            .headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let caller = format!("spiffe://mesh.local/ns/{}/sa/client", self.from)
            .parse()
            .unwrap();
        let request = Request {
            method: &self.method,
            path: self.path,
            query: self.query,
            headers: &headers,
            model: None,
            version: None,
            operation: None,
            caller: Some(&caller),
        };
        let rules = route.rules.of_port(&self.port.parse().unwrap());
        rules[matching::find(&rules, &request).expect("the last rule takes everything")].clone()
    }

    /// What becomes of it, in a word: a backend, a status, a URL; or the status of a refusal.
    pub(crate) fn outcome(&self, route: &Route) -> String {
        let rule = self.rule(route);
        match &rule.action {
            Action::Split(split) => {
                let parts = split.backends.iter().filter(|it| it.weight > 0);
                let parts: Vec<String> = parts
                    .map(|it| match &it.invalid {
                        Some(_) => format!("{}=500", it.name),
                        None => it.name.to_string(),
                    })
                    .collect();
                parts.join("+")
            }
            Action::Redirect(redirect) => {
                let authority = "web.ml:8080".parse().unwrap();
                let location = redirect.location(&Asked {
                    scheme: Scheme::Http,
                    authority: Some(&authority),
                    port: 80,
                    path: self.path,
                    query: self.query,
                });
                format!("{} {location}", redirect.status.as_u16())
            }
            Action::Refuse(refused) => refused.reason.status().to_string(),
        }
    }

    /// The path that the rule, or else its first backend, makes of it.
    pub(crate) fn path_there(&self, route: &Route) -> String {
        let rule = self.rule(route);
        let of = |filters: Option<&Filters>| Some(filters?.path.as_ref()?.apply(self.path).into_owned());
        let backend = rule
            .backends()
            .first()
            .and_then(|backend| of(backend.filters.as_deref()));
        backend
            .or_else(|| of(rule.filters.as_deref()))
            .unwrap_or_else(|| self.path.to_owned())
    }
}
