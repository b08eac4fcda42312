//! Many idle connections and open streams at once: none fails, and none costs much. The full number of the acceptance,
//! 20,000 and 2,000, is what `cargo run -p mesh-e2e --bin crowd` does.

use anyhow::Result;
use mesh_e2e::crowd::gather;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections_fails_nowhere_and_costs_little() -> Result<()> {
    let report = gather(3_000, 300).await?;
    eprintln!("{report}");
    // Against growth: 27.5 KB when this was written, in the profile dev. What it is to become is held by mesh-bench's bars.
    assert!(report.bytes_per_idle < 36_000.0, "{report}");
    assert!(report.bytes_per_stream < 100_000.0, "{report}");
    Ok(())
}
