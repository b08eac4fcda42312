//! The control plane's Admin service, over its local socket.

use std::path::Path;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use mesh_api::wire::admin::{CreateJoinTokenRequest, admin_client::AdminClient};
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};

use crate::local::block_on;

/// A secret with which the sidecar of `workload` (namespace/name) gets its first certificate.
pub(super) fn join_token(socket: &Path, workload: &str) -> Result<String> {
    let path = socket.to_owned();
    let token = block_on(async {
        // The socket is the address; the authority is only there because HTTP wants one.
        let channel = Endpoint::from_static("http://control.local")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            }))
            .await?;
        let request = CreateJoinTokenRequest {
            workload: workload.to_owned(),
            ttl_seconds: 60,
        };
        Ok::<_, anyhow::Error>(
            AdminClient::new(channel)
                .create_join_token(request)
                .await?
                .into_inner()
                .token,
        )
    })?;
    token.with_context(|| format!("cannot get a join token for {workload} at {}", socket.display()))
}
