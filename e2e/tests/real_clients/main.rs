//! The official clients, unmodified, on real model servers through two sidecars with mutual TLS between them: what they
//! are answered, and that model, version and operation are seen on both sides.
//!
//! Each test runs a mesh of its own with `meshctl up`. The programs of this build are used, which cargo does not build
//! by itself for another crate's tests: `./test` does, or `cargo build --workspace --bins`.

#[path = "../kit/mod.rs"]
mod kit;
mod mesh;
mod mlserver;
mod openai;
mod seen;
mod tensorflow;
mod triton;
