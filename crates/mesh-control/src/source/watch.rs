//! Looks at the documents whenever the system says that something changed, and every few seconds in case it does not.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::files::Files;

/// How often is looked without being told to.
const RESCAN: Duration = Duration::from_secs(3);

/// The thread that looks, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<Wake>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Wake {
    Look,
    Stop,
}

impl Watch {
    /// Starts to look.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(files: Arc<Files>) -> Result<Self> {
        let (wake, woken) = channel();
        let watcher = watcher(wake.clone(), files.root());
        if let Err(error) = &watcher {
            tracing::warn!(%error, "changes of documents are noticed every {RESCAN:?} only");
        }
        let thread = std::thread::Builder::new()
            .name("documents".into())
            .spawn(move || {
                let _watcher = watcher;
                run(&files, &woken);
            })
            .context("start the thread that watches the documents")?;
        Ok(Self {
            stop: wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.stop.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watcher(wake: Sender<Wake>, root: &Path) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is an event too, and our own reading must not wake us.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        let _ = wake.send(Wake::Look);
    })?;
    match root.parent() {
        // Editors replace the file, and what is watched is the one that was there: so the folder is.
        Some(parent) if root.is_file() => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        _ => watcher.watch(root, RecursiveMode::Recursive)?,
    }
    Ok(watcher)
}

fn run(files: &Files, woken: &Receiver<Wake>) {
    let mut wait = RESCAN;
    loop {
        match woken.recv_timeout(wait) {
            Ok(Wake::Look) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        // What came meanwhile is one look.
        for wake in woken.try_iter() {
            if matches!(wake, Wake::Stop) {
                return;
            }
        }
        wait = files.look().unwrap_or(RESCAN);
    }
}
