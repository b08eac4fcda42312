//! The TLS listener: our own certificate, renewed without a restart, and who is at the other end.
//!
//! A certificate of the caller is asked for and verified, but not demanded: a proxy that has none yet comes with a
//! join token. What needs a certificate refuses callers without one, and such callers are not kept for long.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
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

use crate::ca::Authority;
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

/// Our side of the handshake, replaced when our certificate is.
#[derive(Debug)]
pub struct ServerTls {
    authority: Arc<Authority>,
    config: ArcSwap<ServerConfig>,
    renew: ArcSwap<OffsetDateTime>,
}

impl ServerTls {
    /// A first certificate.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(authority: Arc<Authority>, now: OffsetDateTime) -> Result<Self> {
        let (config, renew) = server_config(&authority, now)?;
        Ok(Self {
            authority,
            config: ArcSwap::from_pointee(config),
            renew: ArcSwap::from_pointee(renew),
        })
    }

    /// Renews our certificate when it is time; connections that stand are not touched.
    ///
    /// # Errors
    /// When it can't be made; the old one stays.
    pub fn renew(&self, now: OffsetDateTime) -> Result<bool> {
        if now < **self.renew.load() {
            return Ok(false);
        }
        let (config, renew) = server_config(&self.authority, now)?;
        self.config.store(Arc::new(config));
        self.renew.store(Arc::new(renew));
        Ok(true)
    }

    /// Renews our certificate for as long as the control plane runs.
    pub async fn keep_renewed(&self) {
        loop {
            tokio::time::sleep(RENEWAL_CHECK).await;
            match self.renew(OffsetDateTime::now_utc()) {
                Ok(true) => tracing::info!("the control plane's certificate is renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!("the control plane's certificate can't be renewed: {error:#}"),
            }
        }
    }
}

fn server_config(authority: &Authority, now: OffsetDateTime) -> Result<(ServerConfig, OffsetDateTime)> {
    let leaf = authority.server(now).context("certify the control plane")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.root().certificate().clone())
        .context("trust the root")?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("verify callers")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("offer TLS 1.3")?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![leaf.certificate], leaf.key)
        .context("use the control plane's certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be as good as a certificate that may have ended since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, leaf.renew))
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
    let stream = TlsAcceptor::from(tls.config.load_full()).accept(stream).await?;
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
