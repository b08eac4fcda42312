//! What is to run for the documents in force: for each Workload a sidecar, and its own process if it has one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh_api::document::{CommandSpec, Document, ReadinessSpec, WorkloadSpec};
use mesh_api::name::ObjectName;

use super::process::Command;
use crate::documents::InForce;

/// What is to run for a Workload.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The Workload.
    pub(super) workload: ObjectName,
    /// Whether it serves anything; what serves nothing begins last.
    pub(super) serves: bool,
    /// Its own process; none: somebody else starts it.
    pub(super) process: Option<Process>,
}

/// A Workload's own process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Process {
    /// What to run.
    pub(super) command: Command,
    /// How to tell that it is ready.
    pub(super) ready: Option<ReadinessSpec>,
}

/// The plans of all Workloads. `config` is the folder that documents without a file of their own belong to.
pub(super) fn plans(documents: &[InForce], config: &Path) -> BTreeMap<ObjectName, Plan> {
    let workloads = documents.iter().filter_map(|it| match &it.document {
        Document::Workload(object) => Some((object, &it.stored.file)),
        _ => None,
    });
    workloads
        .map(|(object, file)| {
            let workload = object.metadata.object_name();
            let folder = folder(file, config);
            let command = object.spec.command.as_ref();
            let plan = Plan {
                serves: !object.spec.ports.is_empty(),
                process: command.map(|command| process(&workload, &object.spec, command, &folder)),
                workload: workload.clone(),
            };
            (workload, plan)
        })
        .collect()
}

/// The folder of a document: its file's, if that is one on this machine.
fn folder(file: &str, config: &Path) -> PathBuf {
    let config_dir = if config.is_dir() {
        config
    } else {
        config.parent().unwrap_or(config)
    };
    let path = config_dir.join(file);
    match path.parent() {
        Some(parent) if path.is_file() => parent.to_owned(),
        _ => config_dir.to_owned(),
    }
}

fn process(workload: &ObjectName, spec: &WorkloadSpec, command: &CommandSpec, folder: &Path) -> Process {
    let dir = command
        .dir
        .as_ref()
        .map_or_else(|| folder.to_owned(), |dir| folder.join(dir));
    let (program, args) = match command.run.split_first() {
        Some((program, args)) => (program.as_str(), args.to_vec()),
        None => ("", Vec::new()),
    };
    // A path counts from the folder the process runs in, as a shell there would have it.
    let program = if program.contains('/') {
        dir.join(program)
    } else {
        program.into()
    };
    let mut env = variables(workload, spec);
    env.extend(command.env.clone());
    Process {
        command: Command {
            program,
            args,
            env,
            dir,
        },
        ready: command.ready.clone(),
    }
}

/// What a process is told about the mesh: who it is, what it serves, and where its sidecar takes its calls.
fn variables(workload: &ObjectName, spec: &WorkloadSpec) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("MESH_NAMESPACE".into(), workload.namespace.to_string()),
        ("MESH_WORKLOAD".into(), workload.name.to_string()),
    ]);
    for port in &spec.ports {
        env.insert(
            format!("MESH_PORT_{}", upper(port.name.as_str())),
            port.port.to_string(),
        );
    }
    if let Some(port) = spec.outbound.proxy_port {
        env.insert("MESH_OUTBOUND_PROXY".into(), format!("http://127.0.0.1:{port}"));
    }
    for local in &spec.outbound.local_ports {
        let address = format!("127.0.0.1:{}", local.listen);
        let service = upper(local.service.rsplit('/').next().unwrap_or_default());
        if let Some(port) = &local.port {
            env.insert(
                format!("MESH_OUTBOUND_{service}_{}", upper(port.as_str())),
                address.clone(),
            );
        }
        // A service with one port is known by its name alone; of several, the first is.
        env.entry(format!("MESH_OUTBOUND_{service}")).or_insert(address);
    }
    env
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::testing::documents;

    #[test]
    fn every_workload_has_a_plan_and_its_process_knows_the_mesh() {
        let plans = plans(&documents(), Path::new("/srv/shop"));
        let names: Vec<String> = plans.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["ml/client", "ml/triton-v1", "ml/triton-v2"]);
        let plan = |name: &str| &plans[&name.parse::<ObjectName>().unwrap()];
        let client = plan("ml/client").process.as_ref().unwrap();
        assert_eq!(client.command.program, Path::new("python3"));
        let env: Vec<String> = client
            .command
            .env
            .iter()
            .map(|(name, it)| format!("{name}={it}"))
            .collect();
        assert_eq!(
            env,
            [
                "MESH_NAMESPACE=ml",
                "MESH_OUTBOUND_FRAUD=127.0.0.1:18000",
                "MESH_OUTBOUND_FRAUD_HTTP=127.0.0.1:18000",
                "MESH_OUTBOUND_IRIS=127.0.0.1:18001",
                "MESH_OUTBOUND_PROXY=http://127.0.0.1:15001",
                "MESH_WORKLOAD=client",
            ]
        );
        assert!(!plan("ml/client").serves);
        let triton = plan("ml/triton-v1").process.as_ref().unwrap();
        assert_eq!(
            triton.command.program.parent(),
            Some(triton.command.dir.as_path())
        );
        assert_eq!(triton.command.env["MESH_PORT_GRPC"], "8001");
        assert_eq!(plan("ml/triton-v2").process, None);
    }

    #[test]
    fn a_document_s_folder_is_its_file_s() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/a.yaml");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(&file, "").unwrap();
        let of = |stored: &str| folder(stored, dir.path());
        assert_eq!(of("sub/a.yaml"), dir.path().join("sub"));
        assert_eq!(of(&file.display().to_string()), dir.path().join("sub"));
        assert_eq!(of("-"), dir.path());
        assert_eq!(folder("-", &file), dir.path().join("sub"));
    }
}
