//! The mesh that most scenarios run on: Service `fraud`, split over `stable` and `canary`, and some callers of it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::documents::{backend, caller, route, routed, service, workload};
use crate::mesh::{Mesh, Options};
use crate::net::{free_port, local};
use crate::server::Server;

/// The header that keeps a user on one backend.
pub const KEY: &str = "x-user-id";
/// The path of an inference.
pub const INFER: &str = "/v2/models/fraud/infer";
/// A body for it.
pub const TENSOR: &str = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]}"#;

/// A mesh with a split, and the servers behind it.
#[derive(Debug)]
pub struct Canary {
    /// The mesh.
    pub mesh: Mesh,
    /// The server behind `stable`.
    pub stable: Server,
    /// The server behind `canary`.
    pub canary: Server,
    callers: Vec<(String, SocketAddr)>,
}

impl Canary {
    /// Starts servers, sidecars and so many callers, with these parts for `stable` and `canary`.
    ///
    /// # Errors
    /// When something does not get ready.
    pub async fn start(callers: usize, weights: [u32; 2]) -> Result<Self> {
        Self::start_with(callers, weights, &[], &Options::default()).await
    }

    /// As [`start`](Self::start), with more documents and other options.
    ///
    /// # Errors
    /// When something does not get ready.
    pub async fn start_with(
        callers: usize,
        weights: [u32; 2],
        more: &[Value],
        options: &Options,
    ) -> Result<Self> {
        let (stable, canary) = (Server::start("stable").await?, Server::start("canary").await?);
        let mut documents = vec![routed("fraud", PROTOCOL), split(weights)];
        for server in [&stable, &canary] {
            documents.push(service(server.name(), PROTOCOL));
            documents.push(workload(
                server.name(),
                server.name(),
                server.port(),
                free_port()?,
                PROTOCOL,
            ));
        }
        let mut calling = Vec::new();
        for number in 0..callers {
            let (name, port) = (format!("caller-{number}"), free_port()?);
            documents.push(caller(&name, &[(port, "fraud")]));
            calling.push((name, local(port)));
        }
        documents.extend_from_slice(more);
        Ok(Self {
            mesh: Mesh::start_with(&documents, options).await?,
            stable,
            canary,
            callers: calling,
        })
    }

    /// Where a caller reaches `fraud` through its sidecar.
    ///
    /// # Errors
    /// When there is no such caller.
    pub fn caller(&self, number: usize) -> Result<SocketAddr> {
        let (_, address) = self.callers.get(number).context("there is no such caller")?;
        Ok(*address)
    }

    /// Gives `stable` and `canary` other parts, and waits until every sidecar has them.
    ///
    /// # Errors
    /// When one does not get them.
    pub async fn shift(&self, stable: u32, canary: u32) -> Result<()> {
        let version = self
            .mesh
            .set_split("fraud", &[("stable", stable), ("canary", canary)])
            .await?;
        self.mesh.everyone_at(version).await
    }
}

const PROTOCOL: &str = "mesh.dev/open-inference";

/// The ModelRoute of `fraud`, with these parts for `stable` and `canary`.
pub fn split([stable, canary]: [u32; 2]) -> Value {
    route(
        "fraud",
        &json!([{
            "matches": [{"model": "fraud"}],
            "split": {
                "by": {"header": KEY},
                "backends": [backend("stable", stable), backend("canary", canary)],
            },
        }]),
    )
}
