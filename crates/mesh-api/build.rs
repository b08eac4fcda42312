//! Compiles the gRPC contracts with protox, so that building needs no protoc.

use std::path::Path;

const CONTRACTS: [&str; 4] = [
    "mesh/config/v1/config.proto",
    "mesh/identity/v1/identity.proto",
    "mesh/telemetry/v1/telemetry.proto",
    "mesh/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked when it runs: what was compiled in another checkout must not read the contracts of that one.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets no CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(CONTRACTS, [&root])?;
    // `Delta` and friends hold maps; ordered ones make equal messages equal bytes.
    tonic_prost_build::configure()
        .btree_map(".")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
