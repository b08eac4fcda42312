//! A network namespace of the bench's own: free ports for sure, no firewall rules of the machine on the way, and a
//! congestion control that suits a loopback device.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use rustix::thread::{UnshareFlags, unshare_unsafe};

const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Moves this thread, and what it starts from now on, into a new network namespace with a loopback device. Must be
/// called before any other thread starts. Needs root and `ip`.
pub(crate) fn enter() -> Result<()> {
    // Asked first, so that nothing has changed yet if it is missing.
    run_ip(&["-V"])?;
    // SAFETY: file descriptors are not unshared, which is what the function's contract is about.
    #[expect(
        unsafe_code,
        reason = "the only way into a namespace without a process of its own"
    )]
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("cannot make a network namespace (needs root)")?;
    run_ip(&["link", "set", "lo", "up"])?;
    // BBR paces: on a loopback device it only adds delay. Reno is always there.
    fs::write(CONGESTION_CONTROL, "reno").with_context(|| format!("cannot write {CONGESTION_CONTROL}"))
}

/// The congestion control in force.
pub(crate) fn congestion_control() -> String {
    fs::read_to_string(CONGESTION_CONTROL)
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn run_ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("cannot run ip (Debian: apt install iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
