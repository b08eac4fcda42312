//! Changes of documents that come over the Admin service: they are made in the files, where people see them.
//!
//! A change is tried on a copy of the index first; when it brings a problem, nothing is written.

pub mod edit;
pub mod history;
pub mod splice;
pub mod split;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mesh_api::document::{Document, DocumentError, ObjectId, Source, parse_all, parse_one};
use mesh_api::snapshot::Version;
use mesh_api::validate;

use crate::file;
use crate::files::{Files, Writer};
use crate::index::Event;
use crate::source::directory;

/// Why a change is not made.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What it is about is not there.
    #[error("{0}")]
    Unknown(String),
    /// It does not say what to do, or what it says is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The documents would not be valid after it.
    #[error("{}", lines(.0))]
    Refused(Vec<DocumentError>),
    /// A file can't be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was written, but not published.
    #[error("the change is written, but could not be published: {0}")]
    Publish(io::Error),
}

fn lines(problems: &[DocumentError]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Created,
    /// It says something else now.
    Configured,
    /// It says what it said.
    Unchanged,
}

impl Action {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What an Apply did.
#[derive(Debug)]
pub struct Applied {
    /// Each object, in the order of the text.
    pub objects: Vec<(ObjectId, Action)>,
    /// The version that has the change.
    pub version: Version,
}

/// Puts the documents of a text in force, each in the file that has it already, or in a new one.
///
/// # Errors
/// When any of them is not valid, alone or beside the others; nothing is changed then.
pub fn apply(files: &Files, name: &str, text: &str, dry_run: bool) -> Result<Applied, StoreError> {
    let documents = read(name, text)?;
    let mut writer = files.lock();
    let mut change = Change::new(files, &mut writer);
    let mut objects = Vec::new();
    for (document, source) in &documents {
        objects.push((document.id(), change.put(&document.id(), &source.text)?));
    }
    let version = change.commit(dry_run).map_err(|error| match error {
        StoreError::Refused(problems) => StoreError::Refused(as_given(problems, &documents)),
        other => other,
    })?;
    Ok(Applied { objects, version })
}

/// Takes an object's document out of its file.
///
/// # Errors
/// When there is no such object, or when its file can't be written.
pub fn delete(files: &Files, id: &ObjectId) -> Result<Version, StoreError> {
    let mut writer = files.lock();
    let mut change = Change::new(files, &mut writer);
    change.remove(id)?;
    change.commit(false)
}

/// The documents of a text that is to be applied, each valid by itself.
fn read(name: &str, text: &str) -> Result<Vec<(Document, Source)>, StoreError> {
    let name = if name.is_empty() { "-" } else { name };
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for result in parse_all(Path::new(name), text) {
        match result {
            Err(error) => problems.push(error),
            Ok((document, source)) => {
                let id = document.id();
                for problem in validate::alone(&document) {
                    problems.push(source.error(Some(id.clone()), &problem.field, problem.reason));
                }
                if !seen.insert(id.clone()) {
                    let reason = "the text has this object twice".into();
                    problems.push(source.error(Some(id), "metadata.name", reason));
                }
                documents.push((document, source));
            }
        }
    }
    match (problems.is_empty(), documents.is_empty()) {
        (false, _) => Err(StoreError::Refused(problems)),
        (true, true) => Err(StoreError::Invalid(format!("{name} has no document"))),
        (true, false) => Ok(documents),
    }
}

/// Problems of objects in a text, with the places of that text instead of the files they would have gone to.
fn as_given(problems: Vec<DocumentError>, documents: &[(Document, Source)]) -> Vec<DocumentError> {
    let mut problems = problems;
    for problem in &mut problems {
        let given = documents
            .iter()
            .find(|(document, _)| Some(document.id()) == problem.object);
        if let Some((_, source)) = given {
            (problem.file, problem.line) = (source.file.clone(), source.line);
        }
    }
    problems
}

/// Texts of files that are about to change.
pub(crate) struct Change<'a> {
    files: &'a Files,
    writer: &'a mut Writer,
    texts: BTreeMap<PathBuf, Text>,
}

struct Text {
    before: Option<String>,
    after: Option<String>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(files: &'a Files, writer: &'a mut Writer) -> Self {
        Self {
            files,
            writer,
            texts: BTreeMap::new(),
        }
    }

