//! NVIDIA's tritonclient, over REST and over gRPC (grpcio), on a real Triton: no setting names a mesh, and the mesh sees models.

use anyhow::Result;
use mesh_e2e::documents::object;
use mesh_e2e::wait;
use meshctl::demo::servers::{self, Ports, Versions};
use serde_json::{Value, json};

use crate::kit::{here, kit};
use crate::place::{Place, output};

const PROTOCOL: &str = "mesh.dev/open-inference";
const PORTS: Ports = Ports {
    http: 8000,
    grpc: 8001,
    metrics: 8002,
};

fn documents() -> Vec<Value> {
    let ports = |http: u16, grpc: u16| {
        json!([
            {"name": "http", "port": http, "appProtocol": PROTOCOL},
            {"name": "grpc", "port": grpc, "appProtocol": PROTOCOL},
        ])
    };
    let workload = |name: &str, address: &str, ports: Value| {
        let spec = json!({"serviceAccount": name, "address": address, "interception": {}, "ports": ports});
        let mut document = object("Workload", name, &spec);
        document["metadata"]["labels"]["app"] = json!(name);
        document
    };
    let retired = json!([{
        "name": "retired",
        "matches": [{"model": "fraud", "version": "1"}],
        "split": {"backends": [{"name": "new", "service": "fraud", "model": {"version": "2"}}]},
    }]);
    vec![
        object(
            "MeshConfig",
            "mesh",
            &json!({"telemetry": {"accessLog": {"enabled": true}}}),
        ),
        workload("client", "10.77.0.1", json!([])),
        workload("server", "10.77.0.2", ports(PORTS.http, PORTS.grpc)),
        object(
            "Service",
            "fraud",
            &json!({"ports": ports(80, 8001), "addresses": ["10.96.0.30", "fd96::30"], "selector": {"app": "server"}}),
        ),
        object(
            "ModelRoute",
            "fraud",
            &json!({"service": "fraud", "rules": retired}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tritonclient_is_routed_by_model_without_knowing_of_the_mesh() -> Result<()> {
    let kit = tokio::task::spawn_blocking(kit).await??;
    let mut place = Place::start(&["client", "server"], &documents()).await?;
    let triton = servers::triton(&kit, PORTS, Versions::Both).process;
    let mut by = vec![
        "env".to_owned(),
        "-C".to_owned(),
        triton.directory.display().to_string(),
    ];
    by.extend(triton.env.iter().map(|(name, value)| format!("{name}={value}")));
    let arguments: Vec<_> = triton.args.iter().map(String::as_str).collect();
    let program = triton.program.display().to_string();
    place.run("server", &by, &program, &arguments, PORTS.http).await?;
    wait::until("the model server", async || {
        let ready = place.curl("client", &["http://10.96.0.30/v2/health/ready"])?;
        Ok((ready.status == 200).then_some(()))
    })
    .await?;

    let python = kit.python().display().to_string();
    let ask = |script: &str, arguments: &[&str]| -> Result<Value> {
        let script = here("clients").join(script);
        let mut client = place.machine("client")?.command(&python);
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY"] {
            client.env_remove(variable).env_remove(variable.to_lowercase());
        }
        Ok(serde_json::from_str(&output(
            client.arg(script).args(arguments),
        )?)?)
    };
    for (script, addresses) in [
        ("triton_rest.py", ["10.96.0.30:80", "[fd96::30]:80"]),
        ("triton_grpc.py", ["10.96.0.30:8001", "[fd96::30]:8001"]),
    ] {
        for address in addresses {
            for version in ["1", "2"] {
                let answer = ask(script, &[address, "--version", version, "--requests", "3"])?;
                assert_eq!(
                    answer["answers"],
                    json!({"2": 3}),
                    "{script} {address} {version}: {answer}"
                );
                assert_eq!(answer["errors"], json!([]), "{script} {address} {version}");
            }
        }
    }
    let stream = ask(
        "triton_stream.py",
        &["10.96.0.30:8001", "--requests", "2", "--tokens", "5"],
    )?;
    assert_eq!(
        (&stream["chunks"], &stream["finished"]),
        (&json!(10), &json!(2)),
        "{stream}"
    );
    let caller = ("mesh.peer", "spiffe://mesh.local/ns/ml/sa/client");
    for protocol in ["http.response.status_code", "rpc.grpc.status_code"] {
        let has = [caller, ("mesh.model", "fraud"), ("mesh.operation", "infer")];
        let line = place.logged_with("server", &has, protocol).await?;
        assert_eq!(
            line["mesh.model_version"], "2",
            "what arrives is what the route asks for: {line}"
        );
    }
    Ok(())
}
