//! Objects of Kubernetes: what follows from them is published as they change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::catalog::documents::Settings;
use crate::catalog::{Catalog, Event};
use crate::publish::Publisher;

/// The objects of a Kubernetes cluster that matter to the mesh.
#[derive(Debug)]
pub struct Objects {
    settings: Settings,
    catalog: Mutex<Catalog>,
    publisher: Arc<Publisher>,
    /// How often something was taken in.
    changes: watch::Sender<u64>,
}

impl Objects {
    /// None yet; nothing is published.
    pub fn new(settings: Settings) -> Self {
        let catalog = Catalog::new(settings.clone());
        Self {
            publisher: Arc::new(Publisher::by_clock(catalog.view().clone())),
            catalog: Mutex::new(catalog),
            changes: watch::Sender::new(0),
            settings,
        }
    }

    /// What holds before any object is read.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was published.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Takes in what watches saw, and publishes what changes by it; the first time whatever follows from it, so that it must
    /// be all there is.
    ///
    /// Nothing waits for more to come: while proxies are told of a change, the next ones gather by themselves.
    pub fn apply(&self, events: impl IntoIterator<Item = Event>) {
        let mut catalog = self.lock();
        let changed = catalog.apply(events);
        self.changes.send_modify(|changes| *changes += 1);
        if !changed && self.publisher.version().0 != 0 {
            return;
        }
        let difference = catalog.take_difference();
        match self.publisher.publish(catalog.view().clone(), difference) {
            Ok(version) => tracing::debug!(%version, "published"),
            Err(error) => tracing::error!(%error, "the configuration could not be published"),
        }
    }

    /// Tells when something was taken in, whether it changes what proxies do or not.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The catalog, for as long as it takes to look something up.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
