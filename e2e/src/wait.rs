//! Waiting for something to become true, asked again and again, or for something to be done: never for ever.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What takes longer than this hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is there.
///
/// # Errors
/// When a question fails, or when there is no answer in time; `what` says what was waited for.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if started.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} for {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is done, if it is done in time.
///
/// # Errors
/// When it is not; `what` says what was waited for.
pub async fn within<F: Future>(what: &str, done: F) -> Result<F::Output> {
    tokio::select! {
        // What nobody was woken up for is not in time, although it is there when it is looked at.
        biased;
        () = tokio::time::sleep(PATIENCE) => bail!("waited {PATIENCE:?} for {what}"),
        done = done => Ok(done),
    }
}
