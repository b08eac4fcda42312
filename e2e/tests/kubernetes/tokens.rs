//! Tokens of service accounts: those that the API server gives out, and those that somebody makes up.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_e2e::kubernetes::{Cluster, Namespace};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

/// The audience of tokens that are for the control plane.
pub(crate) const AUDIENCE: &str = "mesh.dev/control";

/// A token of an account, for this audience, bound to a pod if there is one.
pub(crate) fn token(
    namespace: &Namespace,
    account: &str,
    audience: &str,
    pod: Option<&str>,
) -> Result<String> {
    let mut arguments = vec![
        "create".to_owned(),
        "token".to_owned(),
        account.to_owned(),
        format!("--audience={audience}"),
        // The shortest that there is.
        "--duration=600s".to_owned(),
    ];
    if let Some(pod) = pod {
        let found = namespace.get(&format!("pod/{pod}"))?;
        let uid = found["metadata"]["uid"].as_str().context("it has no UID")?;
        arguments.extend([
            "--bound-object-kind=Pod".to_owned(),
            format!("--bound-object-name={pod}"),
            format!("--bound-object-uid={uid}"),
        ]);
    }
    Ok(namespace.kubectl().run(&arguments)?.trim().to_owned())
}

/// The key that a cluster of the tests' own signs tokens with.
pub(crate) fn signer(cluster: &Cluster) -> Result<Option<KeyPair>> {
    let Some(file) = cluster.token_key() else {
        return Ok(None);
    };
    Ok(Some(KeyPair::from_pem(&fs::read_to_string(file)?)?))
}

/// A token that says the same as this one, so many seconds later or earlier, signed with this key.
pub(crate) fn moved(token: &str, seconds: i64, key: &KeyPair) -> Result<String> {
    let payload = token.split('.').nth(1).context("it is no token")?;
    let mut payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    for time in ["exp", "iat", "nbf"] {
        let at = payload[time].as_i64().context("a token says no time")?;
        payload[time] = json!(at + seconds);
    }
    let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    // Without the name of a key: whoever checks it tries all that there are.
    let signed = format!("{}.{}", encoded(&json!({"alg": "ES256"})), encoded(&payload));
    let signature = fixed(&key.sign(signed.as_bytes())?)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A signature's two numbers of 32 bytes, as JWTs have them (RFC 7518, §3.4), of the DER in which they come (RFC 3279,
/// §2.2.3).
fn fixed(der: &[u8]) -> Result<Vec<u8>> {
    ensure!(der.first() == Some(&0x30), "a signature is no sequence");
    let mut rest = der.get(2..).context("a signature is empty")?;
    let mut fixed = Vec::with_capacity(64);
    for _ in 0..2 {
        let length = usize::from(*rest.get(1).context("a number is missing")?);
        let number = rest.get(2..2 + length).context("a number is cut off")?;
        let number = &number[number.len().saturating_sub(32)..];
        fixed.resize(fixed.len() + 32 - number.len(), 0);
        fixed.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    Ok(fixed)
}
