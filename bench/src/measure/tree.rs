//! A process and all its descendants: nginx, for one, works in a child of the process that was started.

use std::fs;

use super::cpu::ProcessTime;

/// The process ids of `root` and all its living descendants, `root` first.
pub(crate) fn of(root: u32) -> Vec<u32> {
    descendants(root, &parents())
}

/// Every process of this machine with its parent. Processes that end while being listed are left out.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, ProcessTime::of(pid).ok()?.parent)))
        .collect()
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents
            .iter()
            .filter(|(_, of)| *of == parent)
            .map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_of_a_tree() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 10), (13, 12), (20, 1), (30, 30)];
        let cases: [(u32, &[u32]); 5] = [
            (10, &[10, 11, 12, 13]),
            (12, &[12, 13]),
            (20, &[20]),
            (30, &[30]),
            (99, &[99]),
        ];
        for (root, expected) in cases {
            assert_eq!(descendants(root, &parents), expected, "root {root}");
        }
    }

    #[test]
    fn this_process_has_itself() {
        assert_eq!(of(std::process::id()).first(), Some(&std::process::id()));
    }
}
