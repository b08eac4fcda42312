//! `meshctl apply`: documents into the running mesh, all or none of them.

use clap::Args;
use mesh_api::wire::admin::{ApplyRequest, ApplyResponse, Problem};
use serde::Serialize;

use super::{Context, validate};
use crate::cli::Files;
use crate::client::answer;
use crate::documents::read_files;
use crate::error::{Failure, Outcome};

/// Flags of `meshctl apply`.
#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Check only
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Result {
    version: u64,
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
        let mut admin = context.admin().await?;
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
            version: response.version,
            dry_run: self.dry_run,
            applied: applied.collect(),
        };
        if let Some(format) = context.machine() {
            return context.printer.machine(format, &result);
        }
        let suffix = if self.dry_run { " (dry run)" } else { "" };
        let lines: String = result
            .applied
            .iter()
            .map(|it| format!("{} {}{suffix}\n", it.object, it.action))
            .collect();
        context.printer.data(&lines)?;
        if !self.dry_run {
            context.printer.say(format!("version {}", result.version));
        }
        Ok(())
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
