//! How many instructions a request costs the two sidecars: the same on a busy machine as on a quiet one, so that a change
//! that makes requests dearer is found by a test.
//!
//! Both proxies run under callgrind. A few hundred requests, one after the other, are counted after some that are not.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    contender::{Ground, Pair, Sources, mesh::Mesh},
    install,
    load::{Requests, repeat},
    local::block_on,
    process::{Place, Running, Start},
    scenario::{Exchange, Protocol},
    tls,
};

/// What is counted: its name, what is sent, and how often.
const KINDS: [(&str, Protocol, Exchange, usize); 5] = [
    ("http1", Protocol::Http1, Exchange::Infer, 400),
    ("grpc", Protocol::Grpc, Exchange::Infer, 400),
    ("chat-1mb-model-first", Protocol::Http1, Exchange::ModelFirst, 10),
    ("chat-1mb-model-last", Protocol::Http1, Exchange::ModelLast, 10),
    ("handshake", Protocol::Http1, Exchange::Handshake, 20),
];

/// What to count with, and against what.
pub(crate) struct Plan {
    /// The folder that has mesh-control.
    pub(crate) mesh: PathBuf,
    /// The mesh-proxy, built as it is shipped or near it.
    pub(crate) proxy: PathBuf,
    /// The file with what each request may cost.
    pub(crate) budget: PathBuf,
    /// Whether to write the file instead of comparing with it.
    pub(crate) updates: bool,
}

/// What requests may cost: both proxies together, on average.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// How much more is let pass, in percent.
    tolerance_percent: f64,
    /// Instructions per request.
    instructions: BTreeMap<String, u64>,
}

/// Counts everything, and says line by line what it costs.
///
/// # Errors
/// When something costs more than its budget, or can't be counted.
pub(crate) fn run(plan: &Plan, say: impl Fn(&str)) -> Result<()> {
    install::run(
        Command::new("valgrind").arg("--version"),
        "Debian: apt install valgrind",
    )?;
    let scratch = tempfile::tempdir().context("cannot make a scratch folder")?;
    let counted = count(plan, scratch.path())?;
    let path = plan.budget.display();
    if plan.updates {
        let budget = Budget {
            tolerance_percent: 5.0,
            instructions: counted,
        };
        let text = serde_json::to_string_pretty(&budget).context("cannot write JSON")? + "\n";
        return fs::write(&plan.budget, text).with_context(|| format!("cannot write {path}"));
    }
    let text = fs::read_to_string(&plan.budget).with_context(|| format!("cannot read {path}"))?;
    let budget: Budget = serde_json::from_str(&text).with_context(|| format!("cannot understand {path}"))?;
    let mut over = Vec::new();
    for (kind, is) in &counted {
        let (line, holds) = budget.judge(kind, *is);
        say(&line);
        if !holds {
            over.push(kind.as_str());
        }
    }
    ensure!(
        over.is_empty(),
        "{} cost more instructions than {path} allows. If that is worth it, say why in the commit and write the new \
         figures down: mesh-bench count --update",
        over.join(", ")
    );
    Ok(())
}

impl Budget {
    /// What to say about one kind of request, and whether it holds.
    fn judge(&self, kind: &str, is: u64) -> (String, bool) {
        let Some(&budget) = self.instructions.get(kind) else {
            return (format!("{kind}: {is} instructions, NO BUDGET"), false);
        };
        let percent = (is as f64 - budget as f64) / budget.max(1) as f64 * 100.0;
        let (holds, word) = if percent > self.tolerance_percent {
            (false, "TOO MANY")
        } else if percent < -self.tolerance_percent {
            (true, "better: mesh-bench count --update keeps it so")
        } else {
            (true, "ok")
        };
        (
            format!("{kind}: {is} instructions, budget {budget}, {percent:+.1} %: {word}"),
            holds,
        )
    }
}

