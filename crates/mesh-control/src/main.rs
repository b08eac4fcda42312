//! `mesh-control`: runs the control plane until SIGTERM or SIGINT.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use mesh_control::config::{Config, LogFormat, kubernetes};
use mesh_control::serve;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let on_kubernetes = std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "kubernetes");
    let result = if on_kubernetes {
        let config = kubernetes::Config::parse_from(std::env::args_os().skip(1));
        start_log(config.log_format);
        run(run_on_kubernetes(config))
    } else {
        let config = Config::parse();
        start_log(config.log_format);
        run(run_standalone(config))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(control_plane: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(control_plane)
}

async fn run_standalone(config: Config) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut running = serve::standalone::start(config).await?;
    tokio::select! {
        () = signals.told() => {}
        error = running.failed() => return Err(error),
    }
    tracing::info!("stops");
    running.stop().await;
    Ok(())
}

async fn run_on_kubernetes(config: kubernetes::Config) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut running = tokio::select! {
        running = serve::kubernetes::start(config) => running?,
        () = signals.told() => return Ok(()),
    };
    tokio::select! {
        () = signals.told() => {}
        error = running.failed() => return Err(error),
    }
    tracing::info!("stops");
    tokio::select! {
        () = running.stop() => {}
        () = signals.told() => tracing::warn!("told again: ending at once"),
    }
    Ok(())
}

/// What tells a process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("wait for SIGINT")?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogFormat::Json => log.json().init(),
    }
}
