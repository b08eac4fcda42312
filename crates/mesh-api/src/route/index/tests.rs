//! The index gives the answer that asking every rule in order gives.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::identity::Identity;
use crate::inference::Operation;
use crate::matching::{self, Request};
use crate::route::{Route, Rules};

/// Texts that are prefixes of each other, and not.
const TEXTS: [&str; 9] = ["a", "ab", "abc", "abd", "b", "ba", "c", "fraud", "fraud-2"];

fn text() -> impl Strategy<Value = &'static str> {
    select(&TEXTS[..])
}

fn string_match() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => text().prop_map(|text| json!(text)),
        2 => prop_oneof![Just(""), text()].prop_map(|prefix| json!({"prefix": prefix})),
    ]
}

fn header_match() -> impl Strategy<Value = Value> {
    prop_oneof![3 => string_match(), 1 => any::<bool>().prop_map(|present| json!({"present": present}))]
}

/// Paths of one or two elements.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        text().prop_map(|it| format!("/{it}")),
        (text(), text()).prop_map(|(a, b)| format!("/{a}/{b}"))
    ]
}

fn a_match() -> impl Strategy<Value = Value> {
    let maybe = |chance: f64, strategy: BoxedStrategy<Value>| proptest::option::weighted(chance, strategy);
    let path = prop_oneof![
        path().prop_map(|path| json!(path)),
        path().prop_map(|path| json!({"prefix": path})),
        path().prop_map(|path| json!({"under": path})),
        Just(json!({"under": "/"})),
        path().prop_map(|path| json!({"suffix": path})),
    ];
    let operations = proptest::collection::vec(select(vec!["infer", "generate", "admin"]), 1..3);
    (
        maybe(0.6, string_match().boxed()),
        maybe(0.4, string_match().boxed()),
        maybe(0.3, operations.prop_map(|them| json!(them)).boxed()),
        maybe(0.2, select(vec!["GET", "POST"]).prop_map(|it| json!(it)).boxed()),
        maybe(0.3, path.boxed()),
        maybe(0.1, string_match().prop_map(|it| json!({"tier": it})).boxed()),
        maybe(0.3, header_match().boxed()),
        maybe(0.2, header_match().boxed()),
        maybe(
            0.2,
            select(vec!["ml/*", "ml/web", "other/*", "other/web"])
                .prop_map(|it| json!(it))
                .boxed(),
        ),
    )
        .prop_map(
            |(model, version, operation, method, path, query, tier, tenant, caller)| {
                let mut wanted = serde_json::Map::new();
                let mut headers = serde_json::Map::new();
                headers.extend(tier.map(|it| ("x-tier".to_owned(), it)));
                headers.extend(tenant.map(|it| ("x-tenant".to_owned(), it)));
                let headers = (!headers.is_empty()).then_some(Value::Object(headers));
                for (name, value) in [
                    ("model", model),
                    ("version", version),
                    ("operation", operation),
                    ("method", method),
                    ("path", path),
                    ("query", query),
                    ("headers", headers),
                    ("caller", caller),
                ] {
                    wanted.extend(value.map(|value| (name.to_owned(), value)));
                }
                Value::Object(wanted)
            },
        )
}

/// What a request is made of.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    model: Option<&'static str>,
    version: Option<&'static str>,
    operation: Option<Operation>,
    caller: Option<Identity>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let maybe = || proptest::option::weighted(0.8, text());
    (
        any::<bool>(),
        path(),
        proptest::option::of(text()),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        proptest::option::of(select(vec![
            Operation::Infer,
            Operation::Generate,
            Operation::Admin,
            Operation::Other,
        ])),
        proptest::option::of(select(vec!["ml/sa/web", "ml/sa/api", "other/sa/web"])),
    )
        .prop_map(
            |(post, path, query, model, version, tier, tenant, operation, caller)| Asked {
                method: if post { Method::POST } else { Method::GET },
                path,
                query: query.map(|tier| format!("a=b&tier={tier}")),
                headers: [("x-tier", tier), ("x-tenant", tenant)]
                    .into_iter()
                    .filter_map(|(name, value)| {
                        Some((HeaderName::from_static(name), HeaderValue::from_static(value?)))
                    })
                    .collect(),
                model,
                version,
                operation,
                caller: caller.map(|it| format!("spiffe://mesh.local/ns/{it}").parse().unwrap()),
            },
        )
}

impl Asked {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            model: self.model,
            version: self.version,
            operation: self.operation,
            caller: self.caller.as_ref(),
        }
    }
}

