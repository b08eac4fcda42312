//! Services that come when a program connects to them, by address or by name; and what goes on without the control plane.

use anyhow::Result;
use mesh_e2e::documents::object;
use serde_json::{Value, json};

use crate::place::{Place, here, output};

fn documents() -> Vec<Value> {
    let service = |name: &str, port: u16, protocol: &str, addresses: Value| {
        let ports = json!([{"name": name, "port": port, "appProtocol": protocol}]);
        let spec = json!({"ports": ports, "addresses": addresses, "selector": {"app": "server"}});
        object("Service", name, &spec)
    };
    let client = json!({
        "serviceAccount": "client",
        "address": "10.77.0.1",
        "interception": {},
        "outbound": {"onDemand": true},
    });
    let ports = json!([
        {"name": "web", "port": 8000, "appProtocol": "http"},
        {"name": "api", "port": 8001, "appProtocol": "http"},
        {"name": "mail", "port": 2525, "appProtocol": "detect"},
    ]);
    let server =
        json!({"serviceAccount": "server", "address": "10.77.0.2", "interception": {}, "ports": ports});
    let mut server = object("Workload", "server", &server);
    server["metadata"]["labels"]["app"] = json!("server");
    vec![
        object("Workload", "client", &client),
        server,
        service("web", 80, "http", json!(["10.96.0.10"])),
        service("api", 8000, "http", json!([])),
        service("mail", 2525, "detect", json!(["10.96.0.13"])),
        service("spare", 80, "http", json!(["10.96.0.14"])),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_come_when_a_program_connects_to_them() -> Result<()> {
    let mut place = Place::start(&["client", "server", "outside"], &documents()).await?;
    let plain = here("servers/plain.py");
    let servers = "raw 127.0.0.1 8000 raw 127.0.0.1 8001 banner 127.0.0.1 2525";
    let arguments: Vec<_> = [plain.as_str()].into_iter().chain(servers.split(' ')).collect();
    place.run("server", &[], "python3", &arguments, 2525).await?;
    let others = [
        "raw", "::", "8000", "raw", "0.0.0.0", "8000", "raw", "0.0.0.0", "9999",
    ];
    let arguments: Vec<_> = [plain.as_str()].into_iter().chain(others).collect();
    place.run("outside", &[], "python3", &arguments, 9999).await?;
    let kept = |place: &Place| -> Result<u64> {
        Ok(place.metrics("client")?.sum("mesh_on_demand_services", &[]) as u64)
    };
    let count = |place: &Place, result: &str| place.intercepted("client", "outbound", result);
    assert_eq!(kept(&place)?, 0, "nobody has called anything");

    // By the service's address, whatever it speaks.
    let fetched = place.curl("client", &["http://10.96.0.10/"])?;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    let heard = output(place.machine("client")?.command("python3").args([
        &here("clients/banner.py"),
        "10.96.0.13",
        "2525",
    ]))?;
    assert!(heard.contains("220 ready"), "{heard}");
    assert_eq!((count(&place, "service")?, kept(&place)?), (2, 2));
    // By an endpoint's own address: no service that is known here has it.
    let fetched = place.curl("client", &["http://10.77.0.2:8001/"])?;
    assert_eq!(
        (fetched.status, count(&place, "endpoint")?, kept(&place)?),
        (200, 1, 3),
        "{fetched:?}"
    );
    // By name, at an address of nobody's.
    let named = ["-H", "Host: spare", "http://10.77.0.3:80/"];
    let fetched = place.curl("client", &named)?;
    assert_eq!(
        (count(&place, "authority")?, kept(&place)?),
        (1, 4),
        "{fetched:?}"
    );
    // What is none of the mesh's passes as ever, named or not.
    for url in ["http://10.77.0.3:8000/", "http://[fd77::3]:8000/"] {
        let fetched = place.curl("client", &[url])?;
        assert_eq!(fetched.status, 200, "{url}: {fetched:?}");
    }
    assert_eq!((count(&place, "passed-through")?, kept(&place)?), (2, 4));

    // Without the control plane, what was in use goes on; of what was not, nobody knows where it may go.
    place.kill_control()?;
    for url in [
        "http://10.96.0.10/",
        "http://10.77.0.2:8001/",
        "http://10.77.0.3:8000/",
    ] {
        let fetched = place.curl("client", &[url])?;
        assert_eq!(fetched.status, 200, "{url}: {fetched:?}");
    }
    let fetched = place.curl("client", &["http://10.77.0.3:9999/"])?;
    assert_eq!(
        (fetched.status, count(&place, "unresolved")?),
        (0, 1),
        "{fetched:?}"
    );
    Ok(())
}
