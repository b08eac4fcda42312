//! One exchange with the control plane: a new key, a request for exactly our identity, and a certificate for it.

use std::time::Duration;

use mesh_api::identity::Identity;
use mesh_api::wire::identity::identity_client::IdentityClient;
use mesh_api::wire::identity::{CertifyRequest, CertifyResponse, WhoamiRequest};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tonic::transport::Channel;

use super::store::Material;
use super::{Keeper, ObtainError, Proof};

/// How long the control plane may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The most certificates of a chain or a bundle that are taken.
const MAX_CERTIFICATES: usize = 64;
/// The most bytes of a token file.
const MAX_TOKEN: usize = 8 << 10;

impl Keeper {
    /// Obtains a certificate for a new key.
    pub(super) async fn obtain(&self) -> Result<Material, ObtainError> {
        let current = self.cell.load_full();
        let current = current.filter(|credentials| credentials.valid_at(std::time::SystemTime::now()));
        let tokens = self.tokens(current.is_some())?;
        let channel = self.dialer.connect(current.as_deref()).await?;
        let mut client = IdentityClient::new(channel);
        let identity = match (&current, &self.identity) {
            (Some(credentials), _) => credentials.identity.clone(),
            (None, Some(identity)) => identity.clone(),
            (None, None) => self.whoami(&mut client, &tokens).await?,
        };
        let (key, csr) = request_for(&identity)?;
        let request = CertifyRequest {
            workload: self.workload.to_string(),
            csr,
            join_token: tokens.join,
            service_account_token: tokens.service_account,
        };
        let answer = in_time(client.certify(request)).await?;
        material(identity, &key, answer)
    }

    async fn whoami(
        &self,
        client: &mut IdentityClient<Channel>,
        tokens: &Tokens,
    ) -> Result<Identity, ObtainError> {
        let request = WhoamiRequest {
            workload: self.workload.to_string(),
            join_token: tokens.join.clone(),
            service_account_token: tokens.service_account.clone(),
        };
        Ok(in_time(client.whoami(request)).await?.identity.parse()?)
    }

    /// What goes into a request beside the certificate at hand. A service account's token is sent even then: it says that
    /// the pod is still there.
    fn tokens(&self, certified: bool) -> Result<Tokens, ObtainError> {
        let mut tokens = Tokens::default();
        match &self.proof {
            Proof::ServiceAccount(path) => tokens.service_account = read_token(path)?,
            Proof::Joined(_) if certified => {}
            Proof::Joined(Some(path)) => tokens.join = read_token(path)?,
            Proof::Joined(None) => return Err(ObtainError::NoProof),
        }
        Ok(tokens)
    }
}

/// The tokens of a request; empty: none.
#[derive(Default)]
struct Tokens {
    join: String,
    service_account: String,
}

fn read_token(path: &std::path::Path) -> Result<String, ObtainError> {
    let wrong = |source| ObtainError::Token {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(wrong)?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(wrong(std::io::Error::other("it must hold one token")));
    }
    Ok(token.to_owned())
}

/// A new key, and a request (PKCS #10, DER) for exactly this identity.
///
/// # Errors
/// When the key or the request can't be made.
pub fn request_for(identity: &Identity) -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let csr = params.serialize_request(&key)?.der().to_vec();
    Ok((key, csr))
}

fn material(wanted: Identity, key: &KeyPair, answer: CertifyResponse) -> Result<Material, ObtainError> {
    if answer.identity != wanted.to_string() {
        let certified = answer.identity.chars().take(300).collect();
        return Err(ObtainError::Other { wanted, certified });
    }
    let certificates = |list: Vec<Vec<u8>>| -> Vec<CertificateDer<'static>> {
        list.into_iter()
            .take(MAX_CERTIFICATES)
            .map(CertificateDer::from)
            .collect()
    };
    Ok(Material {
        identity: wanted,
        trust: answer.trust,
        key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        chain: certificates(answer.chain),
        roots: certificates(answer.bundle),
    })
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ObtainError> {
    let answer = tokio::time::timeout(ANSWER, call).await;
    Ok(answer.map_err(|_| ObtainError::Timeout)??.into_inner())
}
