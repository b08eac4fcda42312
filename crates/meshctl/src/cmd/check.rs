//! `meshctl check`: what is wrong with the running mesh, each finding with its fix.

use mesh_api::wire::admin::{GetStatusRequest, ListProxiesRequest, Proxy, ProxyList, Status};
use serde::Serialize;

use super::Context;
use super::apply::in_words;
use crate::acks::Acks;
use crate::client::answer;
use crate::error::{Failure, Outcome};
use crate::output::{Style, Text, ago, clock};

/// A root certificate that ends within this is to be replaced, in seconds.
const ROOT_SOON: i64 = 30 * 86_400;
/// A proxy's certificate that ends within this was not renewed when it should have been, in seconds.
const LEAF_SOON: i64 = 15 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    about: &'static str,
    verdict: Verdict,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn ok(about: &'static str, says: impl Into<String>) -> Finding {
    Finding {
        about,
        verdict: Verdict::Ok,
        says: says.into(),
        fix: None,
    }
}

fn wrong(about: &'static str, verdict: Verdict, says: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding {
        about,
        verdict,
        says: says.into(),
        fix: Some(fix.into()),
    }
}

/// Looks at everything, and fails when something failed.
pub(crate) async fn run(context: &Context) -> Outcome {
    let findings = match looked_at(context).await {
        Ok((status, proxies)) => findings(&status, &proxies, clock()),
        Err(Failure::Told { error, hints }) => {
            let fix = hints
                .into_iter()
                .next()
                .unwrap_or_else(|| "see the control plane's log".into());
            vec![wrong("control", Verdict::Failed, format!("{error:#}"), fix)]
        }
        Err(other) => return Err(other),
    };
    match context.machine() {
        Some(format) => context.printer.machine(format, &findings)?,
        None => context.printer.data(&for_people(&findings))?,
    }
    if findings.iter().any(|finding| finding.verdict == Verdict::Failed) {
        return Err(Failure::Silent);
    }
    Ok(())
}

async fn looked_at(context: &Context) -> Outcome<(Status, ProxyList)> {
    let mut admin = context.admin().await?;
    let status = answer(admin.get_status(GetStatusRequest {})).await?;
    let proxies = answer(admin.list_proxies(ListProxiesRequest {})).await?;
    Ok((status, proxies))
}

fn findings(status: &Status, proxies: &ProxyList, now: i64) -> Vec<Finding> {
    let mut findings = vec![ok(
        "control",
        format!("the control plane answers, up for {}", ago(status.started, now)),
    )];
    findings.push(versions(status, proxies));
    findings.push(root(status, now));
    findings.extend(documents(status));
    if proxies.proxies.is_empty() {
        findings.push(wrong(
            "proxies",
            Verdict::Warning,
            "no proxy has connected yet",
            "give each process a Workload document, and see the proxies' logs",
        ));
    }
    for proxy in &proxies.proxies {
        findings.extend(one(proxy, proxies.version, now));
    }
    let acks = Acks::of(proxies, proxies.version);
    if !proxies.proxies.is_empty() && acks.complete() && acks.away.is_empty() {
        findings.push(ok("proxies", acks.in_words()));
    }
    findings
}

fn versions(status: &Status, proxies: &ProxyList) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let mut others: Vec<String> = Vec::new();
    if release(&status.software) != own {
        others.push(format!("the control plane {}", release(&status.software)));
    }
    let odd = proxies
        .proxies
        .iter()
        .filter(|it| it.connected && release(&it.software) != own);
    others.extend(odd.map(|it| format!("the proxy of {} {}", it.workload, release(&it.software))));
    if others.is_empty() {
        return ok(
            "versions",
            format!("meshctl, control plane and proxies are {own}"),
        );
    }
    wrong(
        "versions",
        Verdict::Warning,
        format!("meshctl is {own}, but {}", others.join(", ")),
        "install the same release everywhere, and restart what is older",
    )
}

/// The release of a program that calls itself `mesh-control 0.1.0`, or `0.1.0`.
fn release(software: &str) -> &str {
    software.rsplit(' ').next().unwrap_or_default()
}

fn root(status: &Status, now: i64) -> Finding {
    let left = status.root_expiry.saturating_sub(now);
    let (verdict, says) = match left {
        _ if status.root_expiry == 0 => (Verdict::Failed, "there is no root certificate".to_owned()),
        left if left <= 0 => (Verdict::Failed, "the root certificate has ended".to_owned()),
        left if left < ROOT_SOON => (
            Verdict::Warning,
            format!("the root certificate ends in {}", ago(now, status.root_expiry)),
        ),
        _ => {
            let says = format!(
                "trust domain {}, root certificate good for {}",
                status.trust_domain,
                ago(now, status.root_expiry)
            );
            return ok("certificates", says);
        }
    };
    wrong(
        "certificates",
        verdict,
        says,
        "stop the mesh, remove its ca folder, start it again",
    )
}

fn documents(status: &Status) -> Vec<Finding> {
    if status.problems.is_empty() {
        return vec![ok(
            "documents",
            format!("all documents of {} are in force", status.source),
        )];
    }
    let problems = status.problems.iter();
    problems
        .map(|problem| match problem.warning {
            true => wrong(
                "documents",
                Verdict::Warning,
                in_words(problem),
                "add what is missing, or mend the name",
            ),
            false => wrong(
                "documents",
                Verdict::Failed,
                in_words(problem),
                "mend the document; what was in force before it goes on",
            ),
        })
        .collect()
}