fn count(plan: &Plan, scratch: &Path) -> Result<BTreeMap<String, u64>> {
    tls::write(scratch)?;
    let anywhere = Place {
        core: 0,
        nice: 0,
        every_core: true,
    };
    let itself = std::env::current_exe().context("cannot find the bench's own program")?;
    let backend = Start {
        name: "backend",
        program: &itself,
        place: anywhere,
        folder: scratch,
        libraries: None,
    };
    let (_backend, mut lines) = backend.talking(&["backend", "--listen", "127.0.0.1:0"])?;
    let [backend, chat, opaque]: [SocketAddr; 3] = lines.next().context("the backend")?;
    let folder = scratch.join("mesh");
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let ground = Ground {
        backend,
        chat,
        opaque,
        tls: scratch,
        folder: &folder,
        place: anywhere,
        elsewhere: anywhere,
    };
    let sources = Sources {
        mesh: plan.mesh.clone(),
        ..Sources::default()
    };
    let mesh = Mesh::prepare(&sources)?.counted(plan.proxy.clone());
    let mut pair = mesh.start_pair(&ground)?;
    pair.wait()?;
    let proxies: Vec<Callgrind> = pair.proxies.iter().map(Callgrind::of).collect::<Result<_>>()?;
    let mut counted = BTreeMap::new();
    for (kind, protocol, exchange, times) in KINDS {
        let cost = cost(&pair, &proxies, protocol, exchange, times).with_context(|| kind.to_owned())?;
        counted.insert(kind.to_owned(), cost);
    }
    Ok(counted)
}

/// Instructions of all proxies per request, without what they do when there is none.
fn cost(
    pair: &Pair,
    proxies: &[Callgrind],
    protocol: Protocol,
    exchange: Exchange,
    times: usize,
) -> Result<u64> {
    let to = match exchange {
        Exchange::ModelFirst | Exchange::ModelLast => pair.chat,
        Exchange::Handshake => pair.between,
        _ => pair.http1,
    };
    let requests = Requests {
        protocol,
        exchange,
        to,
        authority: pair.authority.clone(),
        identity: pair.identity.clone(),
    };
    block_on(async {
        let mut sending = repeat(&requests).await?;
        sending.send(times / 4 + 1).await?;
        proxies.iter().try_for_each(Callgrind::zero)?;
        let began = Instant::now();
        sending.send(times).await?;
        let took = began.elapsed();
        let total = read(proxies)?;
        // What proxies do besides depends on how long it took, and that on the machine.
        proxies.iter().try_for_each(Callgrind::zero)?;
        tokio::time::sleep(took).await;
        let besides = read(proxies)?;
        Ok(total.saturating_sub(besides) / times as u64)
    })?
}

/// What all of them have counted.
fn read(proxies: &[Callgrind]) -> Result<u64> {
    proxies.iter().map(Callgrind::read).sum()
}

/// A proxy under callgrind.
struct Callgrind {
    pid: String,
    /// Where it writes what it has counted, with a number behind.
    out: PathBuf,
    read: std::cell::Cell<usize>,
}

impl Callgrind {
    fn of(proxy: &Running) -> Result<Self> {
        let pid = proxy
            .pids()
            .first()
            .context("a proxy has no process")?
            .to_string();
        let this = Self {
            pid,
            out: proxy.log().with_extension("callgrind"),
            read: std::cell::Cell::new(0),
        };
        this.tell(&["-i", "on"])?;
        Ok(this)
    }

    fn tell(&self, what: &[&str]) -> Result<()> {
        let mut command = Command::new("callgrind_control");
        install::run(
            command.args(what).arg(&self.pid),
            "it comes with valgrind and needs to be allowed to trace the proxy",
        )
    }

    /// Counts from now on.
    fn zero(&self) -> Result<()> {
        self.tell(&["-z"])
    }

    /// Instructions since then.
    fn read(&self) -> Result<u64> {
        self.tell(&["-d"])?;
        self.read.set(self.read.get() + 1);
        let path = format!("{}.{}", self.out.display(), self.read.get());
        for _ in 0..100 {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Some(total) = total(&text) {
                return Ok(total);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("callgrind did not write {path}")
    }
}

/// The sum in a file of callgrind's, once it is there as a whole.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_judged_with_their_tolerance() {
        let budget = Budget {
            tolerance_percent: 5.0,
            instructions: BTreeMap::from([("http1".to_owned(), 1_000)]),
        };
        for (kind, is, holds, word) in [
            ("http1", 1_000, true, ": ok"),
            ("http1", 1_050, true, ": ok"),
            ("http1", 1_051, false, "TOO MANY"),
            ("http1", 900, true, "--update"),
            ("grpc", 1, false, "NO BUDGET"),
        ] {
            let (line, found) = budget.judge(kind, is);
            assert!(found == holds && line.contains(word), "{line}");
        }
    }

    #[test]
    fn totals_of_callgrind() {
        assert_eq!(total("summary: 5\nfn=(1)\n1 5\ntotals: 12345\n"), Some(12345));
        assert_eq!(total("summary: 5\n"), None);
        assert_eq!(total(""), None);
    }
}
