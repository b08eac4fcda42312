//! Documents in files, standalone: what is in force of them, and changes that are written back. One writer at a time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh_api::document::DocumentError;
use mesh_api::identity::TrustDomain;
use mesh_api::snapshot::Version;

use crate::compile::compile;
use crate::index::{Event, Index};
use crate::publish::Publisher;
use crate::source::directory::Directory;
use crate::store::history::History;
use crate::view::{Difference, View};

/// How soon a version that could not be published is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Documents in files, and what is in force of them.
#[derive(Debug)]
pub struct Files {
    writer: Mutex<Writer>,
    index: ArcSwap<Index>,
    publisher: Arc<Publisher>,
    root: PathBuf,
    epoch: Instant,
}

/// What only the writer touches. Held over file access: by threads that may block.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) directory: Directory,
    pub(crate) history: History,
    unpublished: bool,
}

/// The files of a control plane's state.
#[derive(Clone, Debug)]
pub struct StateFiles {
    /// Which versions were promised.
    pub version: PathBuf,
    /// Which splits were set.
    pub history: PathBuf,
}

impl Files {
    /// Reads the documents and publishes what is valid of them.
    ///
    /// # Errors
    /// When the state can't be read or written. Bad documents are no error: they are refused one by one.
    pub fn open(documents: &Path, trust_domain: TrustDomain, files: StateFiles) -> io::Result<Self> {
        let index = Index::new(trust_domain);
        let opened = Self {
            publisher: Arc::new(Publisher::open(files.version, View::empty(index.trust_domain()))?),
            writer: Mutex::new(Writer {
                directory: Directory::new(documents),
                history: History::open(files.history)?,
                unpublished: true,
            }),
            index: ArcSwap::from_pointee(index),
            root: documents.to_owned(),
            epoch: Instant::now(),
        };
        opened.look();
        if opened.publisher.current().version == Version(0) {
            return Err(io::Error::other("the first version could not be written"));
        }
        Ok(opened)
    }

    /// Looks at the documents and publishes what changed. When to look again, if not only when something changes.
    pub fn look(&self) -> Option<Duration> {
        let mut writer = self.lock();
        let look = writer.directory.look(self.now());
        if !look.events.is_empty() || writer.unpublished {
            let mut index = Index::clone(&self.index.load());
            index.apply(look.events);
            if let Err(error) = self.take(&mut writer, index) {
                tracing::error!(%error, "the configuration could not be published");
                return Some(RETRY);
            }
        }
        look.again
    }

    /// The documents in force.
    pub fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }

    /// What was published.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// The folder or file.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A time that only rises.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// What the index would be after these events, and the problems that they would bring.
    pub(crate) fn trial(&self, events: Vec<Event>) -> (Index, Vec<DocumentError>) {
        let before = self.index.load();
        let mut trial = Index::clone(&before);
        trial.apply(events);
        let known = |problem: &DocumentError| {
            before.problems().iter().any(|other| {
                (&other.object, &other.field, &other.reason)
                    == (&problem.object, &problem.field, &problem.reason)
            })
        };
        let new = trial
            .problems()
            .iter()
            .filter(|problem| !known(problem))
            .cloned()
            .collect();
        (trial, new)
    }

    /// Puts an index in force. The version that has it.
    pub(crate) fn take(&self, writer: &mut Writer, index: Index) -> io::Result<Version> {
        self.tell_problems(&index);
        let current = self.publisher.current();
        let (view, changed) = compile(&index, &current.view);
        self.index.store(Arc::new(index));
        writer.unpublished = true;
        let mut version = current.version;
        if changed || version == Version(0) {
            version = self.publisher.publish(view, Difference::Anything)?;
            tracing::info!(%version, "published");
        }
        writer.unpublished = false;
        Ok(version)
    }

    fn tell_problems(&self, next: &Index) {
        let before = self.index.load();
        for problem in next.problems() {
            if !before.problems().contains(problem) {
                tracing::warn!("refused: {problem}");
            }
        }
        for warning in next.warnings() {
            if !before.warnings().contains(warning) {
                tracing::info!("in force, but: {warning}");
            }
        }
    }
}
