//! NVIDIA's tritonclient on Triton.

use meshctl::demo::servers::{self, Versions};
use serde_json::json;

use crate::kit::{FreePorts, address, client, kit};
use crate::mesh::{Mesh, OPEN_INFERENCE, caller, route, service, workload};
use crate::seen;

/// Who asks for no version is given one by user; version 1 is retired; streams are sent to the one version there is.
fn rules() -> serde_json::Value {
    json!([
        {
            "name": "retired",
            "matches": [{"model": "fraud", "version": "1"}],
            "split": {"backends": [{"name": "new", "service": "fraud", "model": {"version": "2"}}]},
        },
        {
            "name": "asked",
            "matches": [{"model": "fraud", "version": "2"}],
            "split": {"backends": [{"name": "new", "service": "fraud"}]},
        },
        {
            "name": "users",
            "matches": [{"model": "fraud", "operation": ["infer"]}],
            "split": {"by": {"header": "x-user-id"}, "backends": [
                {"name": "old", "service": "fraud", "weight": 50, "model": {"version": "1"}},
                {"name": "new", "service": "fraud", "weight": 50, "model": {"version": "2"}},
            ]},
        },
        {
            "name": "streams",
            "matches": [{"model": "tokens", "version": "9"}],
            "split": {"backends": [{"name": "only", "service": "fraud", "model": {"version": "1"}}]},
        },
    ])
}

#[test]
fn tritonclient_works_through_two_sidecars() -> anyhow::Result<()> {
    let kit = kit()?;
    let mut free = FreePorts;
    let ports = free.three()?;
    let server = servers::triton(&kit, ports, Versions::Both);
    let open = [("http", ports.http), ("grpc", ports.grpc)];
    let (proxy, rest, grpc) = (free.next()?, free.next()?, free.next()?);
    let documents = vec![
        workload(
            "fraud",
            OPEN_INFERENCE,
            &server.process,
            Some(&server.ready),
            &open,
            &mut free,
        )?,
        service("fraud", OPEN_INFERENCE, &["http", "grpc"]),
        route("fraud", &rules()),
        caller(proxy, &[(rest, "fraud http"), (grpc, "fraud grpc")]),
    ];
    let mesh = Mesh::up(documents)?;
    let (rest, grpc) = (address(rest), address(grpc));

    // Sixteen users, the same by REST and by gRPC.
    let users = ["--requests", "16", "--key-header", "x-user-id"];
    let by_rest = client(&kit, "triton_rest.py", &[&[rest.as_str()], &users[..]].concat())?;
    let by_grpc = client(&kit, "triton_grpc.py", &[&[grpc.as_str()], &users[..]].concat())?;
    assert_eq!(by_rest["errors"], json!([]));
    assert_eq!(by_rest["keys"], by_grpc["keys"], "{by_rest} {by_grpc}");
    let count = |version| by_rest["answers"][version].as_u64().unwrap_or_default();
    let (old, new) = (count("1"), count("2"));
    assert!(old > 0 && new > 0 && old + new == 16, "{by_rest}");

    // Versions that are asked for, written anew or left; tensors as JSON too.
    for (script, address) in [("triton_rest.py", &rest), ("triton_grpc.py", &grpc)] {
        for version in ["1", "2"] {
            let answer = client(&kit, script, &[address, "--version", version])?;
            assert_eq!(answer["answers"], json!({"2": 1}), "{script} {version}: {answer}");
        }
    }
    let answer = client(&kit, "triton_rest.py", &[&rest, "--version", "1", "--json"])?;
    assert_eq!(answer["answers"], json!({"2": 1}), "{answer}");

    // Streams: one that is left alone, one whose requests all ask for a version that is rewritten.
    let asked = ["--requests", "3", "--tokens", "5"];
    for more in [&[][..], &["--version", "9"]] {
        let stream = client(
            &kit,
            "triton_stream.py",
            &[&[grpc.as_str()], &asked[..], more].concat(),
        )?;
        assert_eq!(stream["answers"], json!({"1": 3}), "{stream}");
        let heard = (&stream["chunks"], &stream["finished"]);
        assert_eq!(heard, (&json!(15), &json!(3)), "{stream}");
    }

    // The server's own errors, to the letter.
    let (own_rest, own_grpc) = (address(ports.http), address(ports.grpc));
    for (script, through, direct, status) in [
        ("triton_rest.py", &rest, &own_rest, "404"),
        ("triton_grpc.py", &grpc, &own_grpc, "NOT_FOUND"),
    ] {
        let through = client(&kit, script, &[through, "--model", "nope"])?;
        let direct = client(&kit, script, &[direct, "--model", "nope"])?;
        assert_eq!(through, direct);
        assert_eq!(through["errors"][0]["status"], status, "{through}");
    }

    // The mesh's own, readable: a path that servers read differently.
    let refused = client(&kit, "triton_rest.py", &[&rest, "--model", "a/../fraud"])?;
    let error = &refused["errors"][0];
    assert_eq!(error["status"], "400", "{refused}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("ambiguous-path"), "{refused}");

    let sent = [
        ("ml/fraud users/old fraud@ infer 200", old),
        ("ml/fraud users/new fraud@ infer 200", new),
        ("ml/fraud users/old fraud@ infer OK", old),
        ("ml/fraud users/new fraud@ infer OK", new),
        ("ml/fraud retired/new fraud@1 infer 200", 2),
        ("ml/fraud retired/new fraud@1 infer OK", 1),
        ("ml/fraud asked/new fraud@2 infer 200", 1),
        ("ml/fraud asked/new fraud@2 infer OK", 1),
        ("ml/fraud / tokens@ infer OK", 1),
        ("ml/fraud streams/only tokens@9 infer OK", 1),
        ("ml/fraud / nope@ infer 404", 1),
        ("ml/fraud / nope@ infer NOT_FOUND", 1),
        ("ml/fraud / @  400", 1),
    ];
    seen::by_sidecar(&mesh, None, &sent)?;
    seen::by_routes(&mesh, &sent)?;
    seen::by_sidecar(
        &mesh,
        Some("fraud"),
        &[
            ("ml/fraud / fraud@1 infer 200", old),
            ("ml/fraud / fraud@2 infer 200", new + 3),
            ("ml/fraud / fraud@1 infer OK", old),
            ("ml/fraud / fraud@2 infer OK", new + 2),
            ("ml/fraud / tokens@ infer OK", 1),
            ("ml/fraud / tokens@1 infer OK", 1),
            ("ml/fraud / nope@ infer 404", 1),
            ("ml/fraud / nope@ infer NOT_FOUND", 1),
        ],
    )
}
