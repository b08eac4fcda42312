//! Compiles the gRPC contracts with protox, so that building needs no protoc.

use std::path::Path;

/// The contracts that stand alone, and the one that takes messages from them.
const ALONE: [&str; 3] = [
    "mesh/config/v1/config.proto",
    "mesh/identity/v1/identity.proto",
    "mesh/telemetry/v1/telemetry.proto",
];
const ADMIN: [&str; 1] = ["mesh/admin/v1/admin.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked when it runs: what was compiled in another checkout must not read the contracts of that one.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets no CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    // `Delta` and friends hold maps; ordered ones make equal messages equal bytes.
    let generate = || {
        tonic_prost_build::configure()
            .btree_map(".")
            .build_transport(false)
    };
    // First, because it writes a file for what it only takes from others, too, with nothing in it.
    generate()
        .extern_path(".mesh.config.v1", "crate::wire::config")
        .compile_fds(protox::compile(ADMIN, [&root])?)?;
    generate().compile_fds(protox::compile(ALONE, [&root])?)?;
    Ok(())
}
