//! The TLS listener: our own certificate, renewed without a restart, and who is at the other end.
//!
//! A certificate of the caller is asked for and verified, but not demanded: a proxy that has none yet comes with a
//! token. What needs a certificate refuses callers without one, and such callers are not kept for long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::ca::{Authority, ServerNames, Trust};
use crate::peer::Peer;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a caller without a certificate may stay.
const STRANGER: Duration = Duration::from_secs(60);
/// The most connections, handshakes included.
const MAX_CONNECTIONS: usize = 8_192;
/// The most connections whose caller has not shown a certificate.
const MAX_STRANGERS: usize = 512;
/// How often our own certificate's age is looked at: often enough for the shortest life, of a few seconds.
const RENEWAL_CHECK: Duration = Duration::from_secs(1);

/// Our side of the handshake, replaced when our certificate is, or what we trust.
#[derive(Debug)]
pub struct ServerTls {
    authority: Arc<Authority>,
    listener: Listener,
    current: ArcSwap<Current>,
}

/// Who listens, and to whom.
#[derive(Clone, Debug)]
pub enum Listener {
    /// To proxies over HTTP/2: they may show certificates of the mesh.
    Proxies(ServerNames),
    /// To the API server over HTTP/1.1: who it is, is not asked.
    Webhooks(ServerNames),
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    trust: Arc<Trust>,
    renew: OffsetDateTime,
}

impl ServerTls {
    /// A first certificate.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(authority: Arc<Authority>, listener: Listener, now: OffsetDateTime) -> Result<Self> {
        let current = Current::new(&authority, &listener, now)?;
        Ok(Self {
            authority,
            listener,
            current: ArcSwap::from_pointee(current),
        })
    }

    /// Renews our certificate when it is time, and when roots changed; connections that stand are not touched.
    ///
    /// # Errors
    /// When it can't be made; the old one stays.
    pub fn renew(&self, now: OffsetDateTime) -> Result<bool> {
        let current = self.current.load();
        if now < current.renew && Arc::ptr_eq(&current.trust, &self.authority.trust()) {
            return Ok(false);
        }
        let next = Current::new(&self.authority, &self.listener, now)?;
        self.current.store(Arc::new(next));
        Ok(true)
    }

    /// How handshakes are answered now.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// Renews our certificate for as long as the control plane runs.
    pub async fn keep_renewed(&self) {
        let mut trust = self.authority.follow();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL_CHECK) => {}
                _ = trust.changed() => {}
            }
            match self.renew(OffsetDateTime::now_utc()) {
                Ok(true) => tracing::info!("the control plane's certificate is renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!("the control plane's certificate can't be renewed: {error:#}"),
            }
        }
    }
}

impl Current {
    fn new(authority: &Authority, listener: &Listener, now: OffsetDateTime) -> Result<Self> {
        let trust = authority.trust();
        let names = match listener {
            Listener::Proxies(names) | Listener::Webhooks(names) => names,
        };
        let leaf = authority
            .server(&trust, names, now)
            .context("certify the control plane")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("offer TLS 1.3")?;
        let (builder, protocol) = match listener {
            Listener::Proxies(_) => (
                builder.with_client_cert_verifier(verifier(&trust, provider)?),
                b"h2".as_slice(),
            ),
            Listener::Webhooks(_) => (builder.with_no_client_auth(), b"http/1.1".as_slice()),
        };
        let mut config = builder
            .with_single_cert(vec![leaf.certificate], leaf.key)
            .context("use the control plane's certificate")?;
        config.alpn_protocols = vec![protocol.to_vec()];
        // A resumed session would be as good as a certificate that may have ended since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            trust,
            renew: leaf.renew,
        })
    }
}

fn verifier(trust: &Trust, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for root in trust.bundle() {
        roots.add(root.clone()).context("trust a root")?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .context("verify callers")
}

/// A connection after its handshake.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    /// When a caller without a certificate has to go.
    deadline: Option<Pin<Box<Sleep>>>,
    _permits: Vec<OwnedSemaphorePermit>,
}

/// Who called, for the services.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where from.
    pub address: SocketAddr,
    /// Who, when a certificate says so.
    pub peer: Option<Peer>,
}

/// Accepts connections until the token is cancelled, and hands on those whose handshake succeeds.
pub fn accept(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    stop: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (connections, accepted) = mpsc::channel(64);
    tokio::spawn(async move {
        let all = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
        loop {
            let (stream, address) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Too many open files, mostly: those that end make room.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (Ok(permit), Ok(stranger)) = (
                all.clone().try_acquire_owned(),
                strangers.clone().try_acquire_owned(),
            ) else {
                tracing::warn!(%address, "too many connections: one is refused");
                continue;
            };
            let (tls, connections) = (tls.clone(), connections.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(HANDSHAKE, handshake(stream, address, &tls)).await {
                    Ok(Ok(mut connection)) => {
                        connection._permits.push(permit);
                        // Who has shown a certificate is a stranger no more.
                        if connection.caller.peer.is_none() {
                            connection._permits.push(stranger);
                        }
                        let _ = connections.send(Ok(connection)).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                    Err(_) => tracing::debug!(%address, "a handshake took too long"),
                }
            });
        }
    });
    accepted
}

async fn handshake(stream: TcpStream, address: SocketAddr, tls: &ServerTls) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = leaf.map(Peer::of).transpose().map_err(io::Error::other)?;
    let deadline = match &peer {
        Some(_) => None,
        None => Some(Box::pin(tokio::time::sleep(STRANGER))),
    };
    Ok(Connection {
        caller: Caller { address, peer },
        stream,
        deadline,
        _permits: Vec::with_capacity(2),
    })
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
