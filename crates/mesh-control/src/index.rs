//! The documents in force: a pure state machine over files, fed with what a source saw.
//!
//! A bad document is refused alone. What was last good of its object stays in force, and as long as anything in a file
//! is refused, no object of that file is taken for deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_api::document::{Document, DocumentError, ObjectId, Source, parse_all};
use mesh_api::identity::TrustDomain;
use mesh_api::validate::{self, Problem};

/// What a source saw of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The file says this.
    Text(PathBuf, String),
    /// The file or folder is there and can't be read, for this reason.
    Unreadable(PathBuf, String),
    /// The file is gone.
    Gone(PathBuf),
}

/// A document and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What it says.
    pub document: Document,
    /// Its file, line and text.
    pub source: Source,
}

/// The documents in force, and what is wrong with the others.
#[derive(Clone, Debug)]
pub struct Index {
    trust_domain: TrustDomain,
    files: BTreeMap<PathBuf, File>,
    in_force: BTreeMap<ObjectId, Arc<Stored>>,
    problems: Vec<DocumentError>,
    warnings: Vec<DocumentError>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// What it says now, each valid by itself.
    fresh: Vec<Arc<Stored>>,
    /// What was last good of objects that it may still mean to have.
    kept: Vec<Arc<Stored>>,
    /// What of it is refused by itself.
    refused: Vec<DocumentError>,
}

