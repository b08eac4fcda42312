//! Mutual TLS between sidecars: one generation of [`Credentials`], the rustls configurations made from it, and the
//! checks that turn a certificate into an [`Identity`].
//!
//! TLS 1.3 only, always with certificates on both sides. Names in DNS form and common names mean nothing here: a leaf
//! speaks for the one SPIFFE identity it holds, or for nobody.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use mesh_api::identity::{Identity, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, CommonState, ConfigBuilder, RootCertStore, ServerConfig,
    SupportedCipherSuite, WantsVerifier,
};

mod buffers;
mod handshake;
mod leaf;
mod records;
mod stream;
mod verify;

pub use leaf::{Leaf, LeafError};
pub use stream::TlsStream;
use verify::{ClientVerifier, Presented, ServerVerifier};

/// The credentials of the moment; none before the first certificate, when every handshake is refused.
pub type CredentialsCell = ArcSwapOption<Credentials>;

/// How many sessions a client remembers for each endpoint identity.
const CLIENT_SESSIONS: usize = 64;

/// Which protocols a client offers, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// HTTP/2, or else HTTP/1.1.
    Any,
    /// None: opaque bytes.
    Opaque,
}

impl Alpn {
    fn protocols(self) -> Vec<Vec<u8>> {
        let (http1, http2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        match self {
            Self::Http1 => vec![http1],
            Self::Http2 => vec![http2],
            Self::Any => vec![http2, http1],
            Self::Opaque => Vec::new(),
        }
    }
}

/// A protocol that two sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// By its name in a handshake, of which [`Alpn`] has no others.
    fn of(name: &[u8]) -> Self {
        if name == b"h2" { Self::Http2 } else { Self::Http1 }
    }
}

/// One generation of what a proxy proves itself with and trusts: key, chain and roots, which change together.
pub struct Credentials {
    /// Who the proxy is.
    pub identity: Identity,
    /// Unique in this process, and larger than that of earlier ones.
    pub generation: u64,
    /// When they came. That is later than the leaf starts to hold, which allows for clocks that go wrong.
    pub came: SystemTime,
    /// When the leaf starts to hold.
    pub not_before: SystemTime,
    /// When the leaf ends.
    pub not_after: SystemTime,
    /// The leaf's serial number, in hexadecimal.
    pub serial: String,
    /// What the control plane calls the root that signed and those that are trusted; empty: it did not say, or they were
    /// saved.
    pub trust: String,
    presented: Arc<Presented>,
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
    client: ConfigBuilder<ClientConfig, WantsVerifier>,
    clients: Mutex<HashMap<(Identity, Alpn), Arc<ClientConfig>>>,
}

/// Why a key, chain and roots can't be credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no certificate at all.
    #[error("certificate chain: it is empty")]
    NoChain,
    /// A root can't be used.
    #[error("trust bundle: {0}")]
    Root(rustls::Error),
    /// The trust bundle is empty.
    #[error("trust bundle: it holds no certificate")]
    NoRoots,
    /// The leaf names nobody, or too many.
    #[error("certificate: {0}")]
    Leaf(#[from] LeafError),
    /// The leaf is somebody else's.
    #[error("certificate: it is {found}'s, not {wanted}'s")]
    OtherIdentity {
        /// Who the proxy is.
        wanted: Identity,
        /// Whom the leaf speaks for.
        found: Identity,
    },
    /// The identity is of another mesh.
    #[error("identity {identity}: it is not of trust domain {trust_domain}")]
    OtherTrustDomain {
        /// Who the proxy is.
        identity: Identity,
        /// The mesh's.
        trust_domain: TrustDomain,
    },
    /// The roots do not vouch for the leaf now.
    #[error("certificate: the trust bundle does not vouch for it: {0}")]
    Untrusted(rustls::Error),
    /// The key can't be used, or belongs to another certificate.
    #[error("private key: {0}")]
    Key(rustls::Error),
    /// A configuration could not be made.
    #[error("tls: {0}")]
    Tls(rustls::Error),
}

impl Credentials {
    /// Checks that the roots vouch for the chain now, that the key is the leaf's, and that the leaf is `identity`'s and
    /// of the mesh's trust domain.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn new(
        identity: Identity,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, CredentialsError> {
        if identity.trust_domain != *trust_domain {
            let trust_domain = trust_domain.clone();
            return Err(CredentialsError::OtherTrustDomain {
                identity,
                trust_domain,
            });
        }
        let leaf = Leaf::read(chain.first().ok_or(CredentialsError::NoChain)?)?;
        if leaf.identity != identity {
            let found = leaf.identity;
            return Err(CredentialsError::OtherIdentity {
                wanted: identity,
                found,
            });
        }
        let provider = provider();
        let roots = Arc::new(root_store(roots)?);
        vouched_for(&chain, &roots, &provider)?;
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(CredentialsError::Key)?;
        let presented = Arc::new(Presented(Arc::new(key)));
        let server = server_config(&provider, &roots, &presented, trust_domain)?;
        Ok(Self {
            identity,
            generation: next_generation(),
            came: SystemTime::now(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial: leaf.serial,
            trust: String::new(),
            presented,
            roots,
            server: Arc::new(server),
            client: client_builder()?,
            clients: Mutex::default(),
        })
    }

    /// How listeners answer: they ask for a certificate of the trust domain with one well-formed identity.
    ///
    /// Sessions are resumed from tickets whose keys live and die with these credentials.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// How to connect to an endpoint that must be `expected`: the handshake fails with any other certificate.
    ///
    /// Made once for each pair, so that sessions are resumed with that identity only. The server name of a connection
    /// is not sent and not looked at.
    pub fn client_config(&self, expected: &Identity, alpn: Alpn) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let config = clients
            .entry((expected.clone(), alpn))
            .or_insert_with(|| Arc::new(self.new_client(expected, alpn)));
        Arc::clone(config)
    }

