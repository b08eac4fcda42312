//! What the sidecars hold, minute by minute: memory and descriptors.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mesh_e2e::mesh::Mesh;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(2);
/// After so many minutes memory grows no more.
const WARM: u64 = 5;
/// By how much it may grow nonetheless, in percent.
const GROWTH: f64 = 2.0;
/// How many descriptors a sidecar may have beyond those it began with, when nothing is open any more: its stream to the
/// control plane may be another one, and one may be on its way.
const SPARE: usize = 4;

/// The sidecars that are watched, and what was seen of them.
pub(crate) struct Vitals {
    started: Instant,
    last: Option<Instant>,
    of: BTreeMap<&'static str, Seen>,
}

#[derive(Default)]
struct Seen {
    /// Before the load.
    descriptors: usize,
    most_descriptors: usize,
    /// Resident bytes, by the minute.
    resident: BTreeMap<u64, Vec<u64>>,
}

impl Vitals {
    /// Of these sidecars, which live as long as this.
    pub(crate) fn of<const N: usize>(names: [&'static str; N]) -> Self {
        Self {
            started: Instant::now(),
            last: None,
            of: names.into_iter().map(|name| (name, Seen::default())).collect(),
        }
    }

    /// Looks, if it is time.
    pub(crate) fn take(&mut self, mesh: &mut Mesh) -> Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < LOOK) {
            return Ok(());
        }
        let first = self.last.replace(Instant::now()).is_none();
        let minute = self.started.elapsed().as_secs() / 60;
        for (name, seen) in &mut self.of {
            let process = mesh.proxy(name)?.process();
            process.check()?;
            let descriptors = descriptors(process.id())?;
            if first {
                seen.descriptors = descriptors;
            }
            seen.most_descriptors = seen.most_descriptors.max(descriptors);
            let resident = process.resident_bytes()?;
            seen.resident.entry(minute).or_default().push(resident);
        }
        Ok(())
    }

    /// The sidecars that hold more descriptors than before the load.
    pub(crate) fn descriptors_left(&self, mesh: &mut Mesh) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (name, seen) in &self.of {
            let now = descriptors(mesh.proxy(name)?.process().id())?;
            if now > seen.descriptors + SPARE {
                left.push(format!(
                    "{name}: {now} descriptors, {} at first",
                    seen.descriptors
                ));
            }
        }
        Ok(left)
    }

    /// Fails when memory has grown after the first minutes. Of each minute the median counts.
    pub(crate) fn judge(&self) -> Result<()> {
        let mut grown = Vec::new();
        for (name, seen) in &self.of {
            let medians: Vec<(u64, u64)> = seen.resident.iter().map(|(at, of)| (*at, median(of))).collect();
            let kilobytes: Vec<_> = medians.iter().map(|(_, bytes)| bytes >> 10).collect();
            println!(
                "{name}: resident kB by the minute {kilobytes:?}; {} descriptors at first, {} at most",
                seen.descriptors, seen.most_descriptors
            );
            // The last minute may be a moment only.
            let whole = medians.split_last().map_or(&[][..], |(_, whole)| whole);
            let warm = medians.iter().find(|(at, _)| *at == WARM);
            if let (Some((_, warm)), Some((at, last))) = (warm, whole.last())
                && *at > WARM
            {
                let percent = (*last as f64 / *warm as f64 - 1.0) * 100.0;
                println!("{name}: {percent:+.2} % from minute {WARM} to minute {at}");
                if percent > GROWTH {
                    grown.push(format!("{name} by {percent:.2} %"));
                }
            }
        }
        ensure!(grown.is_empty(), "memory has grown: {}", grown.join(", "));
        Ok(())
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resident MB")?;
        for (name, seen) in &self.of {
            let last = seen.resident.values().next_back().and_then(|of| of.last());
            write!(f, " {name} {:.1}", last.copied().unwrap_or_default() as f64 / 1e6)?;
        }
        Ok(())
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn descriptors(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}
