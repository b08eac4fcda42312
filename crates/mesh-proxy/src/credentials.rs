//! How the proxy comes by its certificate: loaded from its state, obtained with a join token and renewed with itself, or,
//! on Kubernetes, obtained each time with the pod's service account token.
//!
//! Each certificate has a new key, which never leaves this process but for its own state directory. Key, chain and
//! roots are checked together and swapped together; whatever goes wrong, the credentials before stay.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use tokio::sync::watch;

pub mod join;
pub mod renew;
pub mod store;

use crate::config::Config;
use crate::control::backoff::Backoff;
use crate::control::dial::{DialError, Dialer};
use crate::observe::Observe;
use crate::observe::random::Random;
use crate::state::{StateDir, StateError};
use crate::tls::{Credentials, CredentialsCell, CredentialsError};

/// Keeps a proxy's credentials fresh.
pub struct Keeper {
    /// The workload the proxy stands before.
    pub workload: ObjectName,
    /// Who it is; none: asked of the control plane.
    pub identity: Option<Identity>,
    /// What it proves itself with.
    pub proof: Proof,
    /// The way to the control plane.
    pub dialer: Arc<Dialer>,
    /// Where credentials are kept.
    pub state: StateDir,
    /// Where handshakes find them.
    pub cell: Arc<CredentialsCell>,
    /// Told of each change: the generation; 0: none yet.
    pub renewed: watch::Sender<u64>,
    /// What a certificate should have come with; empty: nobody said.
    pub wanted: watch::Receiver<String>,
    /// What is counted.
    pub observe: Arc<Observe>,
}

/// What a proxy proves itself with when it asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The certificate at hand; the first time, the join token in the file.
    Joined(Option<PathBuf>),
    /// Each time, the pod's service account token in the file, which is replaced long before it expires.
    ServiceAccount(PathBuf),
}

impl Proof {
    /// As the proxy was started.
    pub fn of(config: &Config) -> Self {
        match &config.service_account_token_file {
            Some(file) => Self::ServiceAccount(file.clone()),
            None => Self::Joined(config.token_file.clone()),
        }
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// There is nothing to prove the workload's identity with.
    #[error(
        "there is no valid certificate and no join token: make one with the control plane and start with --token-file"
    )]
    NoProof,
    /// The token file can't be read.
    #[error("token {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The control plane can't be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The control plane refuses.
    #[error("the control plane refuses: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<tonic::Status>),
    /// The key or the request could not be made.
    #[error("certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// The control plane takes too long.
    #[error("the control plane does not answer")]
    Timeout,
    /// What came is not this proxy's.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The control plane speaks of an identity that is none.
    #[error("the control plane's answer: {0}")]
    Identity(#[from] mesh_api::identity::IdentityError),
    /// The control plane certified somebody else.
    #[error("the control plane certified {certified}, not {wanted}")]
    Other {
        /// Who the proxy is.
        wanted: Identity,
        /// Who was certified.
        certified: String,
    },
}

impl From<tonic::Status> for ObtainError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl Keeper {
    /// Takes the credentials of the state directory, if they are there, whole, this proxy's, and not ended.
    ///
    /// # Errors
    /// When others may read them: such a key is no secret.
    pub fn load(&mut self) -> Result<(), StateError> {
        match store::load(&self.state) {
            Ok(Some(credentials)) => {
                let other = self
                    .identity
                    .as_ref()
                    .filter(|wanted| **wanted != credentials.identity);
                if let Some(wanted) = other {
                    tracing::warn!(
                        "the saved certificate is {}'s, not {wanted}'s: not used",
                        credentials.identity
                    );
                    return Ok(());
                }
                tracing::info!(identity = %credentials.identity, "using the saved certificate");
                self.identity = Some(credentials.identity.clone());
                self.swap(credentials);
            }
            Ok(None) => {}
            Err(store::LoadError::State(error)) => return Err(error),
            Err(error) => tracing::warn!("the saved certificate is not used: {error}"),
        }
        Ok(())
    }

    /// From now on, handshakes use these.
    fn swap(&self, credentials: Credentials) {
        let expiry = crate::observe::process::unix_seconds(credentials.not_after);
        self.observe.handles.certificate_expiry.set(expiry);
        let generation = credentials.generation;
        self.cell.store(Some(Arc::new(credentials)));
        self.renewed.send_replace(generation);
    }
}
