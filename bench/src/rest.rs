//! What a pair costs when nobody asks anything of it: CPU time, and the memory of connections that lie idle.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};

use crate::{
    contender::Pair,
    load::Event,
    measure::{cpu, memory::Memory},
    process::{Place, Running, Start},
};

/// How long a pair is watched doing nothing.
const WATCHED: Duration = Duration::from_secs(5);
/// How long connections lie idle before their memory is read.
const LAID_IDLE: Duration = Duration::from_secs(4);

/// How many connections are held, plaintext or TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held(pub(crate) usize);

/// The CPU time of each pair's busier proxy while nothing happens, in ms per second.
pub(crate) fn idle_cpu(pairs: &[&Pair]) -> Result<Vec<f64>> {
    let read = || -> Result<Vec<Vec<Duration>>> {
        pairs
            .iter()
            .map(|pair| {
                pair.proxies
                    .iter()
                    .map(|proxy| cpu::exactly(&proxy.pids()))
                    .collect()
            })
            .collect()
    };
    let before = read()?;
    thread::sleep(WATCHED);
    let after = read()?;
    let busiest = |(after, before): (&Vec<Duration>, &Vec<Duration>)| {
        let spent = after
            .iter()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(*before));
        spent.max().unwrap_or_default().as_secs_f64() * 1e3 / WATCHED.as_secs_f64()
    };
    Ok(after.iter().zip(&before).map(busiest).collect())
}

/// The private memory that one idle connection takes, in bytes: a plaintext one of the outbound proxy, or a TLS one of the
/// inbound proxy.
pub(crate) fn bytes_per_connection(
    pair: &Pair,
    is_tls: bool,
    Held(connections): Held,
    place: Place,
    folder: &std::path::Path,
) -> Result<f64> {
    let which = usize::from(is_tls);
    let proxy = pair.proxies.get(which).context("the pair has no such proxy")?;
    let before = Memory::of(&proxy.pids())?.private;
    let itself = std::env::current_exe().context("cannot find the bench's own program")?;
    let to = if is_tls { pair.between } else { pair.http1 };
    let mut arguments = vec![
        "hold".to_owned(),
        to.to_string(),
        format!("--authority={}", pair.authority),
        format!("--connections={connections}"),
    ];
    if is_tls {
        arguments.push(format!("--identity={}", pair.identity.display()));
    }
    let start = Start {
        name: "hold",
        program: &itself,
        place,
        folder,
        libraries: None,
    };
    let (holder, mut lines) = start.talking(&arguments)?;
    let opened = lines.next::<Event>();
    opened.with_context(|| fs::read_to_string(folder.join("hold.log")).unwrap_or_default())?;
    thread::sleep(LAID_IDLE);
    let after = Memory::of(&proxy.pids())?.private;
    drop::<Running>(holder);
    Ok(after.saturating_sub(before) as f64 * 1024.0 / connections as f64)
}
