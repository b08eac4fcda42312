//! The last configuration, kept in the state directory so that a proxy that starts without the control plane serves.
//!
//! The file is a full Delta of the wire contract behind a mark and a checksum; what does not match is as good as none.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::snapshot::Snapshot;
use mesh_api::wire::{self, config};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::state::{StateDir, StateError};

const FILE: &str = "config.bin";
const MARK: &[u8; 8] = b"MESHCFG1";
const HEAD: usize = MARK.len() + 32;
/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a saved configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file can't be read, or others may use it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is not what was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// What was written can't be read by this version of the software.
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    /// What was written does not hold together.
    #[error(transparent)]
    Delta(#[from] mesh_api::snapshot::DeltaError),
}

/// Reads the configuration saved last; none: there is none.
///
/// # Errors
/// When there is one, but it can't be used.
pub fn load(state: &StateDir) -> Result<Option<Snapshot>, SavedError> {
    let Some(bytes) = state.read(FILE)? else {
        return Ok(None);
    };
    decode(&bytes).map(Some)
}

/// Saves a configuration in place of the one before.
///
/// # Errors
/// When it can't be written; the one before is still there then.
pub fn save(state: &StateDir, snapshot: &Snapshot) -> Result<(), StateError> {
    state.write(FILE, &encode(snapshot))
}

/// Saves each configuration that comes, at most one a second and the last one always, until the sender is gone.
pub async fn keep(state: StateDir, mut latest: watch::Receiver<Option<Arc<Snapshot>>>) {
    loop {
        let open = latest.changed().await.is_ok();
        let snapshot = latest.borrow_and_update().clone();
        if let Some(snapshot) = snapshot.filter(|_| open) {
            let to = state.clone();
            // Syncing a disk may take long: not on the thread that renews certificates.
            let saved = tokio::task::spawn_blocking(move || save(&to, &snapshot)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!("the configuration could not be saved: {error}");
            }
        }
        if !open {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = gone(&latest) => {}
        }
    }
}

/// Until the sender is gone.
async fn gone(latest: &watch::Receiver<Option<Arc<Snapshot>>>) {
    let mut other = latest.clone();
    while other.changed().await.is_ok() {}
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let body = config::Delta::from(&snapshot.since(None)).encode_to_vec();
    [MARK.as_slice(), &Sha256::digest(&body), &body].concat()
}

fn decode(bytes: &[u8]) -> Result<Snapshot, SavedError> {
    let (head, body) = bytes
        .split_at_checked(HEAD)
        .ok_or(SavedError::Damaged("it ends early"))?;
    let (mark, sum) = head.split_at(MARK.len());
    if mark != MARK {
        return Err(SavedError::Damaged("it does not begin with its mark"));
    }
    if sum != Sha256::digest(body).as_slice() {
        return Err(SavedError::Damaged("its checksum does not match"));
    }
    let message = config::Delta::decode(body).map_err(|_| SavedError::Damaged("it is no configuration"))?;
    Ok(Snapshot::after(None, wire::delta(message)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::snapshot;

    #[test]
    fn what_is_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("s")).unwrap();
        assert!(load(&state).unwrap().is_none());
        for version in [3, 4] {
            save(&state, &snapshot(version)).unwrap();
            assert_eq!(load(&state).unwrap(), Some(snapshot(version)));
        }
    }

    #[test]
    fn a_damaged_file_is_refused_whatever_the_damage() {
        let good = encode(&snapshot(7));
        assert!(decode(&good).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(decode(&bad).is_err(), "byte {at} turned");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
        assert!(decode(&[good, vec![0]].concat()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_changes_the_last_is_saved_also_at_the_end() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDir::open(&root.path().join("s")).unwrap();
        let (sender, receiver) = watch::channel(None);
        let task = tokio::spawn(keep(state.clone(), receiver));
        for version in 1..=100 {
            sender.send_replace(Some(Arc::new(snapshot(version))));
            tokio::task::yield_now().await;
        }
        drop(sender);
        task.await.unwrap();
        assert_eq!(load(&state).unwrap(), Some(snapshot(100)));
    }
}
