//! `meshctl up`: a mesh from a folder of documents, on this machine.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mesh_api::name::Name;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::error::{Failure, Outcome};
use crate::mesh_home::{Mesh, MeshHome, name_after};
use crate::up::{Lock, Options, Running, interrupted, tail};

/// How long a detached mesh may take to be up: its slowest server's readiness, mostly.
const DETACHED: Duration = Duration::from_secs(300);

/// Flags of `meshctl up`.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// The documents: a folder of .yaml and .yml files, or one file
    dir: PathBuf,
    /// The mesh's name; default: the folder's
    #[arg(long)]
    name: Option<Name>,
    /// Leave it running in the background once it is up; `meshctl down` ends it
    #[arg(long)]
    detach: bool,
    /// Write logs to files alone, and not to standard output
    #[arg(short, long)]
    quiet: bool,
    /// How many threads each proxy has
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    workers: u16,
}

impl Up {
    /// Starts the mesh, and keeps it until Ctrl-C.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let config = std::fs::canonicalize(&self.dir)
            .with_context(|| format!("cannot read {}", self.dir.display()))?;
        let name = match (&self.name, &context.globals.mesh) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => name_after(&config.with_extension("")).ok_or_else(|| {
                Failure::new(format!("no mesh can be named after {}", config.display()))
                    .hint("give it a name with --name")
            })?,
        };
        let mesh = MeshHome::find()?.mesh(&name);
        if self.detach {
            return self.detached(context, &mesh).await;
        }
        let options = Options {
            config,
            mesh: mesh.clone(),
            workers: usize::from(self.workers),
            echo: !self.quiet,
        };
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move {
            // Without signals, only the parent's death ends it.
            if interrupted().await.is_ok() {
                asked.cancel();
            }
        });
        let ready = mesh.dir.join("up.ready");
        let _ = std::fs::remove_file(&ready);
        let mut running = match Running::start(context, options, &stop).await {
            Err(Failure::Silent) if stop.is_cancelled() => return Ok(()),
            other => other?,
        };
        std::fs::write(&ready, "").with_context(|| format!("cannot write {}", ready.display()))?;
        context.printer.hint(
            "in another terminal: `meshctl routes`, `meshctl check`, `meshctl stat`; Ctrl-C ends the mesh",
        );
        running.keep(&stop).await;
        let _ = std::fs::remove_file(&ready);
        running.stop().await;
        context.printer.say(format!("mesh {} has ended", mesh.name));
        Ok(())
    }

    /// Starts another meshctl that runs the mesh, and waits until it is up.
    async fn detached(&self, context: &Context, mesh: &Mesh) -> Outcome {
        mesh.make()?;
        // Taken and given back: whether the mesh is up already is told here, and not in a log.
        drop(Lock::take(mesh)?);
        let path = mesh.log("up");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        let log = open.with_context(|| format!("cannot write {}", path.display()))?;
        let ready = mesh.dir.join("up.ready");
        let _ = std::fs::remove_file(&ready);
        let meshctl = std::env::current_exe().context("cannot find meshctl itself")?;
        let mut child = Command::new(meshctl)
            .arg("up")
            .arg(&self.dir)
            .args([
                "--quiet",
                "--name",
                mesh.name.as_str(),
                "--workers",
                &self.workers.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start meshctl")?;
        let up = tokio::time::timeout(DETACHED, async {
            loop {
                if ready.exists() {
                    return Ok(());
                }
                if let Ok(Some(status)) = child.try_wait() {
                    let last = tail(&path, 20).join("\n");
                    return Err(Failure::new(format!("mesh {} {status}:\n{last}", mesh.name)));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        up.await.map_err(|_| {
            Failure::new(format!(
                "mesh {} is not up after {} s",
                mesh.name,
                DETACHED.as_secs()
            ))
            .hint(format!("see {}", path.display()))
        })??;
        for line in tail(&path, 40) {
            context.printer.say(line);
        }
        context.printer.hint("`meshctl down` ends the mesh");
        Ok(())
    }
}
