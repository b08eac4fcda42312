//! `meshctl stat`: success, rate and latency by service and workload.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};
use mesh_api::document::Document;
use mesh_api::name::ObjectName;
use mesh_api::wire::admin::{ListProxiesRequest, Proxy, Traffic};
use serde::Serialize;

use super::Context;
use crate::client::answer;
use crate::documents::{self, InForce};
use crate::error::Outcome;
use crate::output::{Table, latency};
use crate::traffic::{self, Counts, Figures};

/// Flags of `meshctl stat`.
#[derive(Args, Debug)]
pub(crate) struct Stat {
    /// What to show; default: both
    #[arg(value_enum)]
    what: Option<What>,
    /// The span the numbers are about, in seconds, 1 to 300
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=300), value_name = "SECONDS")]
    window: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Services, as callers' proxies see them
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Workloads, as their own proxies see what comes in
    #[value(alias = "workload")]
    Workloads,
}

#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    /// How many of its workloads have a connected proxy.
    meshed: usize,
    /// How many workloads it has.
    workloads: usize,
    #[serde(flatten)]
    figures: Figures,
    #[serde(skip)]
    counts: Counts,
}

impl Stat {
    /// Asks, adds up, prints.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let mut admin = context.admin().await?;
        let listed = documents::list(&mut admin, None, None, None).await?;
        let seen = traffic::ask(&mut admin, self.window).await?;
        let proxies = answer(admin.list_proxies(ListProxiesRequest {})).await?.proxies;
        let mut rows = rows(&listed, &seen, &proxies);
        rows.retain(|row| {
            let wanted = match self.what {
                None => true,
                Some(What::Services) => row.kind == "Service",
                Some(What::Workloads) => row.kind == "Workload",
            };
            wanted && row.name.parse().is_ok_and(|name| context.shows(&name))
        });
        if let Some(format) = context.machine() {
            return context.printer.machine(format, &rows);
        }
        context.printer.data(&tables(&rows, seen.seconds, context.wide()))
    }
}

fn rows(listed: &[InForce], seen: &Traffic, proxies: &[Proxy]) -> Vec<Row> {
    let connected: BTreeSet<&str> = proxies
        .iter()
        .filter(|proxy| proxy.connected)
        .map(|proxy| proxy.workload.as_str())
        .collect();
    let workloads: BTreeMap<ObjectName, &BTreeMap<String, String>> = listed
        .iter()
        .filter_map(|it| match &it.document {
            Document::Workload(object) => Some((object.metadata.object_name(), &object.metadata.labels)),
            _ => None,
        })
        .collect();
    let row = |kind: &'static str, name: &ObjectName, members: &[&ObjectName], counts: Counts| Row {
        kind,
        name: name.to_string(),
        meshed: members
            .iter()
            .filter(|member| connected.contains(member.to_string().as_str()))
            .count(),
        workloads: members.len(),
        figures: counts.figures(seen.seconds),
        counts,
    };
    let mut rows = Vec::new();
    for it in listed {
        let name = it.document.id().name;
        match &it.document {
            Document::Service(object) => {
                let members: Vec<&ObjectName> = workloads
                    .iter()
                    .filter(|(workload, labels)| {
                        let selector = &object.spec.selector;
                        let all = selector.iter().all(|(key, value)| labels.get(key) == Some(value));
                        !selector.is_empty() && workload.namespace == name.namespace && all
                    })
                    .map(|(workload, _)| workload)
                    .collect();
                let paths = seen.paths.iter().filter(|path| !path.inbound);
                let paths = paths.filter(|path| traffic::service(path).as_ref() == Some(&name));
                rows.push(row("Service", &name, &members, Counts::of(paths)));
            }
            Document::Workload(_) => {
                let paths = seen.paths.iter().filter(|path| path.inbound);
                let paths = paths.filter(|path| traffic::workload(path).as_ref() == Some(&name));
                rows.push(row("Workload", &name, &[&name], Counts::of(paths)));
            }
            Document::MeshConfig(_) | Document::ModelRoute(_) | Document::TrafficPolicy(_) => {}
        }
    }
    rows
}

fn tables(rows: &[Row], seconds: f64, wide: bool) -> String {
    let mut parts = Vec::new();
    for kind in ["Service", "Workload"] {
        let mut headers = vec![
            if kind == "Service" { "SERVICE" } else { "WORKLOAD" },
            ">MESHED",
            ">SUCCESS",
            ">RPS",
            ">LATENCY_P50",
            ">LATENCY_P95",
            ">LATENCY_P99",
        ];
        if wide {
            headers.extend([">FIRST_BYTE_P50", ">IN_FLIGHT", ">RETRIES"]);
        }
        let mut table = Table::new(&headers);
        for row in rows.iter().filter(|row| row.kind == kind) {
            let counts = &row.counts;
            let mut cells = vec![
                row.name.clone().into(),
                format!("{}/{}", row.meshed, row.workloads).into(),
                counts.success_cell(),
                counts.rate_cell(seconds),
                latency(counts.latency(0.5)).into(),
                latency(counts.latency(0.95)).into(),
                latency(counts.latency(0.99)).into(),
            ];
            if wide {
                cells.extend([
                    latency(counts.first_byte()).into(),
                    counts.in_flight.to_string().into(),
                    counts.retries.to_string().into(),
                ]);
            }
            table.row(cells);
        }
        if !table.is_empty() {
            parts.push(table.render());
        }
    }
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{documents, plain, proxy, traffic};

    #[test]
    fn services_and_workloads_have_their_numbers() {
        let rows = rows(
            &documents(),
            &traffic(),
            &[proxy("ml/triton-v1", 7), proxy("ml/client", 7)],
        );
        insta::assert_snapshot!(plain(&tables(&rows, 10.0, false)));
        insta::assert_snapshot!("wide", plain(&tables(&rows, 10.0, true)));
    }
}
