//! `meshctl down`: ends a mesh that `meshctl up --detach` left running.

use std::time::Duration;

use super::Context;
use crate::error::{Failure, Outcome};
use crate::up::Lock;

/// How long a mesh may take to end: its servers, then its proxies' streams.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the `up` that runs the mesh to end, and waits until it has.
pub(crate) async fn run(context: &Context) -> Outcome {
    let mesh = context.mesh()?;
    let Some(runner) = Lock::holder(&mesh) else {
        context.printer.say(format!("mesh {} is not running", mesh.name));
        return Ok(());
    };
    rustix::process::kill_process(runner, rustix::process::Signal::TERM)?;
    let ended = tokio::time::timeout(PATIENCE, async {
        while Lock::holder(&mesh).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    ended.await.map_err(|_| {
        let pid = runner.as_raw_nonzero();
        Failure::new(format!("mesh {} still runs as process {pid}", mesh.name))
            .hint(format!("`kill -9 {pid}` ends it at once, its servers too"))
    })?;
    context.printer.say(format!("mesh {} has ended", mesh.name));
    Ok(())
}
