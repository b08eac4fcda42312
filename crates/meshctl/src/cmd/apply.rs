//! `meshctl apply`: documents into the running mesh, all or none of them.

use clap::Args;
use mesh_api::wire::admin::{ApplyRequest, ApplyResponse, Problem};
use serde::Serialize;
use serde_json::Value;

use super::{Context, Place, validate};
use crate::cli::Files;
use crate::client::answer;
use crate::documents::{FileText, parse, read_files};
use crate::error::{Failure, Outcome};
use crate::kubernetes::{self, Cluster};

/// Flags of `meshctl apply`.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Check only
    #[arg(long)]
    dry_run: bool,
    /// On Kubernetes: take fields over that somebody else has applied
    #[arg(long)]
    force_conflicts: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Result {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    dry_run: bool,
    applied: Vec<Applied>,
}

#[derive(Debug, Serialize)]
struct Applied {
    object: String,
    action: String,
}

impl Apply {
    /// Checks here, where errors have files and lines, then lets the control plane check and apply.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let texts = read_files(&self.files.filename)?;
        let found = validate::check(&texts);
        if !found.errors.is_empty() {
            for error in &found.errors {
                context.printer.error(&error.to_string());
            }
            context.printer.say("nothing was applied");
            return Err(Failure::Silent);
        }
        if found.documents == 0 {
            return Err(Failure::new("there is no document to apply"));
        }
        let place = context.place().await?;
        if let Place::Kubernetes(cluster) = &place {
            return self.on_kubernetes(context, cluster, &texts).await;
        }
        let name = match texts.as_slice() {
            [one] => one.file.display().to_string(),
            _ => String::new(),
        };
        let parts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let request = ApplyRequest {
            yaml: parts.join("\n---\n"),
            name,
            dry_run: self.dry_run,
        };
        let mut admin = place.admin().await?;
        let response = answer(admin.apply(request)).await?;
        self.tell(context, response)
    }

    fn tell(&self, context: &Context, response: ApplyResponse) -> Outcome {
        let (warnings, errors): (Vec<Problem>, Vec<Problem>) =
            response.problems.into_iter().partition(|problem| problem.warning);
        for warning in &warnings {
            context.printer.warn(&in_words(warning));
        }
        if !errors.is_empty() {
            for error in &errors {
                context.printer.error(&in_words(error));
            }
            context.printer.say("nothing was applied");
            return Err(Failure::Silent);
        }
        let applied = response.applied.into_iter().map(|it| Applied {
            object: it.object,
            action: it.action,
        });
        let result = Result {
            version: Some(response.version),
            dry_run: self.dry_run,
            applied: applied.collect(),
        };
        self.report(context, &result)
    }

    fn report(&self, context: &Context, result: &Result) -> Outcome {
        if let Some(format) = context.machine() {
            return context.printer.machine(format, result);
        }
        let suffix = if self.dry_run { " (dry run)" } else { "" };
        let lines: String = result
            .applied
            .iter()
            .map(|it| format!("{} {}{suffix}\n", it.object, it.action))
            .collect();
        context.printer.data(&lines)?;
        if let (Some(version), false) = (result.version, self.dry_run) {
            context.printer.say(format!("version {version}"));
        }
        Ok(())
    }

    /// One object after the other: Kubernetes has no way to apply all or none. All are tried in a dry run before the
    /// first is applied.
    async fn on_kubernetes(&self, context: &Context, cluster: &Cluster, texts: &[FileText]) -> Outcome {
        let mut objects = Vec::new();
        for (document, source) in parse(texts).into_iter().flatten() {
            let mut object: Value = serde_saphyr::from_str(&source.text)?;
            if object["metadata"]["namespace"].is_null() {
                let namespace = context
                    .namespace()
                    .map_or(cluster.client.default_namespace(), |name| name.as_str());
                object["metadata"]["namespace"] = namespace.into();
            }
            objects.push((document.id().kind, object));
        }
        for (kind, object) in &objects {
            kubernetes::documents::apply(cluster, *kind, object, true, self.force_conflicts).await?;
        }
        let mut applied = Vec::new();
        for (kind, object) in &objects {
            let action =
                kubernetes::documents::apply(cluster, *kind, object, self.dry_run, self.force_conflicts)
                    .await?;
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            applied.push(Applied {
                object: format!("{kind} {}/{}", text("namespace"), text("name")),
                action: action.into(),
            });
        }
        let result = Result {
            version: None,
            dry_run: self.dry_run,
            applied,
        };
        self.report(context, &result)
    }
}

/// A problem as the control plane tells it, in one line.
pub(crate) fn in_words(problem: &Problem) -> String {
    let mut parts = Vec::new();
    match (problem.file.as_str(), problem.line) {
        ("", _) => {}
        (file, 0) => parts.push(file.to_owned()),
        (file, line) => parts.push(format!("{file}:{line}")),
    }
    for part in [&problem.object, &problem.field, &problem.reason] {
        if !part.is_empty() {
            parts.push(part.clone());
        }
    }
    parts.join(": ")
}
