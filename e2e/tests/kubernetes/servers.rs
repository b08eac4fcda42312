//! Real model servers in pods: one image that holds what the demo installs, at the same paths, and the containers that
//! run a server of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use mesh_e2e::kubernetes::Archive;
use mesh_e2e::kubernetes::images::{self, REGISTRY};
use mesh_e2e::kubernetes::layer::Files;
use meshctl::demo::servers::Server;
use meshctl::demo::{self, Kit};
use serde_json::{Value, json};

/// What installing needs and running does not.
const INSTALLING: [&str; 6] = ["downloads", "install.log", "lock", "pythons", "tools", "uv"];
/// The parts of Python that no server needs.
const NEEDLESS: [&str; 7] = [
    "ensurepip",
    "idlelib",
    "include",
    "pip",
    "share",
    "test",
    "tkinter",
];

/// The installed servers.
pub(crate) fn kit() -> Result<Kit> {
    Ok(demo::provision(&demo::home()?, "", &mut |_| ())?)
}

/// The image with all of them.
pub(crate) fn image(kit: &Kit) -> Result<Archive> {
    let prefix = output(Command::new(kit.python()).args(["-c", "import sys; print(sys.base_prefix)"]))?;
    let prefix = PathBuf::from(prefix.trim());
    let needless = |path: &Path| {
        let is_named = |names: &[&str]| {
            let name = path.file_name().unwrap_or_default();
            names.iter().any(|needless| name == OsStr::new(needless))
        };
        let at_the_top = path.parent() == Some(kit.home());
        (at_the_top && is_named(&INSTALLING))
            || (path.starts_with(&prefix) && is_named(&NEEDLESS))
            || path.extension() == Some(OsStr::new("a"))
    };
    let mut files = Files::new()
        .tree(kit.home(), &needless)?
        .tree(&prefix, &needless)?;
    let python = fs::canonicalize(kit.python())?;
    files = files.libraries(&python)?;
    for module in extensions(&prefix)? {
        files = files.libraries(&module)?;
    }
    // Shells start some of the servers' programs.
    files = files
        .program("/bin/sh", Path::new("/bin/sh"))?
        .text("/tmp/.here", "");
    let layer = files.pack_once("servers")?;
    images::write(
        &format!("{REGISTRY}/servers:e2e"),
        Some("65532:65532"),
        &[],
        &[],
        &[layer],
    )
}

/// A container that runs a server of the image, for everybody to call.
pub(crate) fn container(server: &Server, ports: &[u16]) -> Value {
    let open = |text: &str| text.replace("127.0.0.1", "0.0.0.0");
    let process = &server.process;
    let args: Vec<_> = process.args.iter().map(|argument| open(argument)).collect();
    let env = process
        .env
        .iter()
        .map(|(name, value)| json!({"name": name, "value": open(value)}));
    let ports = ports.iter().map(|port| json!({"containerPort": port}));
    json!({
        "name": server.name,
        "image": format!("{REGISTRY}/servers:e2e"),
        "imagePullPolicy": "IfNotPresent",
        "command": [process.program],
        "args": args,
        "env": env.collect::<Vec<_>>(),
        "workingDir": process.directory,
        "ports": ports.collect::<Vec<_>>(),
        "readinessProbe": {"httpGet": {"path": server.ready.path, "port": server.ready.port}, "periodSeconds": 1},
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}, {"name": "shared", "mountPath": "/dev/shm"}],
    })
}

/// The modules of Python's own that are shared libraries.
fn extensions(prefix: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let versions = fs::read_dir(prefix.join("lib")).with_context(|| format!("read {}", prefix.display()))?;
    for version in versions {
        let folder = version?.path().join("lib-dynload");
        for module in fs::read_dir(folder).into_iter().flatten() {
            found.push(module?.path());
        }
    }
    Ok(found)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
