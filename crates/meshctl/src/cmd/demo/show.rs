//! The canary takes over, step by step: the weights, what the client got, what the proxies saw.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mesh_api::wire::admin::SetSplitRequest;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::acks;
use crate::client::{Admin, answer};
use crate::cmd::Context;
use crate::error::{Failure, Outcome};
use crate::output::{Style, Text, percent};
use crate::traffic;

/// The canary's weights of 100, in order.
const STEPS: [u32; 4] = [0, 5, 50, 100];
/// How many of the client's answers a share is told from.
const ANSWERS: u64 = 500;
/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far a share may be off, in standard deviations of the binomial distribution: once in 16,000 by chance.
const SIGMAS: f64 = 4.0;

/// A line of the client: what came back within a second, by flow.
#[derive(Debug, Deserialize)]
struct Line {
    second: u64,
    flows: BTreeMap<String, Came>,
}

/// What came back of a flow.
#[derive(Debug, Default, Deserialize)]
struct Came {
    #[serde(default)]
    answers: BTreeMap<String, u64>,
    #[serde(default)]
    errors: BTreeMap<String, u64>,
}

/// What the client counted in a step.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    /// Answers of `fraud` by its first version.
    stable: u64,
    /// And by its second.
    canary: u64,
    /// Failed calls of any flow, by flow and what went wrong.
    errors: BTreeMap<String, u64>,
}

/// Shows all steps. Fails when a share was off, or a call failed.
pub(super) async fn canary(context: &Context, admin: &mut Admin, log: &Path) -> Outcome {
    let mut wrong = Vec::new();
    for weight in STEPS {
        let request = SetSplitRequest {
            namespace: "ml".into(),
            route: "fraud".into(),
            rule: String::new(),
            weights: [("stable".into(), 100 - weight), ("canary".into(), weight)].into(),
        };
        let change = answer(admin.set_split(request)).await?;
        let acks = acks::wait(admin, change.version, Duration::from_secs(10)).await?;
        let started = Instant::now();
        let counted = count(log).await?;
        let window = u32::try_from(started.elapsed().as_secs())
            .unwrap_or(10)
            .clamp(1, 300);
        let seen = seen_canary(admin, window).await?;
        let verdict = judge(&counted, weight);
        wrong.extend(verdict.clone());
        if !acks.complete() {
            wrong.extend(acks.complaints());
        }
        let all = counted.stable + counted.canary;
        let mark = match verdict.is_empty() {
            true => Text::styled(Style::Good, "✓"),
            false => Text::styled(Style::Bad, "✗"),
        };
        let line = mark
            .and(
                Style::Strong,
                format!(" stable={:<3} canary={weight:<3}", 100 - weight),
            )
            .plain(format!(
                "  client: {:>5} of {all} answers by version 2   proxies: {seen:>5}   ",
                percent(counted.canary, all)
            ))
            .and(Style::Faint, acks.in_words());
        context.printer.data(&format!("{}\n", line.ansi()))?;
    }
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(Failure::new(wrong.join("; ")).hint("`meshctl check` finds what is wrong")),
    }
}

/// The canary's share as the proxies saw it.
async fn seen_canary(admin: &mut Admin, window: u32) -> Outcome<String> {
    let seen = traffic::ask(admin, window).await?;
    let of = |backend: &str| {
        let paths = seen
            .paths
            .iter()
            .filter(|path| !path.inbound && path.backend == backend);
        paths.map(|path| path.requests).sum::<u64>()
    };
    let canary = of("canary");
    Ok(percent(canary, canary + of("stable")))
}

/// Reads what the client prints from now on, until it is enough.
async fn count(log: &Path) -> Outcome<Counted> {
    let until = Instant::now() + PATIENCE;
    // The second under way, and the one whose calls may have begun before, are of the step before.
    let first = lines(log).last().map_or(0, |line| line.second) + 2;
    loop {
        let counted = add_up(lines(log).into_iter().filter(|line| line.second > first));
        if counted.stable + counted.canary >= ANSWERS {
            return Ok(counted);
        }
        if Instant::now() > until {
            let errors = counted.errors.iter();
            let errors: String = errors
                .map(|(what, times)| format!("; {times} calls failed: {what}"))
                .collect();
            return Err(Failure::new(format!(
                "the client got {} answers of fraud in {} s, and {ANSWERS} are needed{errors}",
                counted.stable + counted.canary,
                PATIENCE.as_secs()
            ))
            .hint(format!("see {}", log.display())));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn lines(log: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn add_up(lines: impl IntoIterator<Item = Line>) -> Counted {
    let mut counted = Counted::default();
    for line in lines {
        for (flow, came) in line.flows {
            if flow.starts_with("fraud") {
                counted.stable += came.answers.get("1").copied().unwrap_or(0);
                counted.canary += came.answers.get("2").copied().unwrap_or(0);
            }
            for (what, times) in came.errors {
                *counted.errors.entry(format!("{flow} {what}")).or_default() += times;
            }
        }
    }
    counted
}

/// What is wrong with what the client counted while the canary's weight was this, of 100.
fn judge(counted: &Counted, weight: u32) -> Vec<String> {
    let errors = counted.errors.iter();
    let mut wrong: Vec<String> = errors
        .map(|(what, times)| format!("at canary={weight}, {times} calls failed: {what}"))
        .collect();
    let all = (counted.stable + counted.canary) as f64;
    let part = f64::from(weight) / 100.0;
    let off = (counted.canary as f64 - all * part).abs();
    // With nothing to chance (0 and 100), no answer may be off.
    if off > SIGMAS * (all * part * (1.0 - part)).sqrt() {
        wrong.push(format!(
            "at canary={weight}, {} of {all} answers were by version 2",
            counted.canary
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_prints_is_added_up() {
        let text = r#"
            {"second": 3, "flows": {"fraud-rest": {"answers": {"1": 19, "2": 1}, "errors": {}, "p50_ms": 3.1}}}
            not a line of counts
            {"second": 4, "flows": {"fraud-grpc": {"answers": {"2": 2}, "errors": {"503": 1}}, "chat": {"answers": {"chat": 1}, "errors": {"APIError": 2}}}}
            {"total": {}}"#;
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let counted = add_up(lines);
        let errors = [("fraud-grpc 503".to_owned(), 1), ("chat APIError".to_owned(), 2)];
        let expected = Counted {
            stable: 19,
            canary: 3,
            errors: errors.into(),
        };
        assert_eq!(counted, expected);
    }

    #[test]
    fn shares_are_judged_by_their_deviation() {
        let counted = |stable, canary| Counted {
            stable,
            canary,
            errors: BTreeMap::new(),
        };
        for (stable, canary, weight, good) in [
            (500, 0, 0, true),
            (499, 1, 0, false),
            (0, 500, 100, true),
            (1, 499, 100, false),
            (475, 25, 5, true),
            (455, 45, 5, false),
            (260, 240, 50, true),
            (300, 200, 50, false),
        ] {
            let wrong = judge(&counted(stable, canary), weight);
            assert_eq!(wrong.is_empty(), good, "{stable} {canary} {weight}: {wrong:?}");
        }
        let failed = Counted {
            errors: [("chat 503".to_owned(), 1)].into(),
            ..counted(500, 0)
        };
        assert_eq!(judge(&failed, 0), ["at canary=0, 1 calls failed: chat 503"]);
    }
}
