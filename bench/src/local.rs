//! One current-thread runtime with local tasks, as load generator and backend run on.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

/// Runs a future, and the local tasks it spawns, on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    Ok(LocalSet::new().block_on(&runtime, future))
}

/// Tells hyper to spawn on the current [`LocalSet`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
