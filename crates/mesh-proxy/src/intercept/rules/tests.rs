//! The text of the rules, and words that are no ports and networks.

use super::*;

fn simplest() -> Rules {
    Rules {
        inbound_port: 15006,
        outbound_port: 15001,
        proxy_uid: 2102,
        skip_uids: vec![],
        skip_inbound_ports: vec![],
        skip_outbound_ports: vec![],
        skip_cidrs: vec![],
    }
}

#[test]
fn the_simplest_rules() {
    insta::assert_snapshot!(simplest().install());
}

#[test]
fn rules_with_everything_left_out_that_can_be() {
    let words = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
    let rules = Rules {
        skip_uids: vec![0, 2102, 33],
        skip_inbound_ports: words(&["22", "9000-9010"]),
        skip_outbound_ports: words(&["5432", "6000-6001"]),
        skip_cidrs: ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:db8::1", "0.0.0.0/0"]
            .iter()
            .map(|word| word.parse().unwrap())
            .collect(),
        ..simplest()
    };
    insta::assert_snapshot!(rules.install());
}

#[test]
fn removing_deletes_the_table_and_nothing_else() {
    insta::assert_snapshot!(remove());
}
