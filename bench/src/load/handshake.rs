//! TLS as another sidecar speaks it, with a certificate of one's own.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::CONNECT;

/// Whoever connects with one certificate.
#[derive(Clone)]
pub(crate) struct Prover(TlsConnector);

impl Prover {
    /// Reads key and chain out of a PEM file. Sessions are resumed only if `resumes`.
    pub(super) fn new(file: &Path, resumes: bool) -> Result<Self> {
        let at = || format!("cannot read a key and a chain out of {}", file.display());
        let key = PrivateKeyDer::from_pem_file(file).with_context(at)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).with_context(at)?.collect();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("cannot speak TLS 1.3")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believer(provider)))
            .with_client_auth_cert(chain.with_context(at)?, key)
            .context("key and chain do not go together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Connects.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let connecting = async {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            self.0
                .connect(ServerName::IpAddress(to.ip().into()), stream)
                .await
        };
        timeout(CONNECT, connecting)
            .await
            .with_context(|| format!("no handshake with {to} within 5 s"))?
            .with_context(|| format!("no handshake with {to}"))
    }

    /// Connects and leaves.
    pub(super) async fn shake_hands(&self, to: SocketAddr) -> Result<()> {
        let mut stream = self.connect(to).await?;
        stream.shutdown().await.context("cannot say goodbye")
    }
}

/// Believes any certificate: whom the bench talks to is what it has started itself.
#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
