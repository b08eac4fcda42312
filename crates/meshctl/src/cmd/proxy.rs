//! `meshctl proxy`: what each proxy runs, and what one of them says of itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use mesh_api::name::ObjectName;
use mesh_api::wire::admin::{self, ListProxiesRequest, ProxyList};
use serde::Serialize;

use super::{Context, Place};
use crate::client::answer;
use crate::documents::meant;
use crate::error::Outcome;
use crate::http_get::{self, Answer};
use crate::kubernetes::{self, Cluster};
use crate::mesh_home::Mesh;
use crate::output::{Style, Table, Text, ago, clock, in_words};

/// The port of a proxy's admin endpoint, on its pod's loopback.
const ADMIN: u16 = 15000;
/// How long a proxy may take to answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Flags of `meshctl proxy`.
#[derive(Args, Debug)]
pub(crate) struct Proxy {
    /// The workload whose proxy to look at; default: all
    name: Option<String>,
    /// Print what the proxy has built from its configuration, as JSON
    #[arg(long, requires = "name")]
    table: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    workload: String,
    proxy_id: String,
    software: String,
    connected: bool,
    version: u64,
    sent: u64,
    published: u64,
    acked: i64,
    connected_since: i64,
    certificate_expiry: i64,
    refusal: Option<String>,
}

impl Proxy {
    /// Lists proxies, or tells about one.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let place = context.place().await?;
        let mut admin = place.admin().await?;
        let list = answer(admin.list_proxies(ListProxiesRequest {})).await?;
        let mut views = views(&list);
        let Some(name) = &self.name else {
            views.retain(|view| view.workload.parse().is_ok_and(|name| context.shows(&name)));
            return match context.machine() {
                Some(format) => context.printer.machine(format, &views),
                None if views.is_empty() => {
                    context.printer.say("no proxies");
                    Ok(())
                }
                None => context.printer.data(&table(&views, clock()).render()),
            };
        };
        let names = views
            .iter()
            .filter_map(|view| view.workload.parse::<ObjectName>().ok());
        let names: Vec<_> = names.map(|name| (name.clone(), name)).collect();
        let name = meant("proxy", name, context.namespace(), names)?;
        if self.table {
            return context.printer.data(&built(&place, &name).await?);
        }
        views.retain(|view| view.workload == name.to_string());
        match (context.machine(), views.first()) {
            (Some(format), Some(view)) => context.printer.machine(format, view),
            (None, Some(view)) => context.printer.data(&details(view, clock())),
            (_, None) => Ok(()),
        }
    }
}

fn views(list: &ProxyList) -> Vec<View> {
    let view = |proxy: &admin::Proxy| View {
        workload: proxy.workload.clone(),
        proxy_id: proxy.proxy_id.clone(),
        software: proxy.software.clone(),
        connected: proxy.connected,
        version: proxy.version,
        sent: proxy.sent,
        published: list.version,
        acked: proxy.acked,
        connected_since: proxy.connected_since,
        certificate_expiry: proxy.certificate_expiry,
        refusal: Some(proxy.refusal.clone()).filter(|it| !it.is_empty()),
    };
    let mut views: Vec<View> = list.proxies.iter().map(view).collect();
    views.sort_by(|a, b| (&a.workload, &a.proxy_id).cmp(&(&b.workload, &b.proxy_id)));
    views
}

fn table(views: &[View], now: i64) -> Table {
    let mut table = Table::new(&[
        "WORKLOAD",
        "CONNECTED",
        ">VERSION",
        ">SENT",
        ">AGE",
        ">CERTIFICATE",
        "REFUSAL",
    ]);
    for view in views {
        table.row([
            view.workload.clone().into(),
            connected(view),
            Text::styled(
                if view.version < view.sent {
                    Style::Warn
                } else {
                    Style::Plain
                },
                view.version.to_string(),
            ),
            view.sent.to_string().into(),
            ago(view.acked, now).into(),
            expiry(view.certificate_expiry, now),
            Text::styled(Style::Bad, view.refusal.clone().unwrap_or_default()),
        ]);
    }
    table
}

