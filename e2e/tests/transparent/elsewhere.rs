//! What is not for services: passed through untouched, left alone where the rules say so, or refused with a reason.

use anyhow::Result;
use mesh_e2e::documents::object;
use serde_json::{Value, json};

use crate::place::{Place, here, output};

fn documents(mtls: &str) -> Vec<Value> {
    let workload = |name: &str, address: &str, ports: Value| {
        let spec = json!({"serviceAccount": name, "address": address, "interception": {}, "ports": ports});
        object("Workload", name, &spec)
    };
    vec![
        object(
            "MeshConfig",
            "mesh",
            &json!({"mtls": mtls, "detection": {"wait": "300ms"}}),
        ),
        workload("client", "10.77.0.1", json!([])),
        workload(
            "server",
            "10.77.0.2",
            json!([{"name": "web", "port": 8000}, {"name": "mail", "port": 2525, "appProtocol": "detect"}]),
        ),
    ]
}

async fn start(mtls: &str) -> Result<Place> {
    let mut place = Place::start(&["client", "server", "outside"], &documents(mtls)).await?;
    let plain = here("servers/plain.py");
    let everywhere =
        "raw :: 8000 raw 0.0.0.0 8000 raw :: 9999 raw 0.0.0.0 9999 banner 0.0.0.0 2525 raw 127.0.0.1 7777";
    for machine in ["server", "outside"] {
        let arguments: Vec<_> = [plain.as_str()]
            .into_iter()
            .chain(everywhere.split(' '))
            .collect();
        place.run(machine, &[], "python3", &arguments, 7777).await?;
    }
    Ok(place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_mesh_s_passes_through_untouched() -> Result<()> {
    let place = start("strict").await?;
    let through = || place.intercepted("client", "outbound", "passed-through");
    // From a machine without a sidecar and from one with: not a byte of the head differs.
    for url in ["http://10.77.0.3:8000/x", "http://[fd77::3]:8000/x"] {
        let arguments = [
            "-H",
            "TE: trailers",
            "-H",
            "Connection: close, TE",
            "-H",
            "X-CaSe:  two ",
            url,
        ];
        let before = through()?;
        let (direct, fetched) = (
            place.curl("outside", &arguments)?,
            place.curl("client", &arguments)?,
        );
        assert_eq!(
            (fetched.status, &fetched.text),
            (200, &direct.text),
            "{fetched:?}"
        );
        assert_eq!(through()?, before + 1);
    }
    let heard = output(place.machine("client")?.command("python3").args([
        &here("clients/banner.py"),
        "10.77.0.3",
        "2525",
    ]))?;
    assert!(
        heard.contains("220 ready") && heard.contains("250 NOOP"),
        "{heard}"
    );
    // Nobody is there: to the client that looks like a connection that broke, not like an answer.
    let fetched = place.curl("client", &["http://10.77.0.3:1/"])?;
    assert!(fetched.status == 0 && !fetched.error.is_empty(), "{fetched:?}");

    // Bypass: by user, port and network, and not at all without rules. Writing them twice is writing them once.
    let before = through()?;
    for flags in [
        &["--skip-uid=3000"][..],
        &["--skip-outbound-port=8000,9999"],
        &["--skip-cidr=10.77.0.0/16,fd77::/64"],
        &["--remove"],
    ] {
        place.init("client", flags)?;
        place.init("client", flags)?;
        for url in ["http://10.77.0.3:8000/", "http://[fd77::3]:8000/"] {
            let fetched = place.curl_as("client", 3000, &[url])?;
            assert_eq!(fetched.status, 200, "{flags:?}: {fetched:?}");
        }
        assert_eq!(through()?, before, "{flags:?}");
    }
    assert_eq!(place.curl("client", &["http://10.77.0.3:8000/"])?.status, 200);
    assert_eq!(through()?, before, "without rules nothing is led anywhere");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_an_identity_gets_in_but_where_the_rules_say_so() -> Result<()> {
    let place = start("strict").await?;
    for url in [
        "http://10.77.0.2:8000/",
        "http://10.77.0.2:9999/",
        "http://[fd77::2]:9999/",
        "http://10.77.0.2:7777/",
    ] {
        let fetched = place.curl("outside", &[url])?;
        assert_eq!(fetched.status, 0, "{url}: {fetched:?}");
    }
    assert_eq!(place.intercepted("server", "inbound", "undeclared-port")?, 3);
    let refused = place
        .metrics("server")?
        .sum("mesh_tls_handshakes_total", &[("result", "plaintext-refused")]);
    assert_eq!(refused as u64, 1);
    place.init("server", &["--skip-inbound-port=9000-9999"])?;
    for (url, status) in [
        ("http://10.77.0.2:9999/", 200),
        ("http://[fd77::2]:9999/", 200),
        ("http://10.77.0.2:8000/", 0),
    ] {
        assert_eq!(place.curl("outside", &[url])?.status, status, "{url}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_plaintext_is_accepted_a_port_is_what_it_is_without_the_mesh() -> Result<()> {
    let place = start("permissive").await?;
    for (url, status) in [
        ("http://10.77.0.2:8000/", 200),
        ("http://10.77.0.2:9999/", 200),
        ("http://[fd77::2]:9999/", 200),
        // What listens on loopback alone stays there, the sidecar's own admin endpoint above all.
        ("http://10.77.0.2:7777/", 0),
        ("http://10.77.0.2:15000/metrics", 0),
        ("http://10.77.0.2:15001/", 0),
    ] {
        let fetched = place.curl("outside", &[url])?;
        assert_eq!(fetched.status, status, "{url}: {fetched:?}");
    }
    // A server that speaks first, to a client without a sidecar.
    let client = here("clients/banner.py");
    let heard = output(
        place
            .machine("outside")?
            .command("python3")
            .args([&client, "10.77.0.2", "2525"]),
    )?;
    assert!(
        heard.contains("220 ready") && heard.contains("250 NOOP"),
        "{heard}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_s_own_ports_lead_nowhere() -> Result<()> {
    let place = start("strict").await?;
    for (machine, url, sidecar, direction) in [
        ("client", "http://127.0.0.1:15001/", "client", "outbound"),
        ("client", "http://[::1]:15001/", "client", "outbound"),
        ("outside", "http://10.77.0.2:15006/", "server", "inbound"),
        ("outside", "http://[fd77::2]:15006/", "server", "inbound"),
        ("server", "http://127.0.0.1:15006/", "server", "inbound"),
    ] {
        let before = place.intercepted(sidecar, direction, "not-intercepted")?;
        let fetched = place.curl(machine, &["--include", url])?;
        assert_eq!(fetched.status, 400, "{url}: {fetched:?}");
        assert!(
            fetched.text.contains("mesh-error: not-intercepted"),
            "{url}: {fetched:?}"
        );
        assert!(fetched.text.contains("mesh-proxy init"), "{url}: {fetched:?}");
        assert_eq!(
            place.intercepted(sidecar, direction, "not-intercepted")?,
            before + 1,
            "{url}"
        );
    }
    // Neither does a service of that address, were there one: the connection is taken once and goes on once.
    assert_eq!(place.curl("client", &["http://10.77.0.1:15001/"])?.status, 0);
    Ok(())
}
