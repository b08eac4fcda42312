//! Acceptance: h2spec, all of its generic, http2 and hpack cases, against the outbound listener and the inbound one. The
//! inbound one is asked in plaintext, with a mesh that permits it: h2spec has no certificate to show, and HTTP/2 is the
//! same code behind TLS and without.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mesh_e2e::documents::{caller, object, service, workload};
use mesh_e2e::mesh::Mesh;
use mesh_e2e::net::free_port;
use mesh_e2e::server::Server;
use meshctl::demo;
use serde_json::json;

use kit::output;

/// What is run; pinned, because its cases are named below.
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";
/// How long h2spec waits for an answer, in seconds, before it takes it for missing.
const PATIENCE: &str = "5";
/// How many cases there are in this edition.
const CASES: usize = 145;

/// The cases that do not pass, and why that is right, or harmless. One that begins to pass has to leave the list.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "http2/3.5: Sends invalid connection preface",
    "a listener takes HTTP/1.1 as well, and what does not begin as HTTP/2 is answered 400 in it before the connection is \
     closed; h2spec reads that as a frame. RFC 9113, §3.4: an invalid preface indicates a peer that does not use HTTP/2",
)];

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Passed,
    Skipped,
    Failed,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_speak_http2_as_it_is_specified() -> Result<()> {
    let h2spec = install()?;
    let server = Server::start("server").await?;
    let (listen, local) = (free_port()?, free_port()?);
    let documents = [
        object("MeshConfig", "mesh", &json!({"mtls": "permissive"})),
        service("model", "http"),
        workload("server", "model", server.port(), listen, "http"),
        caller("client", &[(local, "model")]),
    ];
    let mesh = Mesh::start(&documents).await?;
    let expected: BTreeSet<_> = EXCEPTIONS.iter().map(|(case, _)| (*case).to_owned()).collect();
    for (listener, port) in [("outbound", local), ("inbound", listen)] {
        let report = mesh.folder().join(format!("{listener}.xml"));
        let told = run(&h2spec, port, &report)?;
        let cases = read(&fs::read_to_string(&report).with_context(|| told.clone())?);
        ensure!(
            cases.len() == CASES,
            "{listener}: {} cases, not {CASES}",
            cases.len()
        );
        let others = cases.iter().filter(|(_, ended)| **ended != Ended::Passed);
        let others: BTreeSet<_> = others.map(|(case, _)| case.clone()).collect();
        ensure!(
            others == expected,
            "{listener}: {others:#?} did not pass, instead of {expected:#?}\n{told}"
        );
    }
    Ok(())
}

/// Installs h2spec beside what the demo installs, once.
fn install() -> Result<PathBuf> {
    let home = demo::home()?;
    let tools = home.parent().unwrap_or(&home).join("tools");
    let binary = tools.join("h2spec");
    if !binary.exists() {
        let install = Command::new("go")
            .args(["install", H2SPEC])
            .env("GOBIN", &tools)
            .output();
        let install = install.context("h2spec needs Go 1.26 or later: see https://go.dev/dl/")?;
        let said = String::from_utf8_lossy(&install.stderr);
        ensure!(install.status.success(), "go install {H2SPEC}: {said}");
    }
    output(Command::new(&binary).arg("--version"))?;
    Ok(binary)
}

/// Runs all cases, and returns what h2spec prints. That some fail is for the report to say.
fn run(h2spec: &Path, port: u16, report: &Path) -> Result<String> {
    let mut command = Command::new(h2spec);
    command.args([
        "--host",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--timeout",
        PATIENCE,
    ]);
    let output = command.arg("--junit-report").arg(report).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cases of a report in JUnit's format: `http2/5.1: Sends a DATA frame`, and how each ended.
fn read(report: &str) -> BTreeMap<String, Ended> {
    let attribute = |element: &str, name: &str| {
        let value = element.split_once(&format!(" {name}=\""))?.1;
        Some(
            value
                .split_once('"')?
                .0
                .replace("&#34;", "\"")
                .replace("&amp;", "&"),
        )
    };
    let elements = report.split("<testcase").skip(1);
    elements
        .filter_map(|element| {
            let case = format!(
                "{}: {}",
                attribute(element, "package")?,
                attribute(element, "classname")?
            );
            let ended = match element.split_once("</testcase>")?.0 {
                inside if inside.contains("<failure") || inside.contains("<error") => Ended::Failed,
                inside if inside.contains("<skipped") => Ended::Skipped,
                _ => Ended::Passed,
            };
            Some((case, ended))
        })
        .collect()
}
