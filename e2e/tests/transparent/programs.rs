//! curl, PostgreSQL, Redis, a server that speaks first, TLS: each reaches services as if there were no mesh between.

use std::fs;
use std::os::unix::fs::chown;

use anyhow::{Context as _, Result};
use mesh_e2e::documents::object;
use mesh_e2e::net::Capture;
use serde_json::{Value, json};

use crate::place::{Place, here, output};

/// The user that PostgreSQL runs as, who must not be root, and must have a name: `nobody`.
const POSTGRES: u32 = 65534;
/// What nobody else writes.
const MARKER: &str = "a-marker-that-nobody-else-writes-4711";
const CLIENT: &str = "spiffe://mesh.local/ns/ml/sa/client";

/// A Service that is reached at addresses of its own.
fn service(name: &str, port: u16, protocol: &str, addresses: &[&str], app: &str) -> Value {
    object(
        "Service",
        name,
        &json!({
            "ports": [{"name": name, "port": port, "appProtocol": protocol}],
            "addresses": addresses,
            "selector": {"app": app},
        }),
    )
}

fn workload(name: &str, address: &str, ports: &[(&str, u16, &str)]) -> Value {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, port, protocol)| json!({"name": name, "port": port, "appProtocol": protocol}))
        .collect();
    let spec = json!({"serviceAccount": name, "address": address, "interception": {}, "ports": ports});
    let mut document = object("Workload", name, &spec);
    document["metadata"]["labels"]["app"] = json!(name);
    document
}

fn documents() -> Vec<Value> {
    let settings = json!({"detection": {"wait": "2s"}, "telemetry": {"accessLog": {"enabled": true}}});
    vec![
        object("MeshConfig", "mesh", &settings),
        workload("client", "10.77.0.1", &[]),
        workload(
            "server",
            "10.77.0.2",
            &[
                ("web", 8000, "http"),
                ("db", 5432, "tcp"),
                ("cache", 6379, "detect"),
                ("mail", 2525, "detect"),
                ("secure", 8443, "detect"),
            ],
        ),
        workload("six", "fd77::3", &[("six", 8000, "http")]),
        service("web", 80, "http", &["10.96.0.10", "fd96::10"], "server"),
        service("db", 5432, "tcp", &["10.96.0.11", "fd96::11"], "server"),
        service("cache", 6379, "detect", &["10.96.0.12", "fd96::12"], "server"),
        service("mail", 2525, "detect", &["10.96.0.13"], "server"),
        service("secure", 443, "detect", &["10.96.0.14"], "server"),
        service("six", 80, "http", &["fd96::20"], "six"),
    ]
}

async fn start_programs(place: &mut Place) -> Result<()> {
    let plain = here("servers/plain.py");
    let certified = rcgen::generate_simple_self_signed(["secure.ml".to_owned()])?;
    let (certificate, key) = (place.folder().join("cert.pem"), place.folder().join("key.pem"));
    fs::write(&certificate, certified.cert.pem())?;
    fs::write(&key, certified.signing_key.serialize_pem())?;
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let servers = "raw 127.0.0.1 8000 banner 127.0.0.1 2525 tls 127.0.0.1 8443";
    let mut arguments = vec![plain.as_str(), "--certificate", &certificate, "--key", &key];
    arguments.extend(servers.split(' '));
    place.run("server", &[], "python3", &arguments, 8443).await?;
    place
        .run("six", &[], "python3", &[&plain, "raw", "127.0.0.1", "8000"], 8000)
        .await?;

    let folder = place.folder().display().to_string();
    let redis = [
        "--port",
        "6379",
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        &folder,
    ];
    place.run("server", &[], "redis-server", &redis, 6379).await?;

    let data = place.folder().join("postgres");
    fs::create_dir(&data)?;
    chown(&data, Some(POSTGRES), Some(POSTGRES))?;
    let data = data.display().to_string();
    let bin = postgres_bin()?;
    let by = place.machine("server")?.runs_as(POSTGRES);
    let mut init = std::process::Command::new(&by[0]);
    init.args(&by[1..]).arg(format!("{bin}/initdb")).args([
        "--pgdata",
        &data,
        "--auth=trust",
        "--username=me",
        "--no-sync",
    ]);
    output(&mut init)?;
    let as_postgres = [format!("--reuid={POSTGRES}"), format!("--regid={POSTGRES}")];
    let by = [
        &["setpriv".to_owned()],
        &as_postgres[..],
        &["--clear-groups".to_owned()],
    ]
    .concat();
    let arguments = ["-D", &data, "-h", "127.0.0.1", "-k", &data, "-c", "fsync=off"];
    place
        .run("server", &by, &format!("{bin}/postgres"), &arguments, 5432)
        .await
}

