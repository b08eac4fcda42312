//! Open Inference V2 on MLServer, whose versions are words: `requests` through `HTTP_PROXY`, tritonclient by gRPC.

use meshctl::demo::servers::{self, Versions};
use serde_json::json;

use crate::kit::{FreePorts, address, client, kit, line, script};
use crate::mesh::{Mesh, OPEN_INFERENCE, caller, route, service, workload};
use crate::seen;

#[test]
fn open_inference_works_through_two_sidecars() -> anyhow::Result<()> {
    let kit = kit()?;
    let mut free = FreePorts;
    let ports = free.three()?;
    let server = servers::mlserver(&kit, ports, Versions::Both);
    let open = [("http", ports.http), ("grpc", ports.grpc)];
    let (proxy, grpc) = (free.next()?, free.next()?);
    let rules = json!([{
        "name": "renamed",
        "matches": [{"model": "flowers"}],
        "split": {"backends": [{"name": "iris", "service": "iris", "model": {"name": "iris", "version": "v1"}}]},
    }]);
    let documents = vec![
        workload(
            "iris",
            OPEN_INFERENCE,
            &server.process,
            Some(&server.ready),
            &open,
            &mut free,
        )?,
        service("iris", OPEN_INFERENCE, &["http", "grpc"]),
        route("iris", &rules),
        caller(proxy, &[(grpc, "iris grpc")]),
    ];
    let mesh = Mesh::up(documents)?;
    let proxy = format!("http://{}", address(proxy));
    let rest = |args: &[&str]| {
        let mut client = script(&kit, "mlserver_v2.py");
        line(client.arg("http://iris.ml").args(args).env("HTTP_PROXY", &proxy))
    };
    let grpc = |args: &[&str]| {
        client(
            &kit,
            "mlserver_grpc.py",
            &[&[address(grpc).as_str()], args].concat(),
        )
    };

    for (args, answered) in [
        (&["--version", "v1", "--requests", "2"][..], json!({"v1": 2})),
        (&["--version", "v2"], json!({"v2": 1})),
        (&["--model", "flowers"], json!({"v1": 1})),
    ] {
        for (by, answer) in [("REST", rest(args)?), ("gRPC", grpc(args)?)] {
            assert_eq!(answer["answers"], answered, "{by} {args:?}: {answer}");
        }
    }

    let through = rest(&["--version", "v9"])?;
    let own = format!("http://{}", address(ports.http));
    let direct = client(&kit, "mlserver_v2.py", &[&own, "--version", "v9"])?;
    assert_eq!(through, direct);
    assert_eq!(through["errors"][0]["status"], "404", "{through}");
    let unknown = grpc(&["--version", "v9"])?;
    assert_eq!(unknown["errors"][0]["status"], "NOT_FOUND", "{unknown}");

    let sent = [
        ("ml/iris / iris@v1 infer 200", 2),
        ("ml/iris / iris@v1 infer OK", 2),
        ("ml/iris / iris@v2 infer 200", 1),
        ("ml/iris / iris@v2 infer OK", 1),
        ("ml/iris renamed/iris flowers@ infer 200", 1),
        ("ml/iris renamed/iris flowers@ infer OK", 1),
        ("ml/iris / iris@v9 infer 404", 1),
        ("ml/iris / iris@v9 infer NOT_FOUND", 1),
    ];
    seen::by_sidecar(&mesh, None, &sent)?;
    seen::by_routes(&mesh, &sent)?;
    seen::by_sidecar(
        &mesh,
        Some("iris"),
        &[
            ("ml/iris / iris@v1 infer 200", 3),
            ("ml/iris / iris@v1 infer OK", 3),
            ("ml/iris / iris@v2 infer 200", 1),
            ("ml/iris / iris@v2 infer OK", 1),
            ("ml/iris / iris@v9 infer 404", 1),
            ("ml/iris / iris@v9 infer NOT_FOUND", 1),
        ],
    )
}