    /// The document of an object as its file has it now, with the file.
    pub(crate) fn find(&mut self, id: &ObjectId) -> Result<Option<Source>, StoreError> {
        let index = self.files.index();
        let in_force = index.get(id).map(|stored| stored.source.file.clone());
        let files = in_force.into_iter().chain(index.files_of(id).map(Path::to_owned));
        let files: Vec<PathBuf> = files.collect();
        for path in files {
            let text = self.text(&path)?.unwrap_or_default();
            if let Some(source) = edit::find(&path, text, id) {
                return Ok(Some(source));
            }
        }
        Ok(None)
    }

    fn put(&mut self, id: &ObjectId, document: &str) -> Result<Action, StoreError> {
        let Some(source) = self.find(id)? else {
            let path = self.file_for(id);
            let before = self.text(&path)?.map(str::to_owned);
            self.set(&path, Some(edit::append(before.as_deref(), document)));
            return Ok(Action::Created);
        };
        if source.text.trim() == document.trim() && self.files.index().get(id).is_some() {
            return Ok(Action::Unchanged);
        }
        self.substitute(&source, &edit::rewritten(&source, document))?;
        Ok(Action::Configured)
    }

    /// Puts exactly this text in the place of a document's.
    pub(crate) fn substitute(&mut self, source: &Source, document: &str) -> Result<(), StoreError> {
        let text = self.text(&source.file)?.unwrap_or_default();
        let next = edit::substitute(text, source, document);
        self.set(&source.file, Some(next));
        Ok(())
    }

    fn remove(&mut self, id: &ObjectId) -> Result<(), StoreError> {
        let Some(source) = self.find(id)? else {
            return Err(StoreError::Unknown(format!("there is no {id}")));
        };
        let text = self.text(&source.file)?.unwrap_or_default();
        let rest = edit::remove(text, &source);
        // A file without documents and comments is not worth keeping, unless it is all there is.
        let rest = (!rest.trim().is_empty() || self.writer.directory.is_file()).then_some(rest);
        self.set(&source.file, rest);
        Ok(())
    }

    /// Where a new object goes.
    fn file_for(&self, id: &ObjectId) -> PathBuf {
        let root = self.writer.directory.root();
        if self.writer.directory.is_file() {
            return root.to_owned();
        }
        let kind = id.kind.as_str().to_ascii_lowercase();
        root.join(format!("{kind}-{}-{}.yaml", id.name.namespace, id.name.name))
    }

    fn text(&mut self, path: &Path) -> Result<Option<&str>, StoreError> {
        if !self.texts.contains_key(path) {
            let before = match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                _ => Some(directory::read(path).map_err(|reason| StoreError::File {
                    path: path.to_owned(),
                    reason,
                })?),
            };
            let text = Text {
                after: before.clone(),
                before,
            };
            self.texts.insert(path.to_owned(), text);
        }
        Ok(self.texts.get(path).and_then(|text| text.after.as_deref()))
    }

    fn set(&mut self, path: &Path, after: Option<String>) {
        if let Some(text) = self.texts.get_mut(path) {
            text.after = after;
        }
    }

    /// Tries the change, writes it, and publishes it. The version that has it.
    pub(crate) fn commit(self, dry_run: bool) -> Result<Version, StoreError> {
        // What was only read is taken in too: it may be newer than what the source saw.
        let events = self.texts.iter().map(|(path, text)| match &text.after {
            Some(after) => Event::Text(path.clone(), after.clone()),
            None => Event::Gone(path.clone()),
        });
        let (index, problems) = self.files.trial(events.collect());
        if !problems.is_empty() {
            return Err(StoreError::Refused(problems));
        }
        if dry_run {
            return Ok(self.files.publisher().current().version);
        }
        for (path, text) in &self.texts {
            if text.before == text.after {
                continue;
            }
            let written = match &text.after {
                Some(after) => file::replace(path, after.as_bytes(), file::PUBLIC),
                None => fs::remove_file(path).and_then(|()| file::sync_folder(path)),
            };
            written.map_err(|error| StoreError::File {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            self.writer.directory.wrote(path, self.files.now());
        }
        self.files.take(self.writer, index).map_err(StoreError::Publish)
    }
}

/// The document of a source that was found in a file.
pub(crate) fn document_of(source: &Source) -> Result<Document, StoreError> {
    parse_one(source).map_err(|error| StoreError::Refused(vec![error]))
}
