//! The control plane's state, whatever its documents come from: what was published, who follows, and what people are told
//! about documents.

use std::io;
use std::path::Path;
use std::sync::Arc;

use mesh_api::document::{Document, DocumentError};
use mesh_api::identity::TrustDomain;
use mesh_api::snapshot::Version;
use mesh_api::wire::admin::{Problem, StoredDocument};

use crate::catalog::Remark;
use crate::catalog::documents::Settings;
use crate::files::{Files, StateFiles};
use crate::objects::Objects;
use crate::proxies::Proxies;
use crate::publish::Publisher;

/// What was published, who follows, and where it comes from.
#[derive(Debug)]
pub struct Plane {
    publisher: Arc<Publisher>,
    proxies: Arc<Proxies>,
    source: Source,
    started: i64,
}

/// What documents come from.
#[derive(Debug)]
enum Source {
    Files(Arc<Files>),
    Kubernetes(Arc<Objects>),
}

impl Plane {
    /// Standalone: reads the documents of a folder or a file, and publishes what is valid of them.
    ///
    /// # Errors
    /// When the state can't be read or written. Bad documents are no error: they are refused one by one.
    pub fn open(documents: &Path, trust_domain: TrustDomain, state: StateFiles) -> io::Result<Self> {
        let files = Files::open(documents, trust_domain, state)?;
        Ok(Self {
            publisher: Arc::clone(files.publisher()),
            proxies: Arc::default(),
            source: Source::Files(Arc::new(files)),
            started: crate::clock::unix_now(),
        })
    }

    /// On Kubernetes. It [is not ready](Self::is_ready) until whoever reads the objects has published what they say.
    pub fn kubernetes(settings: Settings) -> Self {
        let objects = Objects::new(settings);
        Self {
            publisher: Arc::clone(objects.publisher()),
            proxies: Arc::default(),
            source: Source::Kubernetes(Arc::new(objects)),
            started: crate::clock::unix_now(),
        }
    }

    /// Whether a configuration is published, so that proxies may follow.
    pub fn is_ready(&self) -> bool {
        self.publisher.version() != Version(0)
    }

    /// The documents in files; none: they are objects of Kubernetes.
    pub fn files(&self) -> Option<&Arc<Files>> {
        match &self.source {
            Source::Files(files) => Some(files),
            Source::Kubernetes(_) => None,
        }
    }

    /// The objects of Kubernetes; none: there are files instead.
    pub fn objects(&self) -> Option<&Arc<Objects>> {
        match &self.source {
            Source::Kubernetes(objects) => Some(objects),
            Source::Files(_) => None,
        }
    }

    /// What was published.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.publisher
    }

    /// Who follows.
    pub fn proxies(&self) -> &Arc<Proxies> {
        &self.proxies
    }

    /// When this control plane started, in seconds since 1970.
    pub fn started(&self) -> i64 {
        self.started
    }

    /// What the documents come from, in words.
    pub fn source(&self) -> String {
        match &self.source {
            Source::Files(files) => files.root().display().to_string(),
            Source::Kubernetes(_) => "Kubernetes".into(),
        }
    }

    /// The documents in force, in the order of kind, namespace and name.
    pub fn documents(&self) -> Vec<StoredDocument> {
        match &self.source {
            Source::Files(files) => {
                let index = files.index();
                let stored = index.documents().map(|stored| StoredDocument {
                    yaml: stored.source.text.trim_start_matches(['\r', '\n']).to_owned(),
                    file: stored.source.file.display().to_string(),
                    line: line(stored.source.line),
                    ..named(&stored.document)
                });
                stored.collect()
            }
            Source::Kubernetes(objects) => {
                let documents: Vec<_> = objects.lock().documents().cloned().collect();
                let text = |document: &Document| serde_saphyr::to_string(document).unwrap_or_default();
                let stored = documents.iter().map(|document| StoredDocument {
                    yaml: text(document),
                    ..named(document)
                });
                stored.collect()
            }
        }
    }

    /// Why documents are refused, and what those in force name that is not there.
    pub fn problems(&self) -> Vec<Problem> {
        let files = match &self.source {
            Source::Kubernetes(objects) => return objects.lock().remarks().into_iter().map(remark).collect(),
            Source::Files(files) => files,
        };
        let index = files.index();
        let published = self.publisher.current();
        let refused = index.problems().iter().map(|it| problem(it, false));
        let missing = index.warnings().iter().map(|it| problem(it, true));
        let idle = published.view.warnings().iter().map(|(id, it)| {
            let source = index.get(id).map(|stored| &stored.source);
            Problem {
                file: source.map_or_else(String::new, |source| source.file.display().to_string()),
                line: source.map_or(0, |source| line(source.line)),
                object: id.to_string(),
                field: it.field.clone(),
                reason: it.reason.clone(),
                warning: true,
            }
        });
        refused.chain(missing).chain(idle).collect()
    }
}

/// A document by its names, without its text.
fn named(document: &Document) -> StoredDocument {
    let id = document.id();
    StoredDocument {
        kind: id.kind.to_string(),
        namespace: id.name.namespace.to_string(),
        name: id.name.name.to_string(),
        ..StoredDocument::default()
    }
}

/// A document's problem, as the Admin service says it.
pub(crate) fn problem(error: &DocumentError, warning: bool) -> Problem {
    Problem {
        file: error.file.display().to_string(),
        line: line(error.line),
        object: error.object.as_ref().map(ToString::to_string).unwrap_or_default(),
        field: error.field.clone(),
        reason: error.reason.clone(),
        warning,
    }
}

fn remark(remark: Remark) -> Problem {
    let Remark {
        object,
        field,
        reason,
        warning,
    } = remark;
    Problem {
        object,
        field,
        reason,
        warning,
        ..Problem::default()
    }
}

fn line(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}