fn postgres_bin() -> Result<String> {
    let versions =
        fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed: run e2e/packages")?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    let bin = bins.into_iter().find(|bin| bin.join("initdb").is_file());
    Ok(bin
        .context("PostgreSQL's server is not installed: run e2e/packages")?
        .display()
        .to_string())
}

fn on_client(place: &Place, program: &str, arguments: &[&str]) -> Result<String> {
    output(place.machine("client")?.command(program).args(arguments))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_reach_services_without_knowing_of_the_mesh() -> Result<()> {
    let mut place = Place::start(&["client", "server", "six"], &documents()).await?;
    start_programs(&mut place).await?;
    let ports = [8000, 5432, 6379, 2525, 8443];
    let capture = Capture::start_on(place.hub(), &ports)?;

    http(&place).await?;
    database(&place).await?;
    cache(&place).await?;
    server_first(&place).await?;
    tls(&place).await?;
    itself(&place).await?;

    let packets = capture.finish()?;
    for port in ports {
        let pieces = packets.iter().filter(|(at, _)| *at == port);
        let bytes: Vec<u8> = pieces.flat_map(|(_, payload)| payload.iter().copied()).collect();
        assert!(
            bytes.len() > 1_000,
            "the capture sees port {port}: {} bytes",
            bytes.len()
        );
        for plain in [MARKER.as_bytes(), b"HTTP/1.1", b"SELECT", b"220 ready"] {
            let readable = bytes.windows(plain.len()).any(|window| window == plain);
            assert!(!readable, "{} is readable on port {port}", plain.escape_ascii());
        }
    }
    Ok(())
}

/// By a service's addresses and by an endpoint's own, in both families; the request arrives as it was sent.
async fn http(place: &Place) -> Result<()> {
    for url in [
        "http://10.96.0.10/a?b=c",
        "http://[fd96::10]/a?b=c",
        "http://10.77.0.2:8000/a?b=c",
        "http://[fd96::20]/a?b=c",
        "http://[fd77::3]:8000/a?b=c",
    ] {
        let fetched = place.curl("client", &["-H", &format!("x-mark: {MARKER}"), url])?;
        assert_eq!(fetched.status, 200, "{url}: {fetched:?}");
        assert!(
            fetched.text.starts_with("GET /a?b=c HTTP/1.1\r\n"),
            "{url}: {fetched:?}"
        );
        assert!(
            fetched.text.contains(MARKER) && fetched.text.contains(CLIENT),
            "{url}: {fetched:?}"
        );
    }
    for (machine, service) in [("server", "ml/web"), ("six", "ml/six")] {
        let has = [
            ("mesh.direction", "inbound"),
            ("mesh.peer", CLIENT),
            ("mesh.service", service),
        ];
        place.logged(machine, &has).await?;
    }
    assert_eq!(place.intercepted("client", "outbound", "service")?, 3);
    assert_eq!(place.intercepted("client", "outbound", "endpoint")?, 2);
    // Who is at nobody's address is known by the name in the request.
    let fetched = place.curl("client", &["-H", "host: web.ml", "http://10.99.0.1/"])?;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    assert_eq!(place.intercepted("client", "outbound", "authority")?, 1);
    // Each request is counted, and nothing else.
    let metrics = place.metrics("client")?;
    let counted = |labels: &[_]| metrics.sum("mesh_requests_total", labels);
    assert_eq!(
        (counted(&[]), counted(&[("code", "200")])),
        (6.0, 6.0),
        "{metrics:#?}"
    );
    Ok(())
}

async fn database(place: &Place) -> Result<()> {
    for host in ["10.96.0.11", "fd96::11"] {
        let ask = |sql: &str| {
            let where_to = [
                "-h",
                host,
                "-U",
                "me",
                "-d",
                "postgres",
                "-v",
                "ON_ERROR_STOP=1",
                "-At",
                "-c",
                sql,
            ];
            on_client(place, "psql", &where_to)
        };
        assert_eq!(
            ask(&format!("SELECT '{MARKER}', 40 + 2"))?.trim(),
            format!("{MARKER}|42")
        );
        assert_eq!(ask("SELECT length(repeat('x', 5000000))")?.trim(), "5000000");
        assert_eq!(ask("SELECT repeat('x', 5000000)")?.trim().len(), 5_000_000);
    }
    let inbound = [
        ("mesh.service", "ml/db"),
        ("mesh.peer", CLIENT),
        ("network.transport", "tcp"),
    ];
    let line = place.logged("server", &inbound).await?;
    assert!(line["http.response.body.size"].as_u64() > Some(100), "{line}");
    let server = "spiffe://mesh.local/ns/ml/sa/server";
    place
        .logged("client", &[("mesh.service", "ml/db"), ("mesh.peer", server)])
        .await?;
    Ok(())
}

async fn cache(place: &Place) -> Result<()> {
    for host in ["10.96.0.12", "fd96::12", "10.77.0.2"] {
        let redis = |command: &[&str]| on_client(place, "redis-cli", &[&["-h", host], command].concat());
        assert_eq!(redis(&["SET", "key", MARKER])?.trim(), "OK");
        assert_eq!(redis(&["GET", "key"])?.trim(), MARKER, "{host}");
    }
    let inbound = [("mesh.service", "ml/cache"), ("mesh.peer", CLIENT)];
    place.logged("server", &inbound).await?;
    Ok(())
}

/// Nobody waits twice for a client that waits for the server.
async fn server_first(place: &Place) -> Result<()> {
    let client = here("clients/banner.py");
    let mut waited = Vec::new();
    for _ in 0..3 {
        let heard = on_client(place, "python3", &[&client, "10.96.0.13", "2525"])?;
        let heard: Value = serde_json::from_str(&heard)?;
        assert_eq!(
            (&heard["first"], &heard["answer"]),
            (&json!("220 ready"), &json!("250 NOOP"))
        );
        waited.push(heard["waited"].as_f64().context("a time")?);
    }
    // Of one run, on one machine: the first waits for the two seconds that are configured.
    assert!(
        waited[0] > 2.0 * waited[1] && waited[0] > 2.0 * waited[2],
        "{waited:?}"
    );
    place
        .logged("server", &[("mesh.service", "ml/mail"), ("mesh.peer", CLIENT)])
        .await?;
    Ok(())
}

/// TLS of the programs' own goes through as it is, by the service's address and, at an address of nobody's, by its name.
async fn tls(place: &Place) -> Result<()> {
    let certificate = place.folder().join("cert.pem").display().to_string();
    for address in ["10.96.0.14", "10.99.0.1"] {
        let resolve = format!("secure.ml:443:{address}");
        let arguments = [
            "--cacert",
            &certificate,
            "--resolve",
            &resolve,
            "https://secure.ml/own",
        ];
        let fetched = place.curl("client", &arguments)?;
        assert_eq!(fetched.status, 200, "{address}: {fetched:?}");
        assert!(fetched.text.starts_with("GET /own HTTP/1.1"), "{fetched:?}");
        assert!(
            !fetched.text.contains("mesh-peer"),
            "nobody looks into it: {fetched:?}"
        );
    }
    assert_eq!(place.intercepted("client", "outbound", "server-name")?, 1);
    place
        .logged("server", &[("mesh.service", "ml/secure"), ("mesh.peer", CLIENT)])
        .await?;
    Ok(())
}

/// A workload may call the service that it serves itself.
async fn itself(place: &Place) -> Result<()> {
    let fetched = place.curl("server", &["http://10.96.0.10/"])?;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    Ok(())
}
