//! Bad flags: exit code 2, and a word about which and why, before anything is touched.

use std::process::Command;

use anyhow::Result;
use mesh_e2e::process::binary;

const PROXY: &str = "mesh-proxy --workload ml/web --control 127.0.0.1:1 --trust-bundle ca.pem --state s";
const CONTROL: &str = "mesh-control --config . --state s";

#[test]
fn each_is_refused_with_its_name() -> Result<()> {
    for (base, flags, named) in [
        ("mesh-proxy", "", "--workload"),
        (PROXY, "--nonsense", "--nonsense"),
        (PROXY, "extra", "extra"),
        (PROXY, "--workload a/b/c", "--workload"),
        (PROXY, "--workload ML/Web", "--workload"),
        (PROXY, "--control nohost", "--control"),
        (PROXY, "--control host:0", "--control"),
        (PROXY, "--control http://host:1", "--control"),
        (PROXY, "--workers 0", "--workers"),
        (PROXY, "--workers many", "--workers"),
        (PROXY, "--admin 15000", "--admin"),
        (PROXY, "--identity spiffe://mesh.local/web", "--identity"),
        (PROXY, "--drain-limit 5", "--drain-limit"),
        ("mesh-control", "", "--config"),
        (CONTROL, "--listen everywhere", "--listen"),
        (CONTROL, "--leaf-lifetime 1s", "--leaf-lifetime"),
        (CONTROL, "--leaf-lifetime 10000h", "--leaf-lifetime"),
        (CONTROL, "--leaf-lifetime tomorrow", "--leaf-lifetime"),
        (CONTROL, "--trust-domain Mesh/Local", "--trust-domain"),
        (CONTROL, "--log-format xml", "--log-format"),
        ("meshctl", "frobnicate", "frobnicate"),
        ("meshctl", "--nonsense", "--nonsense"),
        ("meshctl", "get --output xml", "xml"),
    ] {
        let mut words = base.split_whitespace().chain(flags.split_whitespace());
        let program = words.next().unwrap_or_default();
        // A flag that stands twice is an error of its own: the bad one replaces the good one.
        let words: Vec<_> = words.collect();
        let name = flags
            .split_whitespace()
            .next()
            .filter(|flag| flag.starts_with("--"));
        let mut kept = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let earlier = Some(words[at]) == name && words[at + 1..].contains(&words[at]);
            if earlier {
                at += 2;
                continue;
            }
            kept.push(words[at]);
            at += 1;
        }
        let output = Command::new(binary(program)?)
            .args(&kept)
            .current_dir(std::env::temp_dir())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program} {kept:?}: {said}");
        assert!(
            said.contains(named) && !said.contains("panicked"),
            "{program} {kept:?}: {said}"
        );
        assert!(
            output.stdout.is_empty(),
            "{program} {kept:?}: data on standard output"
        );
    }
    Ok(())
}

#[test]
fn what_the_machine_lacks_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (program, arguments, named) in [
        (
            "mesh-control",
            vec!["--config".into(), at("nowhere"), "--state".into(), at("s")],
            "nowhere",
        ),
        (
            "mesh-proxy",
            [
                ["--workload", "ml/web"],
                ["--control", "127.0.0.1:1"],
                ["--admin", "127.0.0.1:0"],
                ["--trust-bundle", &at("no-root.pem")],
                ["--state", &at("p")],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
            "no-root.pem",
        ),
    ] {
        let output = Command::new(binary(program)?).args(&arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{program} {arguments:?}: {said}");
        assert!(
            said.contains(named) && !said.contains("panicked"),
            "{program}: {said}"
        );
    }
    Ok(())
}
