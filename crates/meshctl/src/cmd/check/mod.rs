//! `meshctl check`: what is wrong with the mesh, each finding with its fix.

mod control;
mod kubernetes;
mod machine;
pub(crate) mod pods;
mod proxies;

use clap::Args;

use super::{Context, Place};
use crate::error::{Failure, Outcome};
use crate::finding::{self, Finding, Verdict};
use crate::output::{Style, Text};

/// Flags of `meshctl check`.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Whether a Kubernetes cluster is ready for an installation
    #[arg(long)]
    pre: bool,
}

impl Check {
    /// Looks at everything, and fails when something failed.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let findings = if self.pre {
            kubernetes::before(&context.cluster().await?).await?
        } else {
            match context.place().await {
                Ok(Place::Machine(mesh)) => machine::look(&mesh).await?,
                Ok(Place::Kubernetes(cluster)) => kubernetes::look(&cluster).await?,
                Err(failure) => vec![told(failure)?],
            }
        };
        match context.machine() {
            Some(format) => context.printer.machine(format, &findings)?,
            None => {
                let well = if self.pre {
                    "ready for an installation"
                } else {
                    "the mesh is well"
                };
                context.printer.data(&for_people(&findings, well))?;
            }
        }
        if findings.iter().any(|finding| finding.verdict == Verdict::Failed) {
            return Err(Failure::Silent);
        }
        Ok(())
    }
}

/// All findings, and a last line that sums them up: `well` when none failed.
fn for_people(findings: &[Finding], well: &str) -> String {
    let failed = findings.iter().filter(|it| it.verdict == Verdict::Failed).count();
    let last = match failed {
        0 => Text::styled(Style::Good, well),
        count => Text::styled(Style::Bad, format!("{count} failed")),
    };
    format!("{}{}\n", finding::for_people(findings), last.ansi())
}

/// A failure as something that was found: that no mesh runs is one too.
fn told(failure: Failure) -> Outcome<Finding> {
    let Failure::Told { error, hints } = failure else {
        return Err(failure);
    };
    let fix = hints.into_iter().next();
    let fix = fix.unwrap_or_else(|| "see the control plane's log".into());
    Ok(finding::wrong(
        "control",
        Verdict::Failed,
        format!("{error:#}"),
        fix,
    ))
}
