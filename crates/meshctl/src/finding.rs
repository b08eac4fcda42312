//! What was looked at, how it is, and how to mend it.

use serde::Serialize;

use crate::output::{Style, Text};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Well.
    Ok,
    /// To be looked at.
    Warning,
    /// Wrong.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The area it is of.
    pub(crate) about: &'static str,
    /// How it is.
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// Something that is well.
pub(crate) fn ok(about: &'static str, says: impl Into<String>) -> Finding {
    Finding {
        about,
        verdict: Verdict::Ok,
        says: says.into(),
        fix: None,
    }
}

/// Something that is not, and its fix.
pub(crate) fn wrong(
    about: &'static str,
    verdict: Verdict,
    says: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding {
        about,
        verdict,
        says: says.into(),
        fix: Some(fix.into()),
    }
}

/// A line for each, with its fix beneath.
pub(crate) fn for_people(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let (style, mark) = match finding.verdict {
            Verdict::Ok => (Style::Good, "✓ ok     "),
            Verdict::Warning => (Style::Warn, "! warning"),
            Verdict::Failed => (Style::Bad, "✗ failed "),
        };
        let line = Text::styled(style, mark)
            .and(Style::Strong, format!("  {:<12}", finding.about))
            .plain(format!("  {}", finding.says));
        out.push_str(&format!("{}\n", line.ansi()));
        if let Some(fix) = &finding.fix {
            let line = Text::styled(Style::Plain, " ".repeat(25)).and(Style::Good, "fix:");
            out.push_str(&format!("{} {fix}\n", line.ansi()));
        }
    }
    out
}
