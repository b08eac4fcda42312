//! What proxies and documents have to do with a mesh being well, wherever it runs.

use mesh_api::wire::admin::{Proxy, ProxyList, RootRotation, Status};

use crate::cmd::apply::in_words;
use crate::finding::{Finding, Verdict, ok, wrong};
use crate::output::ago;

/// A root certificate that ends within this is to be replaced, in seconds.
const ROOT_SOON: i64 = 30 * 86_400;
/// A proxy's certificate that ends within this was not renewed when it should have been, in seconds.
const LEAF_SOON: i64 = 15 * 60;

/// Whether everything is of one release.
pub(super) fn versions(status: &Status, proxies: &ProxyList) -> Finding {
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
pub(super) fn release(software: &str) -> &str {
    software.rsplit(' ').next().unwrap_or_default()
}

/// How long the root certificate is good for, and how it is replaced.
pub(super) fn root(status: &Status, now: i64, replace: &str) -> Finding {
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
    wrong("certificates", verdict, says, replace)
}

/// How far the replacement of the root of trust is.
pub(super) fn rotation(rotation: &RootRotation) -> Option<Finding> {
    let (done, what) = match rotation.phase.as_str() {
        "distributing" => (rotation.trusting, "trust the next root"),
        "renewing" => (rotation.signed, "have a certificate of the next root"),
        _ => return None,
    };
    let says = format!(
        "the root is being replaced ({}): {done} of {} proxies {what}",
        rotation.phase, rotation.proxies
    );
    Some(ok("certificates", says))
}

/// The documents that are refused, or that name what is not there.
pub(super) fn documents(status: &Status) -> Vec<Finding> {
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
pub(super) fn one(proxy: &Proxy, published: u64, now: i64) -> Vec<Finding> {
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