fn connected(view: &View) -> Text {
    match view.connected {
        true => Text::styled(Style::Good, "yes"),
        false => Text::styled(Style::Bad, "no"),
    }
}

/// How long a certificate is good for.
pub(crate) fn expiry(end: i64, now: i64) -> Text {
    match end.saturating_sub(now) {
        _ if end == 0 => Text::styled(Style::Warn, "none"),
        left if left <= 0 => Text::styled(Style::Bad, "expired"),
        left => in_words(Duration::from_secs(left.unsigned_abs())).into(),
    }
}

fn details(view: &View, now: i64) -> String {
    let mut lines = vec![
        ("workload", Text::styled(Style::Strong, view.workload.clone())),
        (
            "software",
            format!("{} ({})", view.software, view.proxy_id).into(),
        ),
        (
            "connected",
            connected(view).plain(format!(", for {}", ago(view.connected_since, now))),
        ),
        (
            "version",
            format!(
                "{}, taken {} ago; sent {}, published {}",
                view.version,
                ago(view.acked, now),
                view.sent,
                view.published
            )
            .into(),
        ),
        ("certificate", expiry(view.certificate_expiry, now).plain(" left")),
    ];
    if let Some(refusal) = &view.refusal {
        lines.push(("refusal", Text::styled(Style::Bad, refusal.clone())));
    }
    lines
        .into_iter()
        .map(|(name, text)| format!("{name:<12} {}\n", text.ansi()))
        .collect()
}

/// What the proxy itself has built, from its admin endpoint.
async fn built(place: &Place, name: &ObjectName) -> Outcome<String> {
    let answer = match place {
        Place::Machine(mesh) => on_this_machine(mesh, name).await?,
        Place::Kubernetes(cluster) => in_pod(cluster, name).await?,
    };
    let value: serde_json::Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("the proxy of {name} answered {} without JSON", answer.status))?;
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

async fn on_this_machine(mesh: &Mesh, name: &ObjectName) -> Outcome<Answer> {
    let file = mesh.proxy_admin(name);
    let address = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "cannot read {}: `meshctl up` did not start this proxy",
            file.display()
        )
    })?;
    let address: SocketAddr = address
        .trim()
        .parse()
        .with_context(|| format!("{} holds no address", file.display()))?;
    let answer = http_get::ask(address, "GET", "/table", WITHIN).await;
    Ok(answer.with_context(|| format!("the proxy of {name} does not answer on {address}"))?)
}

async fn in_pod(cluster: &Cluster, name: &ObjectName) -> Outcome<Answer> {
    let asking = async {
        let pods = cluster.within::<Pod>(name.namespace.as_str());
        let stream = kubernetes::forward(&pods, name.name.as_str(), ADMIN).await?;
        http_get::over(stream, "GET", "/table").await
    };
    let answer = tokio::time::timeout(WITHIN, asking)
        .await
        .map_err(anyhow::Error::from);
    let answer = answer.and_then(|answer| Ok(answer?));
    Ok(answer.with_context(|| format!("the proxy of {name} does not answer through a forwarded port"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{plain, proxy};

    #[test]
    fn proxies_are_listed_and_told_about() {
        let mut refusing = proxy("ml/triton-v2", 6);
        (refusing.sent, refusing.refusal) = (7, "Route ml/fraud: rules[0].split: bad".into());
        let mut away = proxy("ml/batch", 5);
        (away.connected, away.certificate_expiry) = (false, 1_500);
        let list = ProxyList {
            proxies: vec![refusing, proxy("ml/client", 7), away],
            version: 7,
        };
        let views = views(&list);
        insta::assert_snapshot!(plain(&table(&views, 4_600).render()));
        insta::assert_snapshot!("details", plain(&details(&views[2], 4_600)));
    }
}