/// What is wrong with one proxy.
fn one(proxy: &Proxy, published: u64, now: i64) -> Vec<Finding> {
    let name = &proxy.workload;
    let mut findings = Vec::new();
    let failed = |says: String, fix: &str| wrong("proxies", Verdict::Failed, says, fix);
    if !proxy.connected {
        findings.push(failed(
            format!(
                "the proxy of {name} is not connected; it serves what it had, version {}",
                proxy.version
            ),
            "see the proxy's log; start it again if it has ended",
        ));
    } else if !proxy.refusal.is_empty() {
        findings.push(failed(
            format!(
                "the proxy of {name} refused version {}: {}",
                proxy.sent, proxy.refusal
            ),
            "mend the object it names, or give proxy and control plane the same release",
        ));
    } else if proxy.version < published && proxy.version < proxy.sent {
        findings.push(failed(
            format!(
                "the proxy of {name} serves version {} of {published}",
                proxy.version
            ),
            "wait a moment; if it stays so, see the proxy's log",
        ));
    }
    match proxy.certificate_expiry.saturating_sub(now) {
        _ if proxy.certificate_expiry == 0 => findings.push(wrong(
            "certificates",
            Verdict::Warning,
            format!("the proxy of {name} has not told of a certificate"),
            "wait a moment; if it stays so, see the proxy's log for its join token",
        )),
        left if left <= 0 => findings.push(wrong(
            "certificates",
            Verdict::Failed,
            format!("the certificate of {name} has ended: nobody can reach it"),
            "start the proxy again; its log says why it was not renewed",
        )),
        left if left < LEAF_SOON => findings.push(wrong(
            "certificates",
            Verdict::Warning,
            format!(
                "the certificate of {name} ends in {}",
                ago(now, proxy.certificate_expiry)
            ),
            "see the proxy's log: it should have been renewed",
        )),
        _ => {}
    }
    findings
}

fn for_people(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let (style, mark) = match finding.verdict {
            Verdict::Ok => (Style::Good, "✓ ok     "),
            Verdict::Warning => (Style::Warn, "! warning"),
            Verdict::Failed => (Style::Bad, "✗ failed "),
        };
        let line = Text::styled(style, mark)
            .and(Style::Strong, format!("  {:<12}", finding.about))
            .plain(format!("  {}", finding.says));
        out.push_str(&format!("{}\n", line.ansi()));
        if let Some(fix) = &finding.fix {
            let line = Text::styled(Style::Plain, " ".repeat(25)).and(Style::Good, "fix:");
            out.push_str(&format!("{} {fix}\n", line.ansi()));
        }
    }
    let failed = findings.iter().filter(|it| it.verdict == Verdict::Failed).count();
    let last = match failed {
        0 => Text::styled(Style::Good, "the mesh is well"),
        count => Text::styled(Style::Bad, format!("{count} failed")),
    };
    out.push_str(&format!("{}\n", last.ansi()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::{plain, proxy};
    use mesh_api::wire::admin::Problem;

    fn status() -> Status {
        Status {
            software: concat!("mesh-control ", env!("CARGO_PKG_VERSION")).into(),
            version: 7,
            trust_domain: "mesh.local".into(),
            root_expiry: 4_600 + 3650 * 86_400,
            source: "/srv/mesh".into(),
            started: 1_000,
            problems: vec![],
        }
    }

    #[test]
    fn a_mesh_that_is_well() {
        let proxies = ProxyList {
            proxies: vec![proxy("ml/client", 7), proxy("ml/triton-v1", 7)],
            version: 7,
        };
        let findings = findings(&status(), &proxies, 4_600);
        insta::assert_snapshot!(plain(&for_people(&findings)));
    }

    #[test]
    fn everything_that_is_wrong_has_its_fix() {
        let mut status = status();
        status.software = "0.0.9".into();
        status.root_expiry = 4_700;
        status.problems = vec![
            Problem {
                file: "mesh.yaml".into(),
                line: 12,
                object: "ModelRoute ml/fraud".into(),
                field: "spec.rules[0].split".into(),
                reason: "all weights are 0".into(),
                warning: false,
            },
            Problem {
                object: "ModelRoute ml/iris".into(),
                field: "spec.service".into(),
                reason: "there is no Service ml/iris".into(),
                warning: true,
                ..Problem::default()
            },
        ];
        let mut away = proxy("ml/away", 3);
        (away.connected, away.certificate_expiry) = (false, 4_000);
        let mut refusing = proxy("ml/refusing", 6);
        (refusing.sent, refusing.refusal, refusing.certificate_expiry) = (7, "Route: bad".into(), 0);
        let mut lagging = proxy("ml/lagging", 6);
        (lagging.sent, lagging.certificate_expiry) = (7, 4_700);
        let proxies = ProxyList {
            proxies: vec![away, refusing, lagging],
            version: 7,
        };
        let findings = findings(&status, &proxies, 4_600);
        assert!(
            findings
                .iter()
                .all(|it| it.verdict == Verdict::Ok || it.fix.is_some())
        );
        insta::assert_snapshot!(plain(&for_people(&findings)));
    }
}
