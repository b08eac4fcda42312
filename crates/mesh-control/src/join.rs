//! Join tokens: a secret for one workload, for a while, once. Only their hashes are kept.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_api::name::ObjectName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::file;

/// The most tokens that may be open at a time.
const MAX_TOKENS: usize = 4_096;
/// What a token begins with, so that people and scanners know it for what it is.
const PREFIX: &str = "mesh-join-";
/// The bytes that nobody can guess.
const SECRET: usize = 32;

/// The tokens that are open.
#[derive(Debug)]
pub struct Tokens {
    file: PathBuf,
    open: Mutex<Vec<Token>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    /// SHA-256 of the token. The secret has 256 random bits, so that no salt is needed.
    hash: [u8; 32],
    workload: String,
    expiry: i64,
}

/// Why a token is not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no such token for this workload now. Which of the reasons it is stays untold.
    #[error("the join token is unknown, used, expired or for another workload: make a new one")]
    Refused,
    /// Too many are open.
    #[error("{MAX_TOKENS} join tokens are open: wait until some are used or expire")]
    TooMany,
    /// They can't be kept.
    #[error("the join tokens can't be written: {0}")]
    Store(#[from] io::Error),
    /// There are no random bytes.
    #[error("{0}")]
    Random(String),
}

impl Tokens {
    /// The tokens that are open according to the file.
    ///
    /// # Errors
    /// When the file can't be read, or when others may read it.
    pub fn open(file: PathBuf) -> io::Result<Self> {
        let open = match file::read_private(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                let reason = format!(
                    "{} can't be read: {error}: remove it to forget open join tokens",
                    file.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            open: Mutex::new(open),
        })
    }

    /// Makes a token with which the proxy of a workload may get its first certificate until `expiry`.
    ///
    /// # Errors
    /// When too many are open, or when the new one can't be kept.
    pub fn create(&self, workload: &ObjectName, expiry: i64, now: i64) -> Result<String, JoinError> {
        let secret = crate::ca::random::<SECRET>().map_err(|error| JoinError::Random(error.to_string()))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next: Vec<_> = open.iter().filter(|token| token.expiry > now).cloned().collect();
        if next.len() >= MAX_TOKENS {
            return Err(JoinError::TooMany);
        }
        next.push(Token {
            hash: hash(&token),
            workload: workload.to_string(),
            expiry,
        });
        self.keep(&next)?;
        *open = next;
        Ok(token)
    }

    /// Whether the token would be taken.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(&self, token: &str, workload: &ObjectName, now: i64) -> Result<(), JoinError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        find(&open, token, workload, now).map(|_| ())
    }

    /// Takes the token: it is good no more.
    ///
    /// # Errors
    /// When there is none such for this workload now, or when its use can't be kept, so that it might be used twice.
    pub fn take(&self, token: &str, workload: &ObjectName, now: i64) -> Result<(), JoinError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = find(&open, token, workload, now)?;
        let mut next = open.clone();
        next.remove(at);
        self.keep(&next)?;
        *open = next;
        Ok(())
    }

    fn keep(&self, tokens: &[Token]) -> Result<(), JoinError> {
        let text = serde_json::to_vec(tokens).map_err(io::Error::from)?;
        Ok(file::replace(&self.file, &text, file::PRIVATE)?)
    }
}

/// Looks at every token, so that time tells nothing about them.
fn find(open: &[Token], token: &str, workload: &ObjectName, now: i64) -> Result<usize, JoinError> {
    let wanted = hash(token);
    let mut found = None;
    for (index, token) in open.iter().enumerate() {
        if bool::from(token.hash.ct_eq(&wanted)) {
            found = Some(index);
        }
    }
    found
        .filter(|index| {
            let token = &open[*index];
            token.expiry > now && token.workload == workload.to_string()
        })
        .ok_or(JoinError::Refused)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_workload_for_a_while_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("join.json");
        let tokens = Tokens::open(file.clone()).unwrap();
        let (triton, other): (ObjectName, ObjectName) =
            ("ml/triton".parse().unwrap(), "ml/other".parse().unwrap());
        let token = tokens.create(&triton, 1_000, 400).unwrap();
        for (what, given, workload, now) in [
            ("another workload", token.as_str(), &other, 500),
            ("expired", token.as_str(), &triton, 1_000),
            ("unknown", "mesh-join-AAAA", &triton, 500),
            ("empty", "", &triton, 500),
        ] {
            assert!(
                matches!(tokens.take(given, workload, now), Err(JoinError::Refused)),
                "{what}"
            );
        }
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&token));

        let restarted = Tokens::open(file.clone()).unwrap();
        restarted.check(&token, &triton, 999).unwrap();
        restarted.take(&token, &triton, 999).unwrap();
        assert!(
            matches!(restarted.take(&token, &triton, 999), Err(JoinError::Refused)),
            "used"
        );
        let again = Tokens::open(file).unwrap();
        assert!(
            matches!(again.check(&token, &triton, 999), Err(JoinError::Refused)),
            "used before"
        );
    }

    #[test]
    fn tokens_are_bounded_and_expire() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path().join("join.json")).unwrap();
        let workload: ObjectName = "ml/triton".parse().unwrap();
        let token = |expiry| Token {
            hash: [0; 32],
            workload: workload.to_string(),
            expiry,
        };
        *tokens.open.lock().unwrap() = vec![token(100); MAX_TOKENS];
        assert!(matches!(
            tokens.create(&workload, 200, 99),
            Err(JoinError::TooMany)
        ));
        tokens.create(&workload, 200, 100).unwrap();
        assert_eq!(tokens.open.lock().unwrap().len(), 1);
    }
}
