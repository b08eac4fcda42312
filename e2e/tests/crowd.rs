//! Many idle connections and open streams at once: none fails, and none costs much. The full number of the acceptance,
//! 20,000 and 2,000, is what `cargo run -p mesh-e2e --bin crowd` does.

use anyhow::Result;
use mesh_e2e::crowd::gather;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections_fails_nowhere_and_costs_little() -> Result<()> {
    let report = gather(3_000, 300).await?;
    eprintln!("{report}");
    // 5 to 6 KB in the profile dev, resident, with what the requests themselves leave behind; mesh-bench's bar is 6 KB.
    assert!(report.bytes_per_idle < 8_000.0, "{report}");
    assert!(report.bytes_per_stream < 100_000.0, "{report}");
    Ok(())
}
