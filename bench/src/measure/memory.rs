//! Memory of processes, from `/proc/PID/smaps_rollup` (proc(5)).

use std::{fs, ops::Add};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Memory of one or several processes, in kB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Resident pages, with those shared with others.
    pub(crate) rss: u64,
    /// Resident pages, those shared with others counted in proportion.
    pub(crate) pss: u64,
    /// Pages that no other process has: what would come free if this one ended.
    pub(crate) private: u64,
}

impl Memory {
    /// The memory of several processes together. Pages they share count several times in `rss`, once in `pss`.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        pids.iter().try_fold(Self::default(), |sum, &pid| {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            Ok(sum + Self::parse(&text).with_context(|| format!("cannot understand {path}"))?)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| -> Option<u64> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        Some(Self {
            rss: field("Rss")?,
            pss: field("Pss")?,
            private: field("Private_Clean")? + field("Private_Dirty")?,
        })
    }

    /// The larger of two, figure by figure.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            rss: self.rss.max(other.rss),
            pss: self.pss.max(other.pss),
            private: self.private.max(other.private),
        }
    }
}

impl Add for Memory {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            rss: self.rss + other.rss,
            pss: self.pss + other.pss,
            private: self.private + other.private,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "\
55d0c0a00000-7ffd4a5f5000 ---p 00000000 00:00 0                          [rollup]
Rss:                1832 kB
Pss:                 512 kB
Pss_Dirty:           160 kB
Shared_Clean:       1500 kB
Private_Clean:        72 kB
Private_Dirty:       160 kB
";

    #[test]
    fn rollups() {
        let cases = [
            (
                ROLLUP.to_owned(),
                Some(Memory {
                    rss: 1832,
                    pss: 512,
                    private: 232,
                }),
            ),
            (ROLLUP.replace("1832 kB", "1832"), None),
            (ROLLUP.replace("1832", "many"), None),
            (ROLLUP.replace("Private_Dirty", "Something"), None),
            (String::new(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(Memory::parse(&text), expected, "{text}");
        }
    }

    #[test]
    fn processes_add_up_and_the_larger_wins_by_figure() {
        let small = Memory {
            rss: 10,
            pss: 9,
            private: 1,
        };
        let large = Memory {
            rss: 20,
            pss: 5,
            private: 2,
        };
        assert_eq!(
            small + large,
            Memory {
                rss: 30,
                pss: 14,
                private: 3
            }
        );
        assert_eq!(
            small.max(large),
            Memory {
                rss: 20,
                pss: 9,
                private: 2
            }
        );
    }

    #[test]
    fn this_process_can_be_read() {
        let memory = Memory::of(&[std::process::id()]).expect("own rollup");
        assert!(memory.rss >= memory.private && memory.private > 0);
        assert!(Memory::of(&[u32::MAX]).is_err());
    }
}
