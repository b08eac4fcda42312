//! From YAML text to documents, one by one: a bad document refuses itself alone, with its line, object, field and reason.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{API_VERSION, Document, Kind, ObjectId};
use crate::name::{Name, ObjectName};

/// Where a document stands: its file, the line it begins at, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, or `-` for standard input.
    pub file: PathBuf,
    /// The line its text begins at, from 1.
    pub line: usize,
    /// The byte in the file its text begins at, from 0.
    pub offset: usize,
    /// Its text, comments included, without the `---` before and after it.
    pub text: String,
}

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DocumentError {
    /// The file, or `-` for standard input.
    pub file: PathBuf,
    /// The line the trouble is at, or else the document begins at, from 1.
    pub line: usize,
    /// Which object, as far as the document says.
    pub object: Option<ObjectId>,
    /// Which field, such as `spec.rules[0].split`; empty when the document as a whole is wrong.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub reason: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DocumentError {}

/// Reads all documents of a file's text: each is either a document with its source, or the reason why not.
pub fn parse_all(file: &Path, text: &str) -> Vec<Result<(Document, Source), DocumentError>> {
    sources(file, text)
        .into_iter()
        .map(|source| parse_one(&source).map(|document| (document, source)))
        .collect()
}

/// Reads one document.
///
/// # Errors
/// When the text is not YAML, or not a document of this API.
pub fn parse_one(source: &Source) -> Result<Document, DocumentError> {
    let head: Head = read(source, None)?;
    let object = head.object_id();
    if head.api_version.as_deref() != Some(API_VERSION) {
        let reason = match head.api_version {
            Some(other) => format!("{other:?} is not an API of this mesh: write {API_VERSION}"),
            None => format!("missing: write {API_VERSION}"),
        };
        return Err(source.error(object, "apiVersion", reason));
    }
    let kind = match head.kind.as_deref().map(|kind| (kind, kind.parse::<Kind>())) {
        Some((text, Ok(kind))) if text == kind.as_str() => kind,
        Some((text, Ok(kind))) => {
            return Err(source.error(object, "kind", format!("{text:?} is written {kind}")));
        }
        Some((_, Err(unknown))) => return Err(source.error(object, "kind", unknown.to_string())),
        None => {
            return Err(source.error(
                object,
                "kind",
                "missing: write one of MeshConfig, Service, Workload, ModelRoute, TrafficPolicy".into(),
            ));
        }
    };
    Ok(match kind {
        Kind::MeshConfig => Document::MeshConfig(read(source, object)?),
        Kind::Service => Document::Service(read(source, object)?),
        Kind::Workload => Document::Workload(Box::new(read(source, object)?)),
        Kind::ModelRoute => Document::ModelRoute(read(source, object)?),
        Kind::TrafficPolicy => Document::TrafficPolicy(read(source, object)?),
    })
}

/// As much of a document as tells what it is, read leniently so that the error about the rest can name it.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMetadata>,
}

#[derive(Deserialize)]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
}

impl Head {
    fn object_id(&self) -> Option<ObjectId> {
        let metadata = self.metadata.as_ref()?;
        let namespace = match &metadata.namespace {
            Some(namespace) => namespace.parse().ok()?,
            None => Name::default_namespace(),
        };
        Some(ObjectId {
            kind: self.kind.as_ref()?.parse().ok()?,
            name: ObjectName::new(namespace, metadata.name.as_ref()?.parse().ok()?),
        })
    }
}

impl Source {
    /// An error about a field of this document.
    pub fn error(&self, object: Option<ObjectId>, field: &str, reason: String) -> DocumentError {
        DocumentError {
            file: self.file.clone(),
            line: self.line,
            object,
            field: field.into(),
            reason,
        }
    }
}

fn read<T: DeserializeOwned>(source: &Source, object: Option<ObjectId>) -> Result<T, DocumentError> {
    let mut field = String::new();
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(&source.text, options, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            field = error.path().to_string();
            error.into_inner()
        })
    })
    .map_err(|error| {
        let line = error
            .location()
            .map_or(0, |at| usize::try_from(at.line()).unwrap_or(1).saturating_sub(1));
        DocumentError {
            file: source.file.clone(),
            line: source.line + line,
            object,
            field: if field == "." { String::new() } else { field },
            reason: one_line(&error.to_string()),
        }
    })
}

/// The first line of a message, bounded, so that nobody's megabyte of YAML ends in a log.
fn one_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect()
}

