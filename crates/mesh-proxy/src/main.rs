//! The `mesh-proxy` binary: flags, log, signals.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use mesh_proxy::app::Proxy;
use mesh_proxy::config::{Config, LogFormat};
use mesh_proxy::drain::Drain;
use mesh_proxy::intercept::init::Init;
use mesh_proxy::probe::outlast::Outlast;
use mesh_proxy::probe::ready::Ready;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator asks for its first memory before `main`, so that it has to be told even earlier.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = commit_on_demand;

/// Memory is taken from the operating system when it is used. Ahead, which is mimalloc's own way, an idle proxy holds
/// twice as much, and requests are no faster (docs/performance.md).
extern "C" fn commit_on_demand() {
    // SAFETY: setting an option writes a static of the allocator; no other thread is there yet.
    unsafe { libmimalloc_sys::mi_option_set_enabled_default(ARENA_EAGER_COMMIT, false) };
}

/// `mi_option_arena_eager_commit` (mimalloc.h); MIMALLOC_ARENA_EAGER_COMMIT in the environment goes first.
const ARENA_EAGER_COMMIT: libmimalloc_sys::mi_option_t = 4;

fn main() -> ExitCode {
    let word = std::env::args_os().nth(1);
    let rest = || std::env::args_os().skip(1);
    let result = match word.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("init") => Init::parse_from(rest()).run(&mut std::io::stdout()),
        Some("ready") => Ready::parse_from(rest()).run(),
        Some("outlast") => Outlast::parse_from(rest()).run(),
        _ => {
            small_pages();
            mesh_proxy::limits::raise_descriptors();
            let config = Config::parse();
            start_log(config.log_format);
            run(&config)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Huge pages triple what an idle proxy holds and save no time that can be measured (docs/performance.md). A kernel
/// that can't do without them costs memory, nothing else.
fn small_pages() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// The control side runs on this thread; requests run on the workers' own.
fn run(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let proxy = Proxy::start(config, Box::new(std::io::stdout())).await?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let drain: Drain = proxy.drain().clone();
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first {
                    drain.start();
                } else {
                    tracing::warn!("told again: ending at once");
                    std::process::exit(1);
                }
            }
        });
        proxy.run().await;
        Ok(())
    })
}

/// The proxy's own log, on standard error; MESH_LOG says how much (`info`, `mesh_proxy=debug` …).
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("MESH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
