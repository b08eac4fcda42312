//! How each server and client of the demo is run: programs, arguments, environment, and when they are ready.
//!
//! These are plain values, made from an installed [`Kit`] and ports that the caller chooses: they go into the `command`
//! of a Workload as well as into a test's `std::process::Command`. Every server listens on loopback alone. Start each
//! in a process group of its own and end the group: SIGTERM is enough for all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Kit;
use super::chat::Choice;

const LOOPBACK: &str = "127.0.0.1";

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables to set; the others may be passed on.
    pub env: BTreeMap<String, String>,
    /// The folder to run it in.
    pub directory: PathBuf,
}

impl Process {
    fn new(kit: &Kit, program: impl Into<PathBuf>) -> Self {
        let directory = kit.home().to_owned();
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            directory,
        }
    }

    fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// The environment's own Python comes first in PATH, and no setting of the user's is in its way.
    fn in_environment(self, kit: &Kit) -> Self {
        let bin = kit.layout.venv().join("bin");
        self.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .env("PYTHONPATH", "")
            .env("PYTHONHOME", "")
            .env("PYTHONNOUSERSITE", "1")
            .env("PYTHONUNBUFFERED", "1")
    }
}

/// A model server: its process, and how to see that it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The name that its makers gave it.
    pub name: &'static str,
    /// How it is run.
    pub process: Process,
    /// When it is ready.
    pub ready: Ready,
}

/// A server is ready when a GET of this path on this port of 127.0.0.1 is answered with 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// An HTTP port.
    pub port: u16,
    /// The path and nothing else.
    pub path: &'static str,
}

/// The ports of a server that speaks the Open Inference Protocol V2; all different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// V2 REST.
    pub http: u16,
    /// V2 gRPC.
    pub grpc: u16,
    /// Prometheus, at `/metrics`.
    pub metrics: u16,
}

/// Which versions of its model a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// Both; a request that names none is answered by the second.
    Both,
    /// The first alone.
    First,
    /// The second alone.
    Second,
}

impl Versions {
    /// The folder of this choice.
    fn folder(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::First => "first",
            Self::Second => "second",
        }
    }
}

/// NVIDIA Triton with the model `fraud` in versions `1` and `2` (the output `version` says which one answered), and the
/// decoupled streaming model `tokens` in version `1`.
#[must_use]
pub fn triton(kit: &Kit, ports: Ports, versions: Versions) -> Server {
    let server = kit
        .environment
        .site_packages
        .join("pytriton/tritonserver/bin/tritonserver");
    let models = kit.layout.files().join("triton").join(versions.folder());
    let flags = [
        format!("--model-repository={}", models.display()),
        format!("--backend-directory={}", kit.layout.triton_backends().display()),
        format!("--http-address={LOOPBACK}"),
        format!("--http-port={}", ports.http),
        format!("--grpc-address={LOOPBACK}"),
        format!("--grpc-port={}", ports.grpc),
        format!("--metrics-address={LOOPBACK}"),
        format!("--metrics-port={}", ports.metrics),
        "--model-control-mode=explicit".into(),
        "--load-model=*".into(),
        "--allow-gpu-metrics=false".into(),
        "--allow-cpu-metrics=false".into(),
        "--pinned-memory-pool-byte-size=0".into(),
        "--log-info=false".into(),
    ];
    // The models run in a process that loads Python as a library, which is not where the system looks.
    let libraries: Vec<String> = [
        Some(kit.environment.site_packages.join("nvidia_pytriton.libs")),
        kit.environment.python.library_folder.clone(),
    ]
    .into_iter()
    .flatten()
    .map(|folder| folder.display().to_string())
    .collect();
    let process = Process::new(kit, server)
        .args(flags)
        .in_environment(kit)
        .env("LD_LIBRARY_PATH", libraries.join(":"));
    Server {
        name: "triton",
        process,
        ready: Ready {
            port: ports.http,
            path: "/v2/health/ready",
        },
    }
}

/// Seldon MLServer with the model `iris` in versions `v1` and `v2`.
#[must_use]
pub fn mlserver(kit: &Kit, ports: Ports, versions: Versions) -> Server {
    let folder = kit.layout.files().join("mlserver");
    let models = folder.join(versions.folder());
    let process = Process::new(kit, kit.layout.bin("mlserver"))
        .args(["start".to_owned(), models.display().to_string()])
        .in_environment(kit)
        .env("PYTHONPATH", folder.display().to_string())
        .env("MLSERVER_HOST", LOOPBACK)
        .env("MLSERVER_HTTP_PORT", ports.http.to_string())
        .env("MLSERVER_GRPC_PORT", ports.grpc.to_string())
        .env("MLSERVER_METRICS_PORT", ports.metrics.to_string())
        // Streams need both: no worker processes, no compression.
        .env("MLSERVER_PARALLEL_WORKERS", "0")
        .env("MLSERVER_GZIP_ENABLED", "false")
        .env("MLSERVER_DEBUG", "false");
    Server {
        name: "mlserver",
        process,
        ready: Ready {
            port: ports.http,
            path: "/v2/health/ready",
        },
    }
}

