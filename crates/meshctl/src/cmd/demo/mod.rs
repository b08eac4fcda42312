//! `meshctl demo`: a mesh of real model servers on this machine, with traffic, and a canary that takes all of it.

mod mesh;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mesh_api::name::Name;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::demo::{self, Kit, State, Step};
use crate::error::{Failure, Outcome};
use crate::mesh_home::{Mesh, MeshHome};
use crate::output::{Style, Text, in_words};
use crate::up::{Options, Running, interrupted};

/// Flags of `meshctl demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// End after the canary has taken over, and fail when a share was off or a request failed
    #[arg(long)]
    once: bool,
    /// Where the servers are installed; default: $MESH_DEMO_HOME, or mesh/demo in the user's cache folder
    #[arg(long)]
    dir: Option<PathBuf>,
    /// With --once: keep the mesh's documents, logs and state
    #[arg(long, requires = "once")]
    keep: bool,
    /// The mesh's name
    #[arg(long, default_value = "demo")]
    name: Name,
}

impl Demo {
    /// Installs, starts, shows, and ends or leaves it running.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let kit = self.install(context).await?;
        let mesh = MeshHome::find()?.mesh(&self.name);
        let config = mesh.dir.join("documents");
        mesh.make()?;
        mesh::write(&kit, &config)?;
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move {
            if interrupted().await.is_ok() {
                asked.cancel();
            }
        });
        let options = Options {
            config,
            mesh: mesh.clone(),
            workers: 1,
            echo: false,
        };
        let mut running = match Running::start(context, options, &stop).await {
            Err(Failure::Silent) if stop.is_cancelled() => return Ok(()),
            other => other?,
        };
        let shown = tokio::select! {
            shown = self.show(context, &running, &mesh) => shown,
            () = stop.cancelled() => Err(Failure::new("the demo was interrupted")),
        };
        if !self.once && !stop.is_cancelled() {
            invite(context, &mesh);
            running.keep(&stop).await;
        }
        running.stop().await;
        if self.once && !self.keep {
            std::fs::remove_dir_all(&mesh.dir)
                .with_context(|| format!("cannot remove {}", mesh.dir.display()))?;
        }
        // Whoever ends a demo that was left running has seen what there was to see.
        if self.once { shown } else { Ok(()) }
    }

    async fn install(&self, context: &Context) -> Outcome<Kit> {
        let home = match &self.dir {
            Some(dir) => dir.clone(),
            None => demo::home()?,
        };
        let printer = context.printer;
        printer.say(format!("servers and clients are kept in {}", home.display()));
        let work = move || {
            let mut report = |Step { part, state }: Step| {
                let (style, word, text) = match state {
                    State::Working(what) => (Style::Faint, "…", what),
                    State::Kept => (Style::Good, "✓", "installed before".into()),
                    State::Done(what, took) => (Style::Good, "✓", format!("{what} ({})", in_words(took))),
                };
                printer.say(Text::styled(style, word).plain(format!(" {part}: {text}")));
            };
            demo::provision(&home, "", &mut report)
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }

    async fn show(&self, context: &Context, running: &Running, mesh: &Mesh) -> Outcome {
        let (ready, all) = running.count();
        if ready < all {
            let failure = Failure::new(format!("{} of {all} processes are not ready", all - ready));
            return Err(failure.hint(format!("their logs are in {}", mesh.dir.join("logs").display())));
        }
        let mut admin = running.admin().await?;
        let shown = show::canary(context, &mut admin, &mesh.log("ml.client")).await;
        if let Err(failure) = &shown
            && !self.once
        {
            context.printer.error(&failure.to_string());
        }
        // Whatever the shares were, the picture shows it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let picture = super::routes::draw(context, &mut admin, 10).await?;
        context.printer.data(&format!("\n{picture}\n"))?;
        shown
    }
}

fn invite(context: &Context, mesh: &Mesh) {
    let printer = context.printer;
    printer.say("the mesh runs on; in another terminal:");
    for (command, what) in [
        ("meshctl routes --watch", "who calls what, live"),
        (
            "meshctl split fraud stable=90 canary=10 --watch",
            "move the canary",
        ),
        ("meshctl split fraud undo", "and back"),
        (
            "meshctl explain --service fraud --method POST --path /v2/models/fraud/infer",
            "why",
        ),
        ("meshctl stat", "success, rate, latency"),
        ("meshctl check", "is all well?"),
    ] {
        printer.say(Text::styled(Style::Strong, format!("  {command:<78}")).and(Style::Faint, what));
    }
    printer.say(format!(
        "documents: {}; Ctrl-C ends the mesh",
        mesh.dir.join("documents").display()
    ));
}
