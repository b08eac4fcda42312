//! Calls to the API server: each bounded in time, and its failure in few words.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::core::Status;

/// How long the API server may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server refuses.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// It can't be reached, or what it says can't be read.
    #[error("{0}")]
    Failed(kube::Error),
    /// It does not answer.
    #[error("the API server does not answer within {0:.0?}")]
    Silent(Duration),
}

impl ApiError {
    /// What the API server says, when it refuses.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Refused(status) => Some(status),
            Self::Failed(_) | Self::Silent(_) => None,
        }
    }
}

/// Waits for an answer, but not longer than this.
///
/// # Errors
/// When there is none, or none that helps.
pub async fn within<T>(
    patience: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(ApiError::Refused(status)),
        Ok(Err(error)) => Err(ApiError::Failed(error)),
        Err(_) => Err(ApiError::Silent(patience)),
    }
}

/// Waits for an answer as long as is usual.
///
/// # Errors
/// When there is none, or none that helps.
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    within(PATIENCE, call).await
}

/// A client of the API server of this pod's Kubernetes, or of the kubeconfig that `KUBECONFIG` names.
///
/// # Errors
/// When there is neither.
pub async fn client() -> Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("find the API server: neither a pod's service account nor a kubeconfig is there")?;
    config.connect_timeout = Some(PATIENCE);
    Client::try_from(config).context("use the API server")
}
