//! The figures as tables, for a terminal or for Markdown.

use comfy_table::{CellAlignment, Table, presets};

use super::{
    Report,
    bars::Bar,
    summary::{LoadRow, MemoryRow, RestRow},
};
use crate::{
    scenario::{Exchange, Scenario},
    spread::Spread,
};

/// How tables are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Terminal,
    Markdown,
}

/// The whole report.
pub(crate) fn render(report: &Report, style: Style) -> String {
    let mut text = preamble(report, style);
    for &scenario in &report.scenarios {
        let rows = report.summary.loads.iter().filter(|row| row.scenario == scenario);
        text += &section(&scenario.title(report.rate), &loads(rows, scenario, style), style);
    }
    text += &section(
        "Memory of one proxy (the heavier of the two), MB",
        &memory(&report.summary.memory, style),
        style,
    );
    if !report.summary.rest.is_empty() {
        text += &section("At rest", &rest(&report.summary.rest, style), style);
    }
    text += &section(
        "Bars (median of the rounds)",
        &bars(&report.summary.bars, style),
        style,
    );
    for note in notes(report) {
        text += &format!("\nnote: {note}\n");
    }
    text
}

fn preamble(report: &Report, style: Style) -> String {
    let machine = &report.machine;
    let mut lines = vec![
        format!(
            "{}, {} cores, Linux {}, {}{}",
            machine.processor,
            machine.cores,
            machine.kernel,
            machine.congestion_control,
            if machine.isolated {
                ", network namespace of its own"
            } else {
                ""
            }
        ),
        format!(
            "{} × {:?} each; median (smallest – largest); ratios within each round; one worker per proxy; load and \
             backend on core {}, both proxies on core {}",
            report.rounds, report.duration, report.load.core, report.proxies.core
        ),
    ];
    lines.extend(
        report
            .versions
            .iter()
            .map(|(name, version)| format!("{}: {version}", name.as_str())),
    );
    lines.extend(
        report
            .missing
            .iter()
            .map(|(name, reason)| format!("{}: NOT MEASURED: {reason}", name.as_str())),
    );
    let bullet = if style == Style::Markdown { "- " } else { "" };
    lines.iter().map(|line| format!("{bullet}{line}\n")).collect()
}

fn section(title: &str, table: &Table, style: Style) -> String {
    match style {
        Style::Terminal => format!("\n{title}\n{table}\n"),
        Style::Markdown => format!("\n### {title}\n\n{table}\n"),
    }
}

fn loads<'a>(rows: impl Iterator<Item = &'a LoadRow>, scenario: Scenario, style: Style) -> Table {
    let unit = scenario.unit();
    let (cpu, rate) = (format!("CPU µs/{unit}"), format!("{unit}s/s"));
    let mut header = vec!["pair", &cpu, "× Envoy", "× HAProxy", &rate];
    if scenario.has_latency() {
        header.extend(["added p50 µs", "added p99 µs"]);
    }
    if scenario.exchange() == Exchange::Stream {
        header.extend(["added first chunk µs", "added gap p99 µs"]);
    }
    let mut table = table(&header, style);
    for row in rows {
        let mut cells = vec![
            row.contender.as_str().to_owned(),
            spread(row.cpu_us, 1),
            spread(row.cpu_to_envoy, 2),
            spread(row.cpu_to_haproxy, 2),
            spread(row.rps, 0),
        ];
        if scenario.has_latency() {
            cells.extend([spread(row.p50_us, 0), spread(row.p99_us, 0)]);
        }
        if scenario.exchange() == Exchange::Stream {
            cells.extend([spread(row.first_us, 0), spread(row.gap_us, 0)]);
        }
        table.add_row(cells);
    }
    table
}

fn memory(rows: &[MemoryRow], style: Style) -> Table {
    let header = [
        "pair",
        "RSS idle",
        "RSS loaded",
        "PSS idle",
        "PSS loaded",
        "private idle",
        "private loaded",
    ];
    let mut table = table(&header, style);
    for MemoryRow {
        contender,
        idle,
        loaded,
    } in rows
    {
        let figures = [
            idle.rss,
            loaded.rss,
            idle.pss,
            loaded.pss,
            idle.private,
            loaded.private,
        ];
        let name = [contender.as_str().to_owned()];
        table.add_row(name.into_iter().chain(figures.map(|figure| spread(figure, 1))));
    }
    table
}

fn rest(rows: &[RestRow], style: Style) -> Table {
    let header = [
        "pair",
        "idle CPU ms/s",
        "bytes/idle plaintext connection",
        "bytes/idle TLS connection",
    ];
    let mut table = table(&header, style);
    for row in rows {
        table.add_row([
            row.contender.as_str().to_owned(),
            spread(row.idle_cpu, 2),
            spread(row.plaintext, 0),
            spread(row.tls, 0),
        ]);
    }
    table
}

fn bars(bars: &[Bar], style: Style) -> Table {
    let mut table = table(&["bar", "at most", "is", "holds"], style);
    for bar in bars {
        let holds = match bar.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "not measured",
        };
        table.add_row([
            bar.what.to_owned(),
            format!("{:.2}", bar.at_most),
            spread(bar.is, 2),
            holds.to_owned(),
        ]);
    }
    table
}

fn table(header: &[&str], style: Style) -> Table {
    let mut table = Table::new();
    table.load_preset(match style {
        Style::Terminal => presets::UTF8_FULL_CONDENSED,
        Style::Markdown => presets::ASCII_MARKDOWN,
    });
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `median (smallest – largest)`, or only the median where the three read the same.
fn spread(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, min, max }) = spread else {
        return "–".to_owned();
    };
    let [median, min, max] = [median, min, max].map(|figure| format!("{figure:.decimals$}"));
    if min == max {
        median
    } else {
        format!("{median} ({min} – {max})")
    }
}

/// What readers of the figures should know.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for row in report.summary.loads.iter().filter(|row| row.failed > 0) {
        notes.push(format!(
            "{}: {}: {} requests FAILED ({}): its figures say little",
            row.scenario.title(report.rate),
            row.contender.as_str(),
            row.failed,
            row.failure.as_deref().unwrap_or("no reason")
        ));
    }
    if report.summary.others > 0.05 {
        notes.push(format!(
            "others used {:.2} CPUs meanwhile: latencies are not to be trusted, CPU figures are high; ratios still hold",
            report.summary.others
        ));
    }
    if report.machine.congestion_control == "bbr" {
        notes.push(
            "BBR paces on loopback and adds latency: run as root, so that the bench can use Reno".to_owned(),
        );
    }
    if report.rounds < 5 {
        notes.push("fewer than 5 rounds: a first look, not a result".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_as_text() {
        let of = |median, min, max| Some(Spread { median, min, max });
        let cases = [
            (None, 1, "–"),
            (of(50.0, 40.0, 60.0), 0, "50 (40 – 60)"),
            (of(0.456, 0.4, 0.5), 2, "0.46 (0.40 – 0.50)"),
            (of(1.0, 1.0, 1.0), 2, "1.00"),
            (of(12.01, 12.0, 12.02), 1, "12.0"),
            (of(-3.0, -5.0, 1.0), 0, "-3 (-5 – 1)"),
        ];
        for (figure, decimals, expected) in cases {
            assert_eq!(spread(figure, decimals), expected);
        }
    }
}
