//! What it costs to decide where a request goes: nanoseconds per match and per split.
//!
//! `cargo bench -p mesh-api --bench decision`. Each figure is the fastest of several rounds: the one least disturbed by
//! whatever else the machine does.

use std::hint::black_box;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};
use mesh_api::document::ModelRouteSpec;
use mesh_api::inference::Operation;
use mesh_api::matching;
use mesh_api::name::ObjectName;
use mesh_api::route::{Route, Rules};
use mesh_api::split::{self, Salt};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut headers = HeaderMap::new();
    headers.insert("x-user-id", HeaderValue::from_static("user-4711"));
    let request = matching::Request {
        method: &Method::POST,
        path: "/v2/models/fraud/infer",
        query: None,
        headers: &headers,
        model: Some("fraud"),
        version: None,
        operation: Some(Operation::Infer),
        caller: None,
    };
    for count in [1, 5, 100, 5_000] {
        let rules = rules(count)?;
        report(&format!("match/last of {count}"), || {
            black_box(matching::find(black_box(&rules), black_box(&request)));
        });
    }
    // Each request asks for another model, so that nothing of the index stays in the cache by itself.
    for count in [5, 100, 5_000] {
        let rules = rules(count)?;
        let models: Vec<_> = (1..count).map(|number| format!("model-{number}")).collect();
        let mut models = models.iter().cycle();
        report(&format!("match/each of {count}"), || {
            let request = matching::Request {
                model: models.next().map(String::as_str),
                ..request
            };
            black_box(matching::find(black_box(&rules), black_box(&request)));
        });
        let (object, spec) = ("ml/fraud".parse()?, spec(count)?);
        let mut fastest = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            black_box(Route::new(&object, black_box(&spec)).is_ok());
            fastest = fastest.min(start.elapsed().as_nanos() as f64);
        }
        println!("{:<24} {fastest:>10.1} ns", format!("build/{count} rules"));
    }
    for backends in [2, 10] {
        let rules = split_over(backends)?;
        let Some(split) = rules.first().and_then(|rule| rule.split()) else {
            continue;
        };
        let salt = Salt::of(&"ml/fraud".parse::<ObjectName>()?);
        report(&format!("split/{backends} by weight"), || {
            black_box(split::draw(black_box(split), black_box(0x9e37_79b9_7f4a_7c15)));
        });
        report(&format!("split/{backends} by key"), || {
            black_box(split::place(black_box(split), salt, black_box(b"user-4711")));
        });
    }
    Ok(())
}

/// So many rules, of which only the last takes the request.
fn rules(count: usize) -> Result<Rules, Box<dyn std::error::Error>> {
    Ok(Route::new(&"ml/fraud".parse()?, &spec(count)?)
        .map_err(|problems| format!("{problems:?}"))?
        .rules)
}

fn spec(count: usize) -> Result<ModelRouteSpec, Box<dyn std::error::Error>> {
    let backends = serde_json::json!({"backends": [{"name": "a", "service": "a"}]});
    let rules: Vec<_> = (1..=count)
        .map(|number| {
            let model = if number == count {
                "fraud".to_owned()
            } else {
                format!("model-{number}")
            };
            serde_json::json!({"matches": [{"model": model, "operation": ["infer"]}], "split": backends})
        })
        .collect();
    Ok(serde_json::from_value(
        serde_json::json!({"service": "fraud", "rules": rules}),
    )?)
}

/// One rule with so many backends.
fn split_over(count: usize) -> Result<Rules, Box<dyn std::error::Error>> {
    let backends: Vec<_> = (0..count)
        .map(|number| serde_json::json!({"name": format!("b{number}"), "service": "a", "weight": 10}))
        .collect();
    route(&serde_json::json!([{"split": {"backends": backends}}]))
}

fn route(rules: &serde_json::Value) -> Result<Rules, Box<dyn std::error::Error>> {
    let spec = serde_json::from_value(serde_json::json!({"service": "fraud", "rules": rules}))?;
    let route = Route::new(&"ml/fraud".parse()?, &spec).map_err(|problems| format!("{problems:?}"))?;
    Ok(route.rules)
}

fn report(name: &str, mut run: impl FnMut()) {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (start, mut runs) = (Instant::now(), 0_u32);
        while start.elapsed() < ROUND {
            for _ in 0..64 {
                run();
            }
            runs += 64;
        }
        fastest = fastest.min(start.elapsed().as_nanos() as f64 / f64::from(runs));
    }
    println!("{name:<24} {fastest:>10.1} ns");
}
