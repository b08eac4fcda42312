//! Deltas off the wire: arbitrary bytes are an error or a Delta, and a Delta that is taken says the same when it is
//! sent on; applied to a snapshot it is refused or leads to one that a full Delta rebuilds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_api::snapshot::Snapshot;
use mesh_api::wire::{self, config};
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(message) = config::Delta::decode(data) else { return };
    let Ok(delta) = wire::delta(message) else { return };
    let again = wire::delta(config::Delta::from(&delta)).expect("what was taken once is taken again");
    assert_eq!(again, delta);
    let Ok(snapshot) = Snapshot::after(None, delta.clone()) else { return };
    let rebuilt = Snapshot::after(None, snapshot.since(None)).expect("a full delta rebuilds its snapshot");
    assert_eq!(rebuilt, snapshot);
    let _ = Snapshot::after(Some(&snapshot), delta);
});