impl Index {
    /// An index without documents. A MeshConfig of another trust domain will be refused.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            files: BTreeMap::new(),
            in_force: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes in what a source saw.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            match event {
                Event::Text(file, text) => self.read(file, &text),
                Event::Unreadable(file, reason) => self.unreadable(file, reason),
                Event::Gone(file) => {
                    self.files.remove(&file);
                }
            }
        }
        self.settle();
    }

    /// The trust domain of the mesh.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The documents in force, in the order of kind, namespace and name.
    pub fn documents(&self) -> impl Iterator<Item = &Stored> {
        self.in_force.values().map(AsRef::as_ref)
    }

    /// The document of an object that is in force.
    pub fn get(&self, id: &ObjectId) -> Option<&Stored> {
        self.in_force.get(id).map(AsRef::as_ref)
    }

    /// Why documents are refused, in the order of file and line.
    pub fn problems(&self) -> &[DocumentError] {
        &self.problems
    }

    /// What documents in force name that is not there.
    pub fn warnings(&self) -> &[DocumentError] {
        &self.warnings
    }

    /// The files that say something about the object, in force or refused.
    pub fn files_of(&self, id: &ObjectId) -> impl Iterator<Item = &Path> {
        self.files.iter().filter_map(move |(path, file)| {
            let says = file.fresh.iter().any(|stored| stored.document.id() == *id)
                || file.refused.iter().any(|error| error.object.as_ref() == Some(id));
            says.then_some(path.as_path())
        })
    }

    fn read(&mut self, path: PathBuf, text: &str) {
        let mut file = File::default();
        for result in parse_all(&path, text) {
            match result {
                Err(error) => file.refused.push(error),
                Ok((document, source)) => {
                    let problems = self.alone(&document);
                    if problems.is_empty() {
                        file.fresh.push(Arc::new(Stored { document, source }));
                        continue;
                    }
                    let errors = problems
                        .into_iter()
                        .map(|problem| source.error(Some(document.id()), &problem.field, problem.reason));
                    file.refused.extend(errors);
                }
            }
        }
        if !file.refused.is_empty() {
            file.kept = self.last_good(&path);
        }
        self.files.insert(path, file);
    }

    fn unreadable(&mut self, path: PathBuf, reason: String) {
        let error = DocumentError {
            file: path.clone(),
            line: 1,
            object: None,
            field: String::new(),
            reason,
        };
        let file = File {
            fresh: Vec::new(),
            kept: self.last_good(&path),
            refused: vec![error],
        };
        self.files.insert(path, file);
    }

    fn last_good(&self, path: &Path) -> Vec<Arc<Stored>> {
        self.in_force
            .values()
            .filter(|stored| stored.source.file == path)
            .cloned()
            .collect()
    }

    fn alone(&self, document: &Document) -> Vec<Problem> {
        let mut problems = validate::alone(document);
        if let Document::MeshConfig(object) = document
            && object
                .spec
                .trust_domain
                .as_ref()
                .is_some_and(|domain| *domain != self.trust_domain)
        {
            let reason = format!(
                "the control plane was started with trust domain {}: write it here too, or leave the field out",
                self.trust_domain
            );
            problems.push(Problem::new("spec.trustDomain", reason));
        }
        problems
    }

    /// Decides which documents are in force. Whatever is in force stays so beside newcomers that exclude it.
    fn settle(&mut self) {
        let mut problems: Vec<_> = self
            .files
            .values()
            .flat_map(|file| file.refused.clone())
            .collect();
        let mut chosen = self.one_of_each(&mut problems);
        let together = loop {
            let together =
                validate::together(self.seniority(&chosen).into_iter().map(|stored| &stored.document));
            if together.refused.is_empty() {
                break together;
            }
            for (id, problem) in together.refused {
                let Some(refused) = chosen.remove(&id) else {
                    continue;
                };
                problems.push(located(&refused, id.clone(), problem));
                match self.in_force.get(&id) {
                    Some(before) if before.document != refused.document => {
                        chosen.insert(id, before.clone());
                    }
                    _ => {}
                }
            }
        };
        self.warnings = together
            .missing
            .into_iter()
            .filter_map(|(id, problem)| Some(located(chosen.get(&id)?, id.clone(), problem)))
            .collect();
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.problems = problems;
        self.in_force = chosen;
    }

    /// One document of each object: what a file says now before what it said last, the file that has it in force
    /// before others, then in the order of file and line.
    fn one_of_each(&self, problems: &mut Vec<DocumentError>) -> BTreeMap<ObjectId, Arc<Stored>> {
        let mut candidates: Vec<&Arc<Stored>> = self.files.values().flat_map(|file| &file.fresh).collect();
        let elsewhere = |stored: &Stored| {
            self.in_force
                .get(&stored.document.id())
                .is_some_and(|there| there.source.file != stored.source.file)
        };
        candidates.sort_by_key(|stored| (elsewhere(stored), stored.source.file.clone(), stored.source.line));
        let mut chosen: BTreeMap<ObjectId, Arc<Stored>> = BTreeMap::new();
        for stored in candidates {
            let id = stored.document.id();
            match chosen.get(&id) {
                None => {
                    chosen.insert(id, stored.clone());
                }
                Some(other) => {
                    let reason = format!(
                        "it stands in {}:{} already: remove one of the two",
                        other.source.file.display(),
                        other.source.line
                    );
                    problems.push(located(stored, id, Problem::new("metadata.name", reason)));
                }
            }
        }
        for kept in self.files.values().flat_map(|file| &file.kept) {
            chosen.entry(kept.document.id()).or_insert_with(|| kept.clone());
        }
        chosen
    }

    /// What is in force unchanged, then what is in force and changes, then what is new.
    fn seniority<'a>(&self, chosen: &'a BTreeMap<ObjectId, Arc<Stored>>) -> Vec<&'a Arc<Stored>> {
        let mut ordered: Vec<_> = chosen.iter().collect();
        ordered.sort_by_key(|(id, stored)| {
            let class = match self.in_force.get(*id) {
                Some(before) if before.document == stored.document => 0,
                Some(_) => 1,
                None => 2,
            };
            (class, &stored.source.file, stored.source.line)
        });
        ordered.into_iter().map(|(_, stored)| stored).collect()
    }
}

fn located(stored: &Stored, id: ObjectId, problem: Problem) -> DocumentError {
    stored.source.error(Some(id), &problem.field, problem.reason)
}

#[cfg(test)]
mod tests;
