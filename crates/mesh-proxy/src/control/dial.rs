//! Connections to the control plane: TLS 1.3, its certificate checked against the pinned trust bundle.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::tls::{self, Credentials, CredentialsError};

/// The DNS name in the control plane's certificate. Workloads' certificates have none, so that no workload can pose.
const SERVER_NAME: &str = "mesh-control";
/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it is alive, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The way to the control plane.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Host and port.
    address: String,
    /// PEM file of the roots that vouch for the control plane; read at each connect, so that it may be replaced.
    trust_bundle: PathBuf,
}

/// Why the control plane can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The trust bundle can't be used.
    #[error("trust bundle {path}: {reason}")]
    TrustBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration of TLS can't be made.
    #[error(transparent)]
    Tls(#[from] CredentialsError),
    /// Nobody answers, or not the control plane.
    #[error("control plane at {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why, down to the cause.
        reason: String,
    },
}

impl Dialer {
    /// To `address` (host:port), whose certificate the roots in the PEM file vouch for.
    pub fn new(address: String, trust_bundle: PathBuf) -> Self {
        Self {
            address,
            trust_bundle,
        }
    }

    /// Connects, with the credentials if there are any.
    ///
    /// # Errors
    /// When the trust bundle can't be read, nobody answers, or whoever answers is not the control plane.
    pub async fn connect(&self, credentials: Option<&Credentials>) -> Result<Channel, DialError> {
        let connector = TlsConnector::from(Arc::new(self.client_config(credentials)?));
        let address = self.address.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let connected = tokio::time::timeout(CONNECT, connect(&connector, &address)).await;
                connected
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://mesh-control")
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| DialError::Connect {
                address: self.address.clone(),
                reason: causes(&error),
            })
    }

    /// The roots of the file.
    ///
    /// # Errors
    /// When it can't be read or holds none.
    pub fn roots(&self) -> Result<Vec<CertificateDer<'static>>, DialError> {
        let wrong = |reason: String| DialError::TrustBundle {
            path: self.trust_bundle.clone(),
            reason,
        };
        let roots: Vec<_> = CertificateDer::pem_file_iter(&self.trust_bundle)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(error.to_string()))?;
        if roots.is_empty() {
            return Err(wrong("it holds no certificate in PEM".to_owned()));
        }
        Ok(roots)
    }

    fn client_config(&self, credentials: Option<&Credentials>) -> Result<ClientConfig, DialError> {
        let mut roots = match (self.roots(), credentials) {
            (Ok(roots), _) => tls::root_store(roots)?,
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => {
                tracing::warn!("{error}: trusting the roots that came with the certificate");
                RootCertStore::empty()
            }
        };
        // After a rotation of the root, the bundle that came with the credentials is newer than the file.
        roots.roots.extend(
            credentials
                .into_iter()
                .flat_map(|credentials| credentials.roots().roots.clone()),
        );
        let builder = tls::client_builder()?.with_root_certificates(roots);
        let mut config = match credentials {
            Some(credentials) => builder.with_client_cert_resolver(credentials.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

async fn connect(
    connector: &TlsConnector,
    address: &str,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// An error and its causes on one line, each said once.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
