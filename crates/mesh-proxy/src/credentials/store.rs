//! Credentials on disk: one PEM file with key, chain and roots, which change together.

use mesh_api::identity::Identity;
use pem::Pem;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::state::{StateDir, StateError};
use crate::tls::{Credentials, CredentialsError, Leaf};

const FILE: &str = "credentials.pem";
const KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";
/// Not `CERTIFICATE`, so that nothing takes a root for a part of the chain.
const ROOT: &str = "MESH ROOT CERTIFICATE";

/// What credentials are made of.
pub struct Material {
    /// Whose they are.
    pub identity: Identity,
    /// The key.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// What the control plane calls who signed and what to trust. Not saved.
    pub trust: String,
}

/// Why saved credentials are not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read, or others may read it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is not PEM, or lacks a part.
    #[error("{FILE}: {0}")]
    Damaged(String),
    /// The parts do not hold together, or have ended.
    #[error("{FILE}: {0}")]
    Credentials(#[from] CredentialsError),
}

impl Material {
    /// Checks everything and makes credentials of it.
    ///
    /// # Errors
    /// When it does not hold together, or has ended.
    pub fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let mut credentials = Credentials::new(
            self.identity.clone(),
            self.chain.clone(),
            self.key.clone_key().into(),
            self.roots.clone(),
            &self.identity.trust_domain,
        )?;
        credentials.trust.clone_from(&self.trust);
        Ok(credentials)
    }

    /// As the file's text.
    pub fn to_pem(&self) -> String {
        let key = Pem::new(KEY, self.key.secret_pkcs8_der());
        let chain = self.chain.iter().map(|der| Pem::new(CERTIFICATE, der.as_ref()));
        let roots = self.roots.iter().map(|der| Pem::new(ROOT, der.as_ref()));
        let all: Vec<_> = std::iter::once(key).chain(chain).chain(roots).collect();
        pem::encode_many(&all)
    }

    fn from_pem(text: &[u8]) -> Result<Self, LoadError> {
        let damaged = |what: &str| LoadError::Damaged(what.to_owned());
        let parts = pem::parse_many(text).map_err(|error| LoadError::Damaged(error.to_string()))?;
        let (mut key, mut chain, mut roots) = (None, Vec::new(), Vec::new());
        for part in parts {
            match part.tag() {
                KEY => key = Some(part.into_contents()),
                CERTIFICATE => chain.push(part.into_contents().into()),
                ROOT => roots.push(part.into_contents().into()),
                _ => return Err(damaged("it holds something else")),
            }
        }
        let leaf = chain.first().ok_or_else(|| damaged("it has no certificate"))?;
        Ok(Self {
            identity: Leaf::read(leaf).map_err(CredentialsError::from)?.identity,
            key: key.ok_or_else(|| damaged("it has no private key"))?.into(),
            chain,
            roots,
            trust: "unknown".to_owned(),
        })
    }
}

/// Reads the credentials saved last; none: there are none.
///
/// # Errors
/// When there are some, but they can't be used.
pub fn load(state: &StateDir) -> Result<Option<Credentials>, LoadError> {
    let Some(text) = state.read(FILE)? else {
        return Ok(None);
    };
    let mut credentials = Material::from_pem(&text)?.credentials()?;
    if let Some(written) = state.written(FILE) {
        credentials.came = written.min(credentials.came);
    }
    Ok(Some(credentials))
}

/// Saves credentials ([`Material::to_pem`]) in place of those before.
///
/// # Errors
/// When they can't be written; those before are still there then.
pub fn save(state: &StateDir, text: &str) -> Result<(), StateError> {
    state.write(FILE, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::testing::{Authority, Certified, identity, uri};

    const WEB: &str = "spiffe://mesh.local/ns/ml/sa/web";

    fn material(authority: &Authority, left: Result<Duration, Duration>) -> Material {
        let Certified { chain, key } = authority.certify(vec![uri(WEB)], left);
        let PrivateKeyDer::Pkcs8(key) = key else { panic!() };
        Material {
            identity: identity(WEB),
            key,
            chain,
            roots: vec![authority.root.clone()],
            trust: String::new(),
        }
    }

    fn state(root: &tempfile::TempDir) -> StateDir {
        StateDir::open(&root.path().join("s")).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let state = state(&root);
        assert!(load(&state).unwrap().is_none());
        let material = material(&Authority::new(), Ok(Duration::from_secs(60)));
        save(&state, &material.to_pem()).unwrap();
        let loaded = load(&state).unwrap().unwrap();
        assert_eq!(
            (loaded.identity.to_string().as_str(), loaded.chain()),
            (WEB, &*material.chain)
        );
    }

    #[test]
    fn what_is_loaded_came_when_it_was_saved() {
        let root = tempfile::tempdir().unwrap();
        let state = state(&root);
        let text = material(&Authority::new(), Ok(Duration::from_secs(60))).to_pem();
        save(&state, &text).unwrap();
        let now = SystemTime::now();
        for (written, at_most) in [
            (now - Duration::from_secs(40), now - Duration::from_secs(40)),
            // A clock that was set back since.
            (now + Duration::from_secs(3_600), now + Duration::from_secs(60)),
        ] {
            let file = std::fs::File::open(root.path().join("s").join(FILE)).unwrap();
            file.set_modified(written).unwrap();
            let came = load(&state).unwrap().unwrap().came;
            assert!(came <= at_most, "{came:?}");
        }
    }

    #[test]
    fn what_does_not_hold_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let state = state(&root);
        let (authority, other) = (Authority::new(), Authority::new());
        let good = || material(&authority, Ok(Duration::from_secs(60)));
        let ended = material(&authority, Err(Duration::from_secs(60)));
        let mixed_key = Material {
            key: material(&authority, Ok(Duration::from_secs(60))).key,
            ..good()
        };
        let mixed_root = Material {
            roots: vec![other.root.clone()],
            ..good()
        };
        let rootless = Material {
            roots: Vec::new(),
            ..good()
        };
        let no_chain = Material {
            chain: Vec::new(),
            ..good()
        };
        for (text, word) in [
            (ended.to_pem(), "expired"),
            (mixed_key.to_pem(), "private key"),
            (mixed_root.to_pem(), "vouch"),
            (rootless.to_pem(), "holds no certificate"),
            (no_chain.to_pem(), "no certificate"),
            (
                good().to_pem().replace("PRIVATE KEY", "PUBLIC KEY"),
                "something else",
            ),
            (good().to_pem().split_off(400), ""),
            (String::new(), "no certificate"),
            ("\0\u{1}nonsense".to_owned(), ""),
        ] {
            save(&state, &text).unwrap();
            let error = load(&state).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should say {word}");
        }
    }
}
