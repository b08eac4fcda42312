//! What a mesh says it has seen: in the metrics and the access logs of the sidecars on both sides, and in `meshctl
//! routes`. All of them must tell of the same requests, and of no others.
//!
//! A kind of request is written as `service rule/backend model@version operation code`, where what there is none of is
//! left out: `ml/fraud / fraud@1 infer 200`. A server's sidecar knows neither rule nor backend.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::mesh::{Mesh, until};

/// How often each kind of request was seen.
pub(crate) type Counts = BTreeMap<String, u64>;

const CALLER_IDENTITY: &str = "spiffe://mesh.local/ns/ml/sa/client";

/// Whose word it is: the caller's sidecar (none), or that of a Workload.
type Sidecar<'a> = Option<&'a str>;

/// Fails unless metrics and access log of a sidecar tell of exactly these requests.
pub(crate) fn by_sidecar(mesh: &Mesh, sidecar: Sidecar<'_>, expected: &[(&str, u64)]) -> Result<()> {
    let name = sidecar.unwrap_or("the caller");
    equal(&format!("the metrics of {name}"), expected, || {
        of_metrics(&mesh.metrics(sidecar)?)
    })?;
    equal(&format!("the access log of {name}"), expected, || {
        of_log(&mesh.log(sidecar)?)
    })?;
    if sidecar.is_some() {
        // The name that the certificate of the caller's sidecar has: nothing came in without one.
        for line in requests(&mesh.log(sidecar)?) {
            ensure!(
                line["mesh.peer"] == CALLER_IDENTITY,
                "{name} was called by {line}"
            );
        }
    }
    Ok(())
}

/// Fails unless `meshctl routes` tells of exactly these requests, of which it shows no codes, to machines and to people.
pub(crate) fn by_routes(mesh: &Mesh, expected: &[(&str, u64)]) -> Result<()> {
    let mut uncoded = Counts::new();
    for (kind, count) in expected {
        let (kind, _code) = kind.rsplit_once(' ').context("a kind without a code")?;
        *uncoded.entry(kind.to_owned()).or_default() += count;
    }
    let uncoded: Vec<_> = uncoded
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    equal("meshctl routes -o json", &uncoded, || {
        let routes = mesh.meshctl(&["routes", "--window", "300", "-o", "json"])?;
        Ok(of_routes(&serde_json::from_str(&routes)?))
    })?;
    let table = mesh.meshctl(&["routes", "--window", "300"])?;
    eprintln!("{table}");
    for (kind, _) in &uncoded {
        let words = in_words(kind).with_context(|| format!("{kind:?} is no kind"))?;
        ensure!(
            table.contains(&words),
            "meshctl routes does not show {words:?}:\n{table}"
        );
    }
    Ok(())
}

/// Fails unless the counts get equal: what is seen of a request is told when its last byte has passed, and reported to
/// the control plane later.
fn equal(who: &str, expected: &[(&str, u64)], ask: impl Fn() -> Result<Counts>) -> Result<()> {
    let expected: Counts = expected
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect();
    let mut last = Counts::new();
    until(who, || {
        last = ask()?;
        Ok((last == expected).then_some(()))
    })
    .with_context(|| format!("{who} should tell of {expected:#?}, not of {last:#?}"))
}

fn kind(text: impl Fn(&str) -> String) -> String {
    let [service, rule, backend] = ["service", "rule", "backend"].map(&text);
    let [model, version, operation] = ["model", "version", "operation"].map(&text);
    format!("{service} {rule}/{backend} {model}@{version} {operation}")
}

/// The samples of `mesh_requests_total`.
fn of_metrics(page: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in page.lines() {
        let Some(sample) = line.strip_prefix("mesh_requests_total{") else {
            continue;
        };
        let (labels, count) = sample.rsplit_once("} ").context("a sample without a value")?;
        let label = |name: &str| {
            let value = labels
                .split(',')
                .find_map(|label| label.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let kind = format!("{} {}", kind(label), label("code"));
        *counts.entry(kind).or_default() += count.parse::<u64>()?;
    }
    Ok(counts)
}

/// The lines about requests; others are the sidecar's own.
fn requests(log: &str) -> impl Iterator<Item = Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("mesh.direction").is_some())
}

/// The access log, with codes as the metrics have them.
fn of_log(log: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for line in lines.filter(|line| line.get("mesh.direction").is_some()) {
        let field = |name: &str| {
            let name = if name == "version" { "model_version" } else { name };
            line[format!("mesh.{name}")]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let code = match line["rpc.grpc.status_code"].as_u64() {
            None => line["http.response.status_code"].to_string(),
            Some(0) => "OK".to_owned(),
            Some(5) => "NOT_FOUND".to_owned(),
            Some(other) => format!("gRPC status {other}"),
        };
        *counts.entry(format!("{} {code}", kind(field))).or_default() += 1;
    }
    Ok(counts)
}

/// The leaves of the tree.
fn of_routes(routes: &Value) -> Counts {
    let mut counts = Counts::new();
    let mut add = |service: &Value, rule: &str, backend: &str, models: &Value| {
        for model in list(models) {
            let text = |name: &str| match name {
                "service" => word(&service["name"]),
                "rule" => rule.to_owned(),
                "backend" => backend.to_owned(),
                name => word(&model[name]),
            };
            *counts.entry(kind(text)).or_default() +=
                model["traffic"]["requests"].as_u64().unwrap_or_default();
        }
    };
    for service in list(&routes["services"]) {
        for rule in list(&service["rules"]) {
            for backend in list(&rule["backends"]) {
                add(
                    service,
                    &word(&rule["name"]),
                    &word(&backend["name"]),
                    &backend["models"],
                );
            }
        }
        add(service, "", "", &service["otherwise"]["models"]);
    }
    counts
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A kind as the table writes it: `fraud version 1 infer`.
fn in_words(kind: &str) -> Option<String> {
    let (rest, operation) = kind.rsplit_once(' ')?;
    let (model, version) = rest.rsplit_once(' ')?.1.split_once('@')?;
    Some(match (model, version) {
        ("", _) => "no model".to_owned(),
        (model, "") => format!("{model} {operation}"),
        (model, version) => format!("{model} version {version} {operation}"),
    })
}