/// The texts of a file's documents, good or bad: the file is split at its `---` lines, and what says nothing is left
/// out. A `---` at the start of a line ends a document wherever it stands, block scalars included (YAML 1.2.2,
/// §9.1.2), so lines are all that needs to be read.
pub fn sources(file: &Path, text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    let mut push = |from: usize, to: usize, line: usize| {
        found.push(Source {
            file: file.to_owned(),
            line,
            offset: from,
            text: text[from..to].to_owned(),
        });
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.trim_end();
        if marker == "---" || marker.starts_with("--- ") {
            push(start, at, start_line);
            // What follows the marker on its line belongs to the new document.
            (start, start_line) = (at + 3, number + 1);
        }
        at += line.len();
    }
    push(start, text.len(), start_line);
    found.retain(|source| !is_blank(&source.text));
    found
}

fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "..."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "\
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud                      # traffic sent to this service
  rules:
  - matches: [{model: fraud, operation: [infer]}]
    split:
      by: {header: x-user-id}
      backends:
      - {name: stable, service: fraud-v1, weight: 95}
      - {name: canary, service: fraud-v2, weight: 5, model: {version: \"2\"}}
    timeouts: {firstByte: 2s, idle: 30s}
";

    fn parse(text: &str) -> Vec<Result<Document, String>> {
        parse_all(Path::new("mesh.yaml"), text)
            .into_iter()
            .map(|result| {
                result
                    .map(|(document, _)| document)
                    .map_err(|error| error.to_string())
            })
            .collect()
    }

    #[test]
    fn the_route_of_the_design_is_read() {
        let documents = parse(ROUTE);
        let [Ok(Document::ModelRoute(route))] = documents.as_slice() else {
            panic!("{documents:?}")
        };
        assert_eq!(route.id().to_string(), "ModelRoute ml/fraud");
        assert_eq!(route.spec.rules[0].split.backends[1].weight, 5);
    }

    #[test]
    fn one_bad_document_refuses_itself_alone() {
        let bad = ROUTE.replace("weight: 95", "wieght: 95");
        let text = format!("# a comment\n---\n{bad}---\n{ROUTE}");
        let results = parse(&text);
        assert_eq!(results.len(), 2);
        let error = results[0].clone().unwrap_err();
        assert!(error.starts_with("mesh.yaml:"), "{error}");
        assert!(
            error.contains("ModelRoute ml/fraud: spec.rules[0].split.backends[0]"),
            "{error}"
        );
        assert!(error.contains("wieght"), "{error}");
        assert!(results[1].is_ok());
    }

    #[test]
    fn errors_name_line_object_and_field() {
        for (from, to, expected) in [
            (
                "mesh.dev/v1alpha1",
                "mesh.dev/v1",
                "ModelRoute ml/fraud: apiVersion: \"mesh.dev/v1\" is not an API",
            ),
            (
                "kind: ModelRoute",
                "kind: Modelroute",
                "kind: \"Modelroute\" is written ModelRoute",
            ),
            (
                "kind: ModelRoute",
                "kind: VirtualService",
                "kind: unknown kind \"VirtualService\"",
            ),
            ("name: fraud,", "name: Fraud,", "metadata.name: "),
            ("idle: 30s", "idle: 30", "spec.rules[0].timeouts.idle: "),
            (
                "weight: 5,",
                "weight: -5,",
                "spec.rules[0].split.backends[1].weight: ",
            ),
            (
                "weight: 5,",
                "weight: 5.5,",
                "spec.rules[0].split.backends[1].weight: ",
            ),
            (
                "operation: [infer]",
                "operation: [dance]",
                "spec.rules[0].matches[0].operation[0]: ",
            ),
            (
                "model: fraud,",
                "model: {prefix: a, suffix: b},",
                "expected a text, or {prefix: text}",
            ),
        ] {
            let text = ROUTE.replace(from, to);
            assert_ne!(text, ROUTE);
            let error = parse(&text)[0].clone().unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn lines_count_from_the_top_of_the_file() {
        let text = format!("---\n{ROUTE}---\n{}", ROUTE.replace("idle: 30s", "idle: 30"));
        let results = parse_all(Path::new("mesh.yaml"), &text);
        assert_eq!(results[1].as_ref().unwrap_err().line, 1 + 13 + 1 + 13);
    }

    #[test]
    fn the_source_is_the_text_of_the_file() {
        let text = format!("# head\n---\n{ROUTE}");
        let (_, source) = parse_all(Path::new("mesh.yaml"), &text).remove(0).unwrap();
        assert_eq!(
            &text[source.offset..source.offset + source.text.len()],
            source.text
        );
    }

    #[test]
    fn bombs_and_rubbish_are_errors() {
        let deep = "[".repeat(100_000);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
            d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        for text in [
            deep.as_str(),
            bomb,
            "\0",
            "{",
            "just text",
            "- a\n- b\n",
            "kind: [ModelRoute]\n",
            "a: b: c",
        ] {
            let results = parse(text);
            assert!(results.iter().all(Result::is_err), "{:.40}", text);
            assert!(results.iter().all(|r| r.as_ref().unwrap_err().len() < 600));
        }
    }
}
