//! The real TensorFlow Serving stubs, on a local port and through a tunnel that gRPC asks its HTTP proxy for.

use std::collections::BTreeMap;

use meshctl::demo::servers::Process;
use serde_json::json;

use crate::kit::{FreePorts, address, client, here, kit, line, script};
use crate::mesh::{Mesh, TENSORFLOW, caller, route, service, workload};
use crate::seen;

#[test]
fn tensorflow_serving_works_through_two_sidecars() -> anyhow::Result<()> {
    let kit = kit()?;
    let mut free = FreePorts;
    let (proxy, local, port) = (free.next()?, free.next()?, free.next()?);
    let process = Process {
        program: kit.python(),
        args: vec![
            here("servers/tfs_server.py").display().to_string(),
            "127.0.0.1".into(),
            port.to_string(),
        ],
        env: BTreeMap::new(),
        directory: here("servers"),
    };
    // A version that was never there, and a label that only the mesh knows.
    let rules = json!([{
        "name": "moved",
        "matches": [{"model": "half_plus", "version": "7"}, {"model": "half_plus", "version": "next"}],
        "split": {"backends": [{"name": "first", "service": "tfs", "model": {"version": "1"}}]},
    }]);
    let documents = vec![
        workload("tfs", TENSORFLOW, &process, None, &[("grpc", port)], &mut free)?,
        service("tfs", TENSORFLOW, &["grpc"]),
        route("tfs", &rules),
        caller(proxy, &[(local, "tfs")]),
    ];
    let mesh = Mesh::up(documents)?;
    let (local, proxy) = (address(local), format!("http://{}", address(proxy)));

    // Each asks Predict, then GetModelMetadata of the same version, then GetModelStatus of all.
    for (asked, answered) in [
        (&[][..], 2),
        (&["--version", "1"], 1),
        (&["--label", "stable"], 1),
        (&["--version", "7"], 1),
        (&["--label", "next"], 1),
    ] {
        let answer = client(&kit, "tfs_grpc.py", &[&[local.as_str()], asked].concat())?;
        assert_eq!(answer["errors"], json!([]), "{asked:?}: {answer}");
        assert_eq!(
            answer["answers"],
            json!({answered.to_string(): 1}),
            "{asked:?}: {answer}"
        );
        let described = (&answer["metadata_version"], &answer["statuses"]);
        assert_eq!(
            described,
            (&json!(answered), &json!([1, 2])),
            "{asked:?}: {answer}"
        );
    }

    let mut tunnelled = script(&kit, "tfs_grpc.py");
    tunnelled.args(["tfs.ml:80", "--label", "canary", "--requests", "3"]);
    let tunnelled = line(tunnelled.env("grpc_proxy", &proxy))?;
    assert_eq!(tunnelled["errors"], json!([]));
    assert_eq!(tunnelled["answers"], json!({"2": 3}), "{tunnelled}");

    let through = client(&kit, "tfs_grpc.py", &[&local, "--model", "nope"])?;
    let direct = client(&kit, "tfs_grpc.py", &[&address(port), "--model", "nope"])?;
    assert_eq!(through, direct);
    assert_eq!(through["errors"][0]["status"], "NOT_FOUND", "{through}");

    let sent = [
        ("ml/tfs / half_plus@ predict OK", 1),
        ("ml/tfs / half_plus@1 predict OK", 1),
        ("ml/tfs / half_plus@stable predict OK", 1),
        ("ml/tfs / half_plus@canary predict OK", 3),
        ("ml/tfs moved/first half_plus@7 predict OK", 1),
        ("ml/tfs moved/first half_plus@next predict OK", 1),
        // One description of no version, and the six statuses.
        ("ml/tfs / half_plus@ metadata OK", 7),
        ("ml/tfs / half_plus@1 metadata OK", 1),
        ("ml/tfs / half_plus@stable metadata OK", 1),
        ("ml/tfs / half_plus@canary metadata OK", 1),
        ("ml/tfs moved/first half_plus@7 metadata OK", 1),
        ("ml/tfs moved/first half_plus@next metadata OK", 1),
        ("ml/tfs / nope@ predict NOT_FOUND", 1),
        ("ml/tfs / nope@ metadata NOT_FOUND", 1),
    ];
    seen::by_sidecar(&mesh, None, &sent)?;
    seen::by_routes(&mesh, &sent)?;
    seen::by_sidecar(
        &mesh,
        Some("tfs"),
        &[
            ("ml/tfs / half_plus@ predict OK", 1),
            ("ml/tfs / half_plus@1 predict OK", 3),
            ("ml/tfs / half_plus@stable predict OK", 1),
            ("ml/tfs / half_plus@canary predict OK", 3),
            ("ml/tfs / half_plus@ metadata OK", 7),
            ("ml/tfs / half_plus@1 metadata OK", 3),
            ("ml/tfs / half_plus@stable metadata OK", 1),
            ("ml/tfs / half_plus@canary metadata OK", 1),
            ("ml/tfs / nope@ predict NOT_FOUND", 1),
            ("ml/tfs / nope@ metadata NOT_FOUND", 1),
        ],
    )
}
