//! Flags that are taken, flags that are refused, and what is said when nft fails.

use super::*;

fn parse(flags: &[&str]) -> Result<Init, clap::Error> {
    Init::try_parse_from(["init"].iter().chain(flags))
}

fn printed(flags: &[&str]) -> Result<String> {
    let mut out = Vec::new();
    parse(flags)?.run(&mut out)?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn the_rules_are_printed_as_nft_would_be_given_them() {
    let flags = [
        "--dry-run",
        "--proxy-uid=2102",
        "--skip-uid=0",
        "--skip-inbound-port=22,9000-9010",
        "--skip-inbound-port=15010",
        "--skip-outbound-port=5432",
        "--skip-cidr=169.254.169.254,fd00::/8",
    ];
    insta::assert_snapshot!(printed(&flags).unwrap());
    insta::assert_snapshot!("removed", printed(&["--dry-run", "--remove"]).unwrap());
}

#[test]
fn bad_flags_are_refused() {
    for flags in [
        &[][..],
        &["--dry-run"],
        &["--proxy-uid=root"],
        &["--proxy-uid=-1"],
        &["--proxy-uid=4294967296"],
        &["--proxy-uid=1", "--inbound-port=0"],
        &["--proxy-uid=1", "--outbound-port=65536"],
        &["--proxy-uid=1", "--inbound-port=15001"],
        &["--proxy-uid=1", "--skip-uid=web"],
        &["--proxy-uid=1", "--skip-inbound-port=0"],
        &["--proxy-uid=1", "--skip-outbound-port=10-9"],
        &["--proxy-uid=1", "--skip-outbound-port="],
        &["--proxy-uid=1", "--skip-cidr=10.0.0.0/40"],
        &["--proxy-uid=1", "--skip-cidr=10.1.2.3/8"],
        &["--proxy-uid=1", "more"],
    ] {
        let flags: Vec<_> = flags.iter().copied().chain(["--nft=/nonexistent"]).collect();
        let refused = printed(&flags).unwrap_err().to_string();
        assert!(!refused.contains("no such program"), "{flags:?}: {refused}");
    }
}

#[test]
fn a_failure_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let fails = |says: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let nft = folder.path().join("nft");
        std::fs::write(
            &nft,
            format!("#!/bin/sh\ncat >/dev/null\necho '{says}' >&2\nexit 1\n"),
        )
        .unwrap();
        std::fs::set_permissions(&nft, std::fs::Permissions::from_mode(0o755)).unwrap();
        printed(&["--remove", "--nft", nft.to_str().unwrap()])
            .unwrap_err()
            .to_string()
    };
    for (says, advice) in [
        (
            "netlink: Error: cache initialization failed: Operation not permitted",
            "CAP_NET_ADMIN",
        ),
        ("Error: Could not process rule: Operation not supported", "kernel"),
        ("Error: syntax error", "see what it says"),
    ] {
        let said = fails(says);
        assert!(said.contains(advice) && said.contains(says), "{said}");
    }
    let missing = printed(&["--remove", "--nft=/nonexistent/nft"])
        .unwrap_err()
        .to_string();
    assert!(missing.contains("apt-get install nftables"), "{missing}");
}