/// The OpenAI-compatible server of this machine. `alias` is the model name in its answers (llama-server alone:
/// LitServe answers with the name it was asked for); it serves any name that a request asks for.
#[must_use]
pub fn chat(kit: &Kit, port: u16, alias: &str) -> Server {
    let process = match &kit.chat.0 {
        Choice::Llama(llama) => Process::new(kit, &llama.loader)
            .args(["--library-path", &llama.library_path, &text(&llama.program)])
            .args(["--model", &text(&kit.layout.chat_model()), "--alias", alias])
            .args(["--host", LOOPBACK, "--port", &port.to_string()])
            .args([
                "--ctx-size",
                "4096",
                "--parallel",
                "4",
                "--threads",
                "1",
                "--metrics",
                "--offline",
            ])
            .env("GGML_BACKEND_PATH", text(&llama.backend)),
        Choice::LitServe(_) => Process::new(kit, kit.python())
            .args([
                text(&kit.layout.files().join("litserve_chat.py")),
                LOOPBACK.into(),
                port.to_string(),
            ])
            .in_environment(kit),
    };
    Server {
        name: kit.chat.name(),
        process,
        ready: Ready {
            port,
            path: "/health",
        },
    }
}

/// Where the demo's client sends its flows, and how fast. What has no address is not sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flows {
    /// `fraud` by V2 REST: host and port.
    pub fraud_rest: Option<Flow>,
    /// `fraud` by V2 gRPC: host and port.
    pub fraud_grpc: Option<Flow>,
    /// `iris` by V2 REST: a base URL.
    pub iris: Option<Flow>,
    /// Streamed chat completions: a base URL, without its `/v1`.
    pub chat: Option<Flow>,
}

/// One flow of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Where to.
    pub address: String,
    /// At most so many calls a second, one after the other.
    pub rate: f64,
}

/// The demo's client: prints a JSON line each second (its own documentation shows it), ends on SIGTERM.
#[must_use]
pub fn client(kit: &Kit, flows: &Flows) -> Process {
    let named = [
        ("fraud-rest", &flows.fraud_rest),
        ("fraud-grpc", &flows.fraud_grpc),
        ("iris", &flows.iris),
        ("chat", &flows.chat),
    ];
    let flags = named.into_iter().filter_map(|(name, flow)| {
        let Flow { address, rate } = flow.as_ref()?;
        Some([format!("--{name}={address}"), format!("--{name}-rate={rate}")])
    });
    Process::new(kit, kit.python())
        .args([text(&kit.layout.files().join("client.py"))])
        .args(flags.flatten())
        .in_environment(kit)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::chat::ChatServer;
    use crate::demo::layout::Layout;
    use crate::demo::llama::Llama;
    use crate::demo::provision::Environment;
    use crate::demo::python::Python;

    fn kit(chat: Choice) -> Kit {
        let python = Python {
            executable: "/usr/bin/python3".into(),
            version: (3, 11),
            library: "libpython3.11.so.1.0".into(),
            library_folder: Some("/usr/lib/python-libraries".into()),
            venv: true,
            pip: true,
        };
        let site_packages = "/d/venv/lib/python3.11/site-packages".into();
        Kit {
            layout: Layout { home: "/d".into() },
            environment: Environment {
                python,
                site_packages,
            },
            chat: ChatServer(chat),
        }
    }

    fn llama() -> Choice {
        Choice::Llama(Llama {
            loader: "/d/llama/usr/lib/x/ld-linux.so".into(),
            library_path: "/d/llama/usr/lib/x".into(),
            program: "/d/llama/usr/bin/llama-server".into(),
            backend: "/d/llama/usr/lib/x/libggml-cpu-x64.so".into(),
        })
    }

    #[test]
    fn every_command_is_as_the_servers_want_it() {
        let ports = Ports {
            http: 1,
            grpc: 2,
            metrics: 3,
        };
        let flow = |address: &str, rate| {
            Some(Flow {
                address: address.into(),
                rate,
            })
        };
        let flows = Flows {
            fraud_rest: flow("127.0.0.1:7", 20.0),
            chat: flow("http://127.0.0.1:8", 0.5),
            ..Flows::default()
        };
        let (with_llama, with_litserve) = (kit(llama()), kit(Choice::LitServe("there is no apt-get".into())));
        insta::assert_yaml_snapshot!("triton", triton(&with_llama, ports, Versions::Both));
        insta::assert_yaml_snapshot!("mlserver", mlserver(&with_llama, ports, Versions::First));
        insta::assert_yaml_snapshot!("llama-server", chat(&with_llama, 4, "chat-v1"));
        insta::assert_yaml_snapshot!("litserve", chat(&with_litserve, 4, "chat-v1"));
        insta::assert_yaml_snapshot!("client", client(&with_llama, &flows));
    }

    #[test]
    fn the_choice_of_chat_server_says_why() {
        assert_eq!(
            kit(llama()).chat.to_string(),
            "llama-server, from Debian's packages"
        );
        let litserve = kit(Choice::LitServe("there is no apt-get".into())).chat;
        assert_eq!(
            litserve.to_string(),
            "LitServe instead of llama-server: there is no apt-get"
        );
    }
}