fn rules(of: impl IntoIterator<Item = Vec<Value>>) -> Rules {
    let split = json!({"backends": [{"name": "a", "service": "a"}]});
    let rules: Vec<_> = of
        .into_iter()
        .map(|matches| json!({"matches": matches, "split": split}))
        .collect();
    let spec = serde_json::from_value(json!({"service": "s", "rules": rules})).unwrap();
    Route::new(&"ml/r".parse().unwrap(), &spec).unwrap().rules
}

fn in_order(rules: &Rules, request: &Request<'_>) -> Option<usize> {
    rules.iter().position(|rule| matching::takes(rule, request))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn finds_what_asking_in_order_finds(
        matches in proptest::collection::vec(proptest::collection::vec(a_match(), 0..4), 0..80),
        // Most rules without a match stand at the end, where they do not hide the others.
        catch_all in any::<bool>(),
        requests in proptest::collection::vec(asked(), 30),
    ) {
        let mut matches: Vec<_> = matches.into_iter().filter(|it| !it.is_empty()).collect();
        if catch_all {
            matches.push(Vec::new());
        }
        let rules = rules(matches);
        for asked in &requests {
            let request = asked.request();
            prop_assert_eq!(rules.find(&request), in_order(&rules, &request), "{:?}", asked);
        }
    }

    #[test]
    fn a_rule_that_takes_everything_hides_those_after_it(
        matches in proptest::collection::vec(proptest::collection::vec(a_match(), 0..2), 1..40),
        requests in proptest::collection::vec(asked(), 20),
    ) {
        let rules = rules(matches);
        for asked in &requests {
            let request = asked.request();
            prop_assert_eq!(rules.find(&request), in_order(&rules, &request), "{:?}", asked);
        }
    }
}

/// How many matches are asked on the way to an answer at most: the residue of all nodes that a request can meet.
fn asked_at_most(rules: &Rules, request: &Request<'_>) -> usize {
    fn walk(node: &super::Node, request: &Request<'_>) -> usize {
        let node = match node {
            super::Node::One(_) => return 1,
            super::Node::More(several) => several,
        };
        let below = node.branches.iter().map(|branch| {
            let Some(value) = branch.field.of(request) else {
                return 0;
            };
            match &branch.texts {
                super::Texts::Equal(nodes) => nodes.get(value).map_or(0, |node| walk(node, request)),
                super::Texts::Begins(prefixes) => prefixes.of(value).map(|node| walk(node, request)).sum(),
            }
        });
        below.sum::<usize>() + node.rest.len()
    }
    walk(&rules.0.root, request)
}

#[test]
fn whatever_tells_five_thousand_rules_apart_few_are_asked() {
    let caller: Identity = "spiffe://mesh.local/ns/ml/sa/web".parse().unwrap();
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-tenant"),
        HeaderValue::from_static("t-49"),
    )]);
    let request = Request {
        method: &Method::POST,
        path: "/v2/models/m-4999/infer",
        query: None,
        headers: &headers,
        model: Some("m-4999"),
        version: Some("99"),
        operation: Some(Operation::Infer),
        caller: Some(&caller),
    };
    type Shape = (&'static str, fn(usize) -> Value, usize);
    let shapes: [Shape; 8] = [
        (
            "model",
            |n| json!({"model": format!("m-{n}"), "operation": ["infer"]}),
            1,
        ),
        (
            "model and version",
            |n| json!({"model": "m-4999", "version": n.to_string()}),
            1,
        ),
        (
            "many models of many tenants",
            |n| json!({"model": format!("m-{}", 4900 + n / 50), "headers": {"x-tenant": format!("t-{}", n % 50)}}),
            1,
        ),
        (
            "prefix of the path",
            |n| json!({"path": {"prefix": format!("/v2/models/m-{n}/")}}),
            1,
        ),
        (
            "path above",
            |n| json!({"path": {"under": format!("/v2/models/m-{n}")}}),
            5,
        ),
        (
            "prefix of the model",
            |n| json!({"model": {"prefix": format!("m-{n}")}}),
            5,
        ),
        (
            "caller",
            |n| json!({"caller": format!("team-{n}/*"), "model": "m-4999"}),
            0,
        ),
        (
            "a header of its own each",
            |n| json!({"model": format!("m-{}", n / 2), "headers": {format!("x-h{n}"): "1"}}),
            2,
        ),
    ];
    for (name, shape, most) in shapes {
        let rules = rules((0..5000).map(|n| vec![shape(n)]));
        let asked = asked_at_most(&rules, &request);
        assert!(asked <= most, "{name}: {asked}");
        assert_eq!(rules.find(&request), in_order(&rules, &request), "{name}");
    }
}