    fn new_client(&self, expected: &Identity, alpn: Alpn) -> ClientConfig {
        let verifier = ServerVerifier::new(Arc::clone(&self.roots), expected.clone(), provider());
        let mut config = self
            .client
            .clone()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.presented) as _);
        config.alpn_protocols = alpn.protocols();
        config.enable_sni = false;
        // Records are ours after the handshake (`records`).
        config.enable_secret_extraction = true;
        config.resumption = rustls::client::Resumption::in_memory_sessions(CLIENT_SESSIONS);
        config
    }

    /// The chain, leaf first. Public.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.presented.0.cert
    }

    /// What certificates are checked against.
    pub fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    /// What a client of something else than a sidecar, such as the control plane, proves itself with.
    pub fn resolver(&self) -> Arc<dyn rustls::client::ResolvesClientCert> {
        Arc::clone(&self.presented) as _
    }

    /// Whether the leaf holds at that time.
    pub fn valid_at(&self, now: SystemTime) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({}, serial {}, generation {})",
            self.identity, self.serial, self.generation
        )
    }
}

/// Who the other side of a finished handshake is: the identity of its leaf, as long as the leaf holds.
///
/// A resumed session brings the leaf of the first handshake along, which may have ended since: that is nobody.
pub fn peer_identity(connection: &CommonState) -> Option<Identity> {
    let leaf = Leaf::read(connection.peer_certificates()?.first()?).ok()?;
    (SystemTime::now() < leaf.not_after).then_some(leaf.identity)
}

/// A handshake's result in one word, for metrics.
pub fn result(handshake: Result<(), &std::io::Error>) -> &'static str {
    let Err(error) = handshake else { return "ok" };
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::NoCertificatesPresented) => "no-certificate",
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(_))) => "other-identity",
        Some(rustls::Error::InvalidCertificate(_)) => "untrusted",
        Some(rustls::Error::AlertReceived(_)) => "refused-by-peer",
        Some(_) => "protocol",
        None if error.kind() == std::io::ErrorKind::TimedOut => "timeout",
        None => "broken-off",
    }
}

/// The cryptography everything here uses. Between AES with keys of 128 and of 256 bits it asks for the first: four rounds
/// fewer for each block of each body, and strong enough (RFC 8446, §9.1, makes it the one that everybody must have).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> = std::sync::LazyLock::new(|| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        let is_other = |suite: &SupportedCipherSuite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider.cipher_suites.sort_by_key(is_other);
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// Roots to check against.
///
/// # Errors
/// When there is none, or one can't be read.
pub fn root_store(roots: Vec<CertificateDer<'static>>) -> Result<RootCertStore, CredentialsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(CredentialsError::Root)?;
    }
    if store.is_empty() {
        return Err(CredentialsError::NoRoots);
    }
    Ok(store)
}

/// A client configuration's beginning: our cryptography, TLS 1.3.
///
/// # Errors
/// Never in practice: when the cryptography lacks TLS 1.3.
pub fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, CredentialsError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(CredentialsError::Tls)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    presented: &Arc<Presented>,
    trust_domain: &TrustDomain,
) -> Result<ServerConfig, CredentialsError> {
    let verifier = ClientVerifier::new(roots, trust_domain.clone(), provider)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(CredentialsError::Tls)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::clone(presented) as _);
    config.alpn_protocols = Alpn::Any.protocols();
    // Records are ours after the handshake (`records`).
    config.enable_secret_extraction = true;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(CredentialsError::Tls)?;
    Ok(config)
}

fn vouched_for(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
) -> Result<(), CredentialsError> {
    let [leaf, intermediates @ ..] = chain else {
        return Err(CredentialsError::NoChain);
    };
    let leaf = ParsedCertificate::try_from(leaf).map_err(CredentialsError::Untrusted)?;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &leaf,
        roots,
        intermediates,
        UnixTime::now(),
        provider.signature_verification_algorithms.all,
    )
    .map_err(CredentialsError::Untrusted)
}

fn next_generation() -> u64 {
    static GENERATION: AtomicU64 = AtomicU64::new(1);
    GENERATION.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
