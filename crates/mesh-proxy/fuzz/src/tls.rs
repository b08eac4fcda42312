//! A peer in TLS that keeps to the handshake, and from there on seals whatever it is given with its real keys.

use std::sync::{Arc, LazyLock};

use mesh_proxy::tls::TlsStream;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::kernel::KernelConnection;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{
    ClientConfig, ConnectionTrafficSecrets, ContentType, ExtractedSecrets, ProtocolVersion, RootCertStore,
    ServerConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Both configurations, for as long as the process runs.
static CONFIGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(configs);

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["fuzz.test".to_owned()]).expect("a certificate");
    let provider = mesh_proxy::tls::provider();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    server.enable_secret_extraction = true;
    // No tickets but those that the target sends.
    server.send_tls13_tickets = 0;
    (Arc::new(client), Arc::new(server))
}

/// The proxy's side of a connection, and what its peer, on `far`, says from then on.
pub async fn pair(is_client: bool, near: DuplexStream, far: &mut DuplexStream) -> (TlsStream<DuplexStream>, Peer) {
    let (client, server) = &*CONFIGS;
    let name = ServerName::try_from("fuzz.test").expect("a name");
    if is_client {
        let side = UnbufferedServerConnection::new(Arc::clone(server)).expect("a server");
        let connecting = TlsStream::connect(near, Arc::clone(client), name);
        let (near, peer) = tokio::join!(connecting, shake(Side::Server(side), far));
        (near.expect("a handshake"), peer)
    } else {
        let side = UnbufferedClientConnection::new(Arc::clone(client), name).expect("a client");
        let accepting = TlsStream::accept(near, Arc::clone(server));
        let (near, peer) = tokio::join!(accepting, shake(Side::Client(side), far));
        (near.expect("a handshake").0, peer)
    }
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

async fn shake(mut side: Side, far: &mut DuplexStream) -> Peer {
    let (mut held, mut said) = (Vec::new(), Vec::new());
    loop {
        let used = side.step(&mut held, &mut said);
        held.drain(..used);
        far.write_all(&said).await.expect("what is said is heard");
        said.clear();
        if side.is_over() {
            return side.finish();
        }
        far.read_buf(&mut held).await.expect("what is said is heard");
    }
}

impl Side {
    fn is_over(&self) -> bool {
        match self {
            Self::Client(side) => !side.is_handshaking() && !side.wants_write(),
            Self::Server(side) => !side.is_handshaking() && !side.wants_write(),
        }
    }

    /// Takes what came, and says how much of it is used up.
    fn step(&mut self, bytes: &mut [u8], said: &mut Vec<u8>) -> usize {
        let mut used = 0;
        loop {
            let bytes = &mut bytes[used..];
            let (discard, again) = match self {
                Self::Client(side) => handle(side.process_tls_records(bytes), said),
                Self::Server(side) => handle(side.process_tls_records(bytes), said),
            };
            used += discard;
            if !again {
                return used;
            }
        }
    }

    fn finish(self) -> Peer {
        let (secrets, kernel) = match self {
            Self::Client(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection().expect("the keys");
                (secrets, Kernel::Client(kernel))
            }
            Self::Server(side) => {
                let (secrets, kernel) = side.dangerous_into_kernel_connection().expect("the keys");
                (secrets, Kernel::Server(kernel))
            }
        };
        let ExtractedSecrets { tx: (0, secrets), .. } = secrets else {
            panic!("something was said before");
        };
        let encrypter = kernel.encrypter(secrets);
        Peer {
            kernel,
            encrypter,
            next: 0,
        }
    }
}

/// Does what rustls asks for, and says how much is used up and whether there is more to do.
fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, said: &mut Vec<u8>) -> (usize, bool) {
    let again = match status.state.expect("a handshake") {
        ConnectionState::EncodeTlsData(mut data) => {
            let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
                panic!("nothing to say");
            };
            let begin = said.len();
            said.resize(begin + size.required_size, 0);
            data.encode(&mut said[begin..]).expect("there is room");
            true
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            true
        }
        _ => false,
    };
    (status.discard, again)
}

enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Kernel {
    fn encrypter(&self, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageEncrypter> {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        let suite = suite.tls13().expect("TLS 1.3");
        match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => suite.aead_alg.encrypter(key, iv),
            _ => panic!("an unknown cipher"),
        }
    }
}

/// The other side of an established connection.
pub struct Peer {
    kernel: Kernel,
    encrypter: Box<dyn MessageEncrypter>,
    next: u64,
}

impl Peer {
    /// A record of this kind, with this inside, however wrong.
    pub fn seal(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let plain = OutboundPlainMessage {
            typ: ContentType::from(kind),
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(plain, self.next).expect("a record");
        self.next += 1;
        record.encode()
    }

    /// Goes on with the next key, without a word.
    pub fn rekey(&mut self) {
        let (_, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret(),
            Kernel::Server(kernel) => kernel.update_tx_secret(),
        }
        .expect("the next key");
        self.encrypter = self.kernel.encrypter(secrets);
        self.next = 0;
    }
}
