//! The documents commands work on: read from files and folders, or as the running mesh has them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mesh_api::document::{Document, DocumentError, Kind, Source, parse_all};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::wire;
use mesh_api::wire::admin::{ListDocumentsRequest, ListRoutesRequest, StoredDocument};

use crate::client::{Admin, answer};
use crate::error::{Failure, Outcome};
use crate::kubernetes::in_force;

/// The text of a file.
#[derive(Debug)]
pub(crate) struct FileText {
    /// The file, or `-`.
    pub(crate) file: PathBuf,
    /// All that is in it.
    pub(crate) text: String,
}

/// Reads files, folders (their `.yaml` and `.yml` files, those of folders in them too, by name) and `-`.
pub(crate) fn read_files(paths: &[PathBuf]) -> Outcome<Vec<FileText>> {
    let mut texts = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            texts.push(FileText {
                file: path.clone(),
                text,
            });
        } else if path.is_dir() {
            let mut files = Vec::new();
            walk(path, &mut files)?;
            if files.is_empty() {
                return Err(Failure::new(format!(
                    "{} has no .yaml or .yml file",
                    path.display()
                )));
            }
            for file in files {
                texts.push(read_file(&file)?);
            }
        } else {
            texts.push(read_file(path)?);
        }
    }
    Ok(texts)
}

fn read_file(file: &Path) -> Outcome<FileText> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format!("cannot read {}: it is not UTF-8 text", file.display())))?;
    Ok(FileText {
        file: file.to_owned(),
        text,
    })
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

/// What one document of a file turned out to be.
pub(crate) type Parsed = Result<(Document, Source), DocumentError>;

/// The documents of files, and why the others are none.
pub(crate) fn parse(texts: &[FileText]) -> Vec<Parsed> {
    texts
        .iter()
        .flat_map(|text| parse_all(&text.file, &text.text))
        .collect()
}

/// A document that is in force in the running mesh.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// What it says.
    pub(crate) document: Document,
    /// As it is stored.
    pub(crate) stored: StoredDocument,
}

/// Asks for the documents in force: all, or those of a kind, a namespace, a name.
pub(crate) async fn list(
    admin: &mut Admin,
    kind: Option<Kind>,
    namespace: Option<&Name>,
    name: Option<&Name>,
) -> Outcome<Vec<InForce>> {
    if let Some(cluster) = admin.cluster() {
        let mut documents = in_force::list(cluster, kind).await?;
        documents.retain(|it| {
            let id = it.document.id();
            namespace.is_none_or(|wanted| id.name.namespace == *wanted)
                && name.is_none_or(|wanted| id.name.name == *wanted)
        });
        return Ok(documents);
    }
    let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
    let request = ListDocumentsRequest {
        kind: word(kind.map(Kind::as_str)),
        namespace: word(namespace.map(Name::as_str)),
        name: word(name.map(Name::as_str)),
    };
    let listed = answer(admin.list_documents(request)).await?.documents;
    let mut documents: Vec<InForce> = listed.into_iter().filter_map(read).collect();
    documents.sort_by_key(|it| it.document.id());
    Ok(documents)
}

/// The routes in force of a mesh on Kubernetes, where other kinds of objects than documents say how requests are routed, too;
/// none where documents say all.
pub(crate) async fn routes(admin: &mut Admin) -> Outcome<Vec<Route>> {
    if admin.cluster().is_none() {
        return Ok(Vec::new());
    }
    let listed = answer(admin.list_routes(ListRoutesRequest {})).await?.routes;
    let read = |route| {
        wire::route(route)
            .map_err(|error| Failure::new(format!("cannot read what the control plane says: {error}")))
    };
    listed.into_iter().map(read).collect()
}

/// What this meshctl can't read, a newer control plane wrote: it is left out.
fn read(stored: StoredDocument) -> Option<InForce> {
    let parsed = parse_all(Path::new(&stored.file), &stored.yaml)
        .into_iter()
        .next()?;
    let (document, _) = parsed.ok()?;
    Some(InForce { document, stored })
}

/// Which object of a kind a word means: `namespace/name`, or a name in the given namespace, or a name that is found
/// in one namespace alone. `names` are all names by which the objects that there are can be called.
pub(crate) fn meant(
    what: &str,
    word: &str,
    namespace: Option<&Name>,
    names: impl IntoIterator<Item = (ObjectName, ObjectName)>,
) -> Outcome<ObjectName> {
    let names: Vec<_> = names.into_iter().collect();
    let mut found: Vec<&ObjectName> = match (word.split_once('/'), namespace) {
        (Some(_), _) => {
            let exact: ObjectName = word.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
            let by = names.iter().filter(|(called, _)| *called == exact);
            by.map(|(_, object)| object).collect()
        }
        (None, namespace) => {
            let name: Name = word.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
            let by = names.iter().filter(|(called, _)| {
                called.name == name && namespace.is_none_or(|namespace| called.namespace == *namespace)
            });
            by.map(|(_, object)| object).collect()
        }
    };
    found.sort();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let place = namespace
                .map(|it| format!(" in namespace {it}"))
                .unwrap_or_default();
            let mut there: Vec<String> = names.iter().map(|(_, object)| object.to_string()).collect();
            there.sort();
            there.dedup();
            let failure = Failure::new(format!("there is no {what} {word}{place}"));
            Err(match there.len() {
                0 => failure.hint(format!("there is no {what} at all")),
                1..=12 => failure.hint(format!("there is {}", there.join(", "))),
                _ => failure.hint(format!("there is {}, …", there[..12].join(", "))),
            })
        }
        several => {
            let list: Vec<_> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new(format!("{word} is several: {}", list.join(", ")))
                .hint("say which with -n NAMESPACE, or write NAMESPACE/NAME"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_unique() {
        let names = || {
            ["ml/fraud", "shop/fraud", "ml/iris"].map(|name| {
                let name: ObjectName = name.parse().unwrap();
                (name.clone(), name)
            })
        };
        let ml: Name = "ml".parse().unwrap();
        let meant = |word, namespace| meant("ModelRoute", word, namespace, names()).map(|it| it.to_string());
        assert_eq!(meant("iris", None).unwrap(), "ml/iris");
        assert_eq!(meant("shop/fraud", None).unwrap(), "shop/fraud");
        assert_eq!(meant("fraud", Some(&ml)).unwrap(), "ml/fraud");
        assert_eq!(
            meant("fraud", None).unwrap_err().to_string(),
            "fraud is several: ml/fraud, shop/fraud"
        );
        assert_eq!(
            meant("wine", None).unwrap_err().to_string(),
            "there is no ModelRoute wine"
        );
        assert!(matches!(meant("Fraud!", None), Err(Failure::Usage(_))));
        assert!(matches!(meant("a/b/c", None), Err(Failure::Usage(_))));
    }

    #[test]
    fn folders_are_read_in_order_and_hidden_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("b.yaml", "b"),
            ("a/x.yml", "x"),
            (".git/c.yaml", "c"),
            ("d.txt", "d"),
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let texts = read_files(&[dir.path().to_owned()]).unwrap();
        let read: Vec<_> = texts.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(read, ["x", "b"]);
        assert!(read_files(&[dir.path().join("none")]).is_err());
        std::fs::write(dir.path().join("bad.yaml"), [0xff, 0xfe]).unwrap();
        let error = read_files(&[dir.path().join("bad.yaml")]).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }
}
