//! What is wrong with a mesh on this machine.

use mesh_api::wire::admin::{GetStatusRequest, ListProxiesRequest, ProxyList, Status};

use crate::acks::Acks;
use crate::client::{self, answer};
use crate::cmd::check::proxies::{documents, one, root, versions};
use crate::error::Outcome;
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::mesh_home::Mesh;
use crate::output::{ago, clock};

/// Looks at the mesh on this machine.
pub(super) async fn look(mesh: &Mesh) -> Outcome<Vec<Finding>> {
    match looked_at(mesh).await {
        Ok((status, proxies)) => Ok(findings(&status, &proxies, clock())),
        Err(failure) => Ok(vec![super::told(failure)?]),
    }
}

async fn looked_at(mesh: &Mesh) -> Outcome<(Status, ProxyList)> {
    let mut admin = client::connect(mesh).await?;
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
    findings.push(root(
        status,
        now,
        "stop the mesh, remove its ca folder, start it again",
    ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::for_people;
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
        insta::assert_snapshot!(plain(&for_people(&findings, "the mesh is well")));
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
        insta::assert_snapshot!(plain(&for_people(&findings, "the mesh is well")));
    }
}
