//! Acceptance: the mesh is installed, checked, installed again, and taken away without a trace, also by commands that were
//! interrupted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mesh_e2e::kubernetes::Cluster;

use crate::mesh::{Mesh, SYSTEM};

/// Kinds of which the mesh has objects that no namespace's end takes along.
const WIDE: &str = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,\
                    customresourcedefinitions,namespaces";

/// What there is of the mesh.
fn remains(cluster: &Cluster) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let every = ["--all-namespaces"];
    for (kinds, more) in [
        (WIDE, &[][..]),
        ("configmaps,roles,rolebindings,leases", &every[..]),
    ] {
        let mut arguments = vec!["get", kinds, "--output", "name"];
        arguments.extend(more);
        let names = cluster.kubectl().run(&arguments)?;
        let ours = names.lines().filter(|name| name.contains("mesh"));
        found.extend(ours.map(str::to_owned));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installing_is_idempotent_and_uninstalling_leaves_nothing() -> Result<()> {
    let mesh = Mesh::prepared()?;
    mesh.meshctl(&["uninstall", "--yes", "--crds"])?;
    ensure!(
        remains(mesh.cluster())?.is_empty(),
        "{:?}",
        remains(mesh.cluster())?
    );

    let begun = Instant::now();
    mesh.install()?;
    mesh.meshctl(&["check"])?;
    eprintln!("installed, and every check green, after {:.1?}", begun.elapsed());
    mesh.meshctl(&["uninstall", "--yes", "--crds"])?;

    // Interrupted at several places, and then let through.
    for after in [200, 1000, 2500] {
        let registry = format!("images.registry={}", mesh.cluster().registry());
        let mut installing = mesh.command(&["install", "--set", &registry])?.spawn()?;
        tokio::time::sleep(Duration::from_millis(after)).await;
        installing.kill()?;
        installing.wait()?;
    }
    mesh.install()?;
    mesh.meshctl(&["check"])?;
    let version = |name: &str| {
        let jsonpath = ["--output", "jsonpath={.metadata.generation}"];
        let kubectl = mesh.cluster().kubectl().within(SYSTEM);
        kubectl.run(&["get", name, jsonpath[0], jsonpath[1]])
    };
    let before = version("deployment/mesh-control")?;
    mesh.install()?;
    ensure!(
        version("deployment/mesh-control")? == before,
        "installing again changes the Deployment"
    );
    mesh.meshctl(&["upgrade"])?;
    mesh.meshctl(&["check"])?;

    let mut leaving = mesh.command(&["uninstall", "--yes"])?.spawn()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    leaving.kill()?;
    leaving.wait()?;
    mesh.meshctl(&["uninstall", "--yes"])?;
    mesh.meshctl(&["uninstall", "--yes"])?;
    let left = remains(mesh.cluster())?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
