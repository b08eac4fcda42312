//! Real model servers in pods, and a client that calls them by the names of Services.

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::{Cluster, Image, Namespace};
use meshctl::demo::servers::{self as demo, Server, Versions};
use serde_json::{Value, json};

use crate::servers::{PORTS, container, image, kit};

/// A Deployment of a server, and the Service of its name.
fn served(server: &Server) -> [Value; 2] {
    let (name, labels) = (server.name, json!({"app": server.name}));
    let volumes = json!([
        {"name": "scratch", "emptyDir": {}},
        {"name": "shared", "emptyDir": {"medium": "Memory"}},
    ]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container(server, &[PORTS.http, PORTS.grpc])], "volumes": volumes},
            },
        },
    });
    let ports = json!([{"name": "http", "port": 80, "targetPort": PORTS.http}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": labels, "ports": ports},
    });
    [deployment, service]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triton_and_mlserver_answer_in_pods() -> Result<()> {
    let cluster = Cluster::shared()?;
    if !cluster.is_own() {
        eprintln!("SKIPPED: the image of real model servers is made for this machine's own cluster alone");
        return Ok(());
    }
    cluster.load(&[Image::Client])?;
    let kit = tokio::task::spawn_blocking(kit).await??;
    cluster.load_archive(&image(&kit)?)?;
    Namespace::scenario("servers", &[], async |namespace| {
        let client = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "client", "image": "mesh.local/client:e2e", "imagePullPolicy": "IfNotPresent", "args": ["sleep 3600"],
            }]},
        });
        let servers = [
            demo::triton(&kit, PORTS, Versions::Both),
            demo::mlserver(&kit, PORTS, Versions::Both),
        ];
        let items: Vec<_> = servers.iter().flat_map(served).chain([client]).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        namespace.apply(&list.to_string()).await?;
        namespace.condition("pod/client", "Ready").await?;
        for (server, model) in [("triton", "fraud"), ("mlserver", "iris")] {
            namespace.rolled_out(server).await?;
            let url = format!("http://{server}/v2/models/{model}");
            let command = ["curl", "--silent", "--show-error", "--fail", &url];
            let told = namespace
                .until(&format!("an answer of {server}"), async || {
                    Ok(namespace.exec("client", "client", &command).ok())
                })
                .await?;
            let told: Value = serde_json::from_str(&told)?;
            ensure!(told["name"] == model, "{server}: {told}");
        }
        Ok(())
    })
    .await
}
