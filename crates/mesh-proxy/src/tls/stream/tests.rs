//! A peer of another making, tokio-rustls, on a wire in memory.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::testing::{Authority, identity, uri};
use crate::tls::{Alpn, Credentials};

mod ends;
mod handshakes;
mod passing;

const WEB: &str = "spiffe://mesh.local/ns/ml/sa/web";
const TRITON: &str = "spiffe://mesh.local/ns/ml/sa/triton";

/// Both configurations of two sidecars that know each other.
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    _credentials: (Credentials, Credentials),
}

impl Configs {
    fn new() -> Self {
        let authority = Authority::new();
        let (web, triton) = (authority.credentials(WEB), authority.credentials(TRITON));
        Self {
            client: web.client_config(&identity(TRITON), Alpn::Any),
            server: triton.server_config(),
            _credentials: (web, triton),
        }
    }
}

/// Which side is ours; the other one is another implementation's.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ours {
    Client,
    Server,
}

const BOTH: [Ours; 2] = [Ours::Client, Ours::Server];

type Peer = tokio_rustls::TlsStream<DuplexStream>;

fn name() -> ServerName<'static> {
    ServerName::try_from("unused").unwrap()
}

async fn shake<I>(
    configs: &Configs,
    ours: Ours,
    near: I,
    far: DuplexStream,
) -> (io::Result<TlsStream<I>>, io::Result<Peer>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    match ours {
        Ours::Client => {
            let accepting = TlsAcceptor::from(Arc::clone(&configs.server)).accept(far);
            let connecting = TlsStream::connect(near, Arc::clone(&configs.client), name());
            let (near, far) = tokio::join!(connecting, accepting);
            (near, far.map(Into::into))
        }
        Ours::Server => {
            let connecting = TlsConnector::from(Arc::clone(&configs.client)).connect(name(), far);
            let accepting = TlsStream::accept(near, Arc::clone(&configs.server));
            let (near, far) = tokio::join!(accepting, connecting);
            (near.map(|(near, _)| near), far.map(Into::into))
        }
    }
}

async fn pair(configs: &Configs, ours: Ours, room: usize) -> (TlsStream<DuplexStream>, Peer) {
    let (near, far) = duplex(room);
    let (near, far) = shake(configs, ours, near, far).await;
    (near.unwrap(), far.unwrap())
}

async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.unwrap()
}

/// Sizes that look random, and are the same each time.
fn sizes(mut seed: u64, most: usize) -> impl FnMut() -> usize {
    move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        1 + (seed >> 33) as usize % most
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// Writes all of it, in pieces that `size` says, some of them in several slices, and says goodbye.
async fn send<W: AsyncWrite + Unpin>(to: &mut W, all: &[u8], mut size: impl FnMut() -> usize) {
    let mut left = all;
    while !left.is_empty() {
        let piece = &left[..size().min(left.len())];
        let (one, two) = piece.split_at(piece.len() / 3);
        let slices = [IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)];
        let sent = if size().is_multiple_of(2) {
            to.write_vectored(&slices).await.unwrap()
        } else {
            to.write(piece).await.unwrap()
        };
        assert!(sent > 0);
        left = &left[sent..];
    }
    to.flush().await.unwrap();
}

async fn receive<R: AsyncRead + Unpin>(from: &mut R, len: usize, mut size: impl FnMut() -> usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let mut piece = vec![0; size()];
        let read = from.read(&mut piece).await.unwrap();
        assert!(read > 0);
        all.extend_from_slice(&piece[..read]);
    }
    all
}

fn holds_nothing<I>(stream: &TlsStream<I>) {
    assert_eq!(stream.held.capacity(), 0);
    assert!(stream.records.plain.is_empty());
    assert!(stream.outgoing.is_empty());
}

/// Gives and takes a few bytes at a time, and nothing every other time.
struct Trickle {
    io: DuplexStream,
    bytes: usize,
    read: bool,
    written: bool,
}

impl Trickle {
    fn new(io: DuplexStream, bytes: usize) -> Self {
        Self {
            io,
            bytes,
            read: false,
            written: false,
        }
    }
}

/// Whether it is time to rest.
fn rests(worked: &mut bool, cx: &Context<'_>) -> bool {
    *worked = !*worked;
    if !*worked {
        cx.waker().wake_by_ref();
    }
    !*worked
}

impl AsyncRead for Trickle {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if rests(&mut self.read, cx) {
            return Poll::Pending;
        }
        let mut few = buf.take(self.bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut few))?;
        let read = few.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if rests(&mut self.written, cx) {
            return Poll::Pending;
        }
        let few = &buf[..buf.len().min(self.bytes)];
        Pin::new(&mut self.io).poll_write(cx, few)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
