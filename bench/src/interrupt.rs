//! What is left to do when the bench is told to end in the middle of a run. The processes it started are ended by the
//! kernel (see [`crate::process`]); its scratch folder, which has keys in it, is removed here.

use std::{fs, io, path::PathBuf, process::exit, sync::mpsc, thread};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::local::block_on;

/// From now on SIGINT and SIGTERM remove `folder` and end the bench with 130.
pub(crate) fn remove_on_end(folder: PathBuf) -> Result<()> {
    let (listening, when) = mpsc::channel();
    thread::spawn(move || {
        let ended = block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            // It fails only when the bench is already ending.
            let _ = listening.send(());
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            Ok::<_, io::Error>(())
        });
        if matches!(ended, Ok(Ok(()))) {
            let _ = fs::remove_dir_all(&folder);
            exit(130);
        }
    });
    when.recv().context("cannot listen for signals")
}
