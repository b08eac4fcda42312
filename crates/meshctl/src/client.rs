//! The Admin service of the mesh that is meant: over its local socket, or of every replica of a control plane on
//! Kubernetes, with their answers put together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mesh_api::wire::admin::admin_client::AdminClient;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Status};

pub(crate) use crate::replicas::Admin;

use crate::error::{Failure, Outcome};
use crate::mesh_home::{Mesh, none_runs};

/// How long connecting may take, and how long an answer.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(20);
/// A list of many documents is large.
pub(crate) const MESSAGE_BYTES: usize = 256 << 20;

/// Connects to the control plane of a mesh.
pub(crate) async fn connect(mesh: &Mesh) -> Outcome<Admin> {
    let socket = mesh.socket();
    if !socket.exists() {
        return Err(none_runs());
    }
    connect_to(&socket).await.map_err(|error| {
        Failure::new(format!("mesh {} does not run: {error:#}", mesh.name))
            .hint("start it with `meshctl up DIR`, or another one with `meshctl demo`")
    })
}

/// Connects to the Admin service at a socket. Watching goes on for ever, so answers are bounded by [`answer`].
pub(crate) async fn connect_to(socket: &Path) -> anyhow::Result<Admin> {
    let path = socket.to_owned();
    // The socket is the address; the authority is only there because HTTP wants one.
    let channel = Endpoint::from_static("http://control.local")
        .connect_timeout(CONNECT)
        .connect_with_connector(tower::service_fn(move |_: Uri| open(path.clone())))
        .await
        .map_err(|error| anyhow::anyhow!("cannot connect to {}: {}", socket.display(), innermost(&error)))?;
    let client = AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    Ok(Admin::of(vec![client]))
}

async fn open(path: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(path).await?))
}

/// The first cause of an error.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Waits for an answer, in bounded time.
pub(crate) async fn answer<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Outcome<T> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => Err(Failure::new(format!(
            "the control plane did not answer within {} s",
            ANSWER.as_secs()
        ))
        .hint("`meshctl check` finds what is wrong")),
    }
}

/// What the control plane refused, in its own words.
pub(crate) fn refused(status: &Status) -> Failure {
    let message = status.message();
    match status.code() {
        Code::Unavailable => Failure::new(format!("the control plane went away: {message}"))
            .hint("`meshctl check` finds what is wrong"),
        Code::Unimplemented => Failure::new("the control plane does not know this request")
            .hint("`meshctl version` shows whether meshctl and the control plane fit together"),
        code if message.is_empty() => Failure::new(format!("the control plane refused: {code}")),
        _ => Failure::new(message),
    }
}
