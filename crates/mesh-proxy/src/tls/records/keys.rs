//! What rustls keeps of a connection: the secrets from which the next keys are made, and where a client keeps its tickets.

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{AeadKey, Iv, MessageDecrypter, MessageEncrypter};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, Error, HandshakeType, SupportedCipherSuite, Tls13CipherSuite};

use super::fault::Fault;

/// How many bytes a ticket may have that is kept. It stands in the first message of the handshake that uses it, where 64 KiB is
/// all there is for it and everything else: if that does not fit, rustls 0.23.46 writes a wrong length, or panics where debug
/// assertions are on.
const TICKET: usize = 32 << 10;

/// The secrets of one side.
pub(in crate::tls) enum Keys {
    /// Of the one that connected.
    Client(KernelConnection<ClientConnectionData>),
    /// Of the one that accepted.
    Server(KernelConnection<ServerConnectionData>),
}

impl Keys {
    /// How records are encrypted.
    ///
    /// # Errors
    /// When it is not as in TLS 1.3.
    pub(super) fn suite(&self) -> Result<&'static Tls13CipherSuite, Error> {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        match suite {
            SupportedCipherSuite::Tls13(suite) => Ok(suite),
            #[allow(unreachable_patterns, reason = "rustls may be built with TLS 1.2 or without")]
            _ => Err(Error::General("the cipher suite is not one of TLS 1.3".into())),
        }
    }

    /// The next key to encrypt with, in place of the one before.
    ///
    /// # Errors
    /// Never in practice: when rustls can't say it.
    pub(super) fn next_to_seal(&mut self) -> Result<Box<dyn MessageEncrypter>, Error> {
        let (_, secrets) = match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }?;
        encrypter(self.suite()?, secrets)
    }

    /// The next key to decrypt with, in place of the one before.
    ///
    /// # Errors
    /// Never in practice: when rustls can't say it.
    pub(super) fn next_to_open(&mut self) -> Result<Box<dyn MessageDecrypter>, Error> {
        let (_, secrets) = match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }?;
        decrypter(self.suite()?, secrets)
    }

    /// Keeps a ticket with which the session can be resumed, unless it is too large.
    ///
    /// # Errors
    /// When it is none, or was sent to a server.
    pub(super) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Client(_) if ticket.len() > TICKET => Ok(()),
            Self::Client(kernel) => Ok(kernel.handle_new_session_ticket(ticket)?),
            Self::Server(_) => Err(self.unexpected(HandshakeType::NewSessionTicket)),
        }
    }

    /// What is wrong with a message that this side does not expect.
    pub(super) fn unexpected(&self, got_type: HandshakeType) -> Fault {
        let expect_types = match self {
            Self::Client(_) => vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate],
            Self::Server(_) => vec![HandshakeType::KeyUpdate],
        };
        Error::InappropriateHandshakeMessage {
            expect_types,
            got_type,
        }
        .into()
    }
}

/// What encrypts with this key.
pub(super) fn encrypter(
    suite: &'static Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageEncrypter>, Error> {
    let (key, iv) = parts(secrets)?;
    Ok(suite.aead_alg.encrypter(key, iv))
}

/// What decrypts with this key.
pub(super) fn decrypter(
    suite: &'static Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = parts(secrets)?;
    Ok(suite.aead_alg.decrypter(key, iv))
}

fn parts(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General(
            "the cipher suite has keys of an unknown kind".into(),
        )),
    }
}
