//! The nftables rules that lead a network namespace's TCP connections to its sidecar, as the text of one transaction.
//!
//! Everything stands in one table of its own, for IPv4 and IPv6 alike. A transaction replaces it as a whole or changes
//! nothing, so that writing the rules twice is writing them once, and nobody's connection ever meets half of them.

use std::fmt::{self, Write as _};

use mesh_api::network::{Cidr, Ports};

/// The table's name, in the family `inet`.
pub const TABLE: &str = "mesh_proxy";
/// Where DNS is asked over TCP; over UDP nothing is led anywhere.
const DNS: Ports = Ports::one(53);

/// What is led to the sidecar, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where the sidecar takes connections from others.
    pub inbound_port: u16,
    /// Where the sidecar takes connections to others.
    pub outbound_port: u16,
    /// The user that the sidecar runs as.
    pub proxy_uid: u32,
    /// More users whose connections are left alone.
    pub skip_uids: Vec<u32>,
    /// Ports of this namespace that others reach directly.
    pub skip_inbound_ports: Vec<Ports>,
    /// Ports elsewhere that are reached directly.
    pub skip_outbound_ports: Vec<Ports>,
    /// Networks that are reached directly.
    pub skip_cidrs: Vec<Cidr>,
}

impl Rules {
    /// The transaction that puts these rules in place of whatever rules there were.
    pub fn install(&self) -> String {
        let mut text = remove();
        // Writing to a String can't fail.
        let _ = write!(text, "{self}");
        text
    }

    /// Connections that processes of this namespace make.
    fn outbound(&self) -> Vec<String> {
        let mut rules = vec!["meta l4proto != tcp return".to_owned()];
        let mut uids = self.skip_uids.clone();
        uids.push(self.proxy_uid);
        uids.sort_unstable();
        uids.dedup();
        rules.extend(set(&uids).map(|uids| format!("meta skuid {uids} return")));
        rules.push("oifname \"lo\" return".to_owned());
        let ports: Vec<_> = [DNS].iter().chain(&self.skip_outbound_ports).copied().collect();
        rules.extend(set(&ports).map(|ports| format!("tcp dport {ports} return")));
        for (family, is_v4) in [("ip", true), ("ip6", false)] {
            let cidrs: Vec<_> = self
                .skip_cidrs
                .iter()
                .filter(|cidr| cidr.address().is_ipv4() == is_v4)
                .collect();
            rules.extend(set(&cidrs).map(|cidrs| format!("{family} daddr {cidrs} return")));
        }
        rules.push(to_sidecar(self.outbound_port));
        rules
    }

    /// Connections that others make to this namespace.
    fn inbound(&self) -> Vec<String> {
        let mut rules = vec![
            "meta l4proto != tcp return".to_owned(),
            "iifname \"lo\" return".to_owned(),
            // What is only routed through this machine is not its own.
            "fib daddr type != local return".to_owned(),
        ];
        rules.extend(set(&self.skip_inbound_ports).map(|ports| format!("tcp dport {ports} return")));
        rules.push(to_sidecar(self.inbound_port));
        rules
    }
}

/// The table, as `nft -f` reads it.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (name, hook, rules) in [
            ("outbound", "output", self.outbound()),
            ("inbound", "prerouting", self.inbound()),
        ] {
            writeln!(f, "  chain {name} {{")?;
            writeln!(f, "    type nat hook {hook} priority -100; policy accept;")?;
            for rule in rules {
                writeln!(f, "    {rule}")?;
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

/// The transaction that leaves no rule of ours. What is declared first can be deleted whether it was there or not.
pub fn remove() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// What leads a connection to a port of the sidecar.
fn to_sidecar(port: u16) -> String {
    format!("meta l4proto tcp redirect to :{port}")
}

/// A set as nft writes it; none: there is nothing in it.
fn set<T: fmt::Display>(elements: &[T]) -> Option<String> {
    let words: Vec<_> = elements.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| format!("{{ {} }}", words.join(", ")))
}

#[cfg(test)]
mod tests;
