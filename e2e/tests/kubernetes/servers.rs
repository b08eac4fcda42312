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
use meshctl::demo::servers::{Ports, Server, Versions};
use meshctl::demo::{self, Kit};
use serde_json::{Value, json};

/// What installing needs and running does not.
const INSTALLING: [&str; 6] = ["downloads", "install.log", "lock", "pythons", "tools", "uv"];
/// The parts of Python that no server needs.
const NEEDLESS: [&str; 6] = [
    "ensurepip",
    "idlelib",
    // The environment has packages of its own.
    "site-packages",
    "test",
    "tkinter",
    "turtledemo",
];

/// Where the servers listen, each in a pod of its own.
pub(crate) const PORTS: Ports = Ports {
    http: 8000,
    grpc: 8001,
    metrics: 8002,
};

/// The installed servers.
pub(crate) fn kit() -> Result<Kit> {
    Ok(demo::provision(&demo::home()?, "", &mut |_| ())?)
}

/// The image with all of them.
pub(crate) fn image(kit: &Kit) -> Result<Archive> {
    let standard = "import sysconfig; print(sysconfig.get_path('stdlib'))";
    let standard = PathBuf::from(output(Command::new(kit.python()).args(["-c", standard]))?.trim());
    let is_named = |path: &Path, names: &[&str]| {
        let name = path.file_name().unwrap_or_default();
        names.iter().any(|needless| name == OsStr::new(needless))
    };
    let installing = |path: &Path| path.parent() == Some(kit.home()) && is_named(path, &INSTALLING);
    let mut files = Files::new()
        .tree(kit.home(), &installing)?
        .tree(&standard, &|path| is_named(path, &NEEDLESS))?;
    // The environment's Python is a link to another, perhaps by way of more links.
    let (mut at, python) = (kit.python(), fs::canonicalize(kit.python())?);
    while let Ok(to) = fs::read_link(&at) {
        at = at.parent().context("a link stands in no folder")?.join(to);
        files = files.copy(&at, &python);
    }
    files = files.libraries(&python, "")?;
    for module in fs::read_dir(standard.join("lib-dynload"))? {
        files = files.libraries(&module?.path(), "")?;
    }
    // Packages count on the system for little more than the libraries of C and C++, as Triton does.
    let triton = demo::servers::triton(kit, PORTS, Versions::Both).process;
    let folders = triton.env.get("LD_LIBRARY_PATH").map_or("", String::as_str);
    let stub = kit
        .home()
        .join("triton-backends/python/triton_python_backend_stub");
    files = files
        .libraries(&triton.program, folders)?
        .libraries(&stub, folders)?;
    // Triton starts its models by a shell.
    files = files
        .program("/bin/bash", Path::new("/bin/bash"))?
        .program("/usr/bin/env", Path::new("/usr/bin/env"))?
        .text("/tmp/.here", "");
    let layer = files.pack_once("servers")?;
    images::write(
        &format!("{REGISTRY}/servers:e2e"),
        // Triton changes the mode of a file of its own, which the owner alone may.
        Some("0:0"),
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

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
