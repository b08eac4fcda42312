//! Waiting for something to become true: asked again and again, and never for ever.

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
