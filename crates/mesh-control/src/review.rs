//! Who a pod is: its service account's token, as the API server judges it.
//!
//! A token must be for this mesh (its audience), still hold, and be bound to the very pod whose proxy asks. Nothing is
//! remembered: each certificate is worth asking again, and a pod that is gone is refused at once.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use mesh_api::identity::{Identity, TrustDomain};
use mesh_api::name::{Name, ObjectName};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::api;
use crate::metrics::Reason;

/// The audience of tokens that are for the control plane of a mesh.
pub const AUDIENCE: &str = "mesh.dev/control";
/// The longest token that is taken to the API server, in bytes; those of service accounts have about 1,200.
const MAX_TOKEN: usize = 16 << 10;
/// The most reviews at a time.
const AT_ONCE: usize = 64;
/// How long a review may wait for its turn.
const TURN: Duration = Duration::from_secs(2);
/// The longest reason of the API server that is kept, in characters.
const MAX_REASON: usize = 300;

/// What user names of service accounts begin with, and what their tokens say of the pod (k8s.io/apiserver,
/// `pkg/authentication/serviceaccount`).
const ACCOUNT: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Asks the API server.
pub struct Reviewer {
    client: Client,
    trust_domain: TrustDomain,
    turns: Semaphore,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

/// Why a caller is not who it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// By which it is counted.
    pub reason: Reason,
    /// For the caller.
    pub message: String,
    /// What the API server said, for the log.
    pub detail: String,
}

impl Refusal {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            detail: String::new(),
        }
    }

    /// As gRPC says it.
    pub fn status(&self) -> Status {
        let message = self.message.clone();
        match self.reason {
            Reason::Busy => Status::resource_exhausted(message),
            Reason::Unavailable => Status::unavailable(message),
            Reason::Oversized | Reason::Malformed => Status::invalid_argument(message),
            Reason::OtherPod | Reason::OtherNamespace | Reason::Unbound | Reason::Name | Reason::Request => {
                Status::permission_denied(message)
            }
            Reason::NoToken
            | Reason::OtherProof
            | Reason::Audience
            | Reason::Expired
            | Reason::Invalid
            | Reason::PodGone => Status::unauthenticated(message),
        }
    }
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    identity: Identity,
    pod_uid: String,
    node: Option<String>,
}

impl Reviewer {
    /// Asks through this client, for identities of this trust domain.
    pub fn new(client: Client, trust_domain: TrustDomain) -> Self {
        Self {
            client,
            trust_domain,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The identity of the pod that a workload is, which the token must be bound to.
    ///
    /// # Errors
    /// When the token is not that pod's, or nobody can tell now.
    pub async fn review(&self, token: &str, workload: &ObjectName) -> Result<Identity, Refusal> {
        let claims = look_over(token)?;
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else {
            return Err(Refusal::new(Reason::Busy, "too many pods ask at once: try again"));
        };
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let reviewed = answer(reviews.create(&PostParams::default(), &review)).await?;
        let bound = judge(
            reviewed.status.unwrap_or_default(),
            &claims,
            workload,
            &self.trust_domain,
        )?;
        // The API server remembers what it accepted for some seconds; the pod itself tells whether it is still there.
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), workload.namespace.as_str());
        let pod = answer(pods.get_opt(workload.name.as_str())).await?;
        still_there(&bound, pod.as_ref(), workload)?;
        Ok(bound.identity)
    }
}

/// What a token says of itself. Nobody has checked it: it gives refusals their name, nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
struct Claims {
    audiences: Vec<String>,
    expiry: Option<i64>,
}

/// Refuses what is no token before anybody is asked.
fn look_over(token: &str) -> Result<Claims, Refusal> {
    if token.is_empty() {
        let message = "a service account token with audience mesh.dev/control is needed";
        return Err(Refusal::new(Reason::NoToken, message));
    }
    if token.len() > MAX_TOKEN {
        let message = format!(
            "the service account token has {} bytes: more than {MAX_TOKEN}",
            token.len()
        );
        return Err(Refusal::new(Reason::Oversized, message));
    }
    let malformed = || Refusal::new(Reason::Malformed, "the service account token is not a JWT");
    let parts: Vec<_> = token.split('.').collect();
    let [_, payload, _] = parts.as_slice() else {
        return Err(malformed());
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
    let payload: serde_json::Value = serde_json::from_slice(&payload).map_err(|_| malformed())?;
    let audiences = match &payload["aud"] {
        serde_json::Value::Array(list) => list
            .iter()
            .filter_map(|it| it.as_str())
            .map(str::to_owned)
            .collect(),
        serde_json::Value::String(one) => vec![one.clone()],
        _ => Vec::new(),
    };
    Ok(Claims {
        audiences,
        expiry: payload["exp"].as_i64(),
    })
}

/// What the API server's answer means for a workload.
fn judge(
    status: TokenReviewStatus,
    claims: &Claims,
    workload: &ObjectName,
    trust_domain: &TrustDomain,
) -> Result<Bound, Refusal> {
    let detail: String = status
        .error
        .unwrap_or_default()
        .chars()
        .take(MAX_REASON)
        .collect();
    let detailed = |reason, message: String| Refusal {
        detail: detail.clone(),
        ..Refusal::new(reason, message)
    };
    let audience = || {
        detailed(
            Reason::Audience,
            format!("the service account token is not for audience {AUDIENCE}"),
        )
    };
    if status.authenticated != Some(true) {
        if !claims.audiences.iter().any(|audience| audience == AUDIENCE) {
            return Err(audience());
        }
        if claims
            .expiry
            .is_some_and(|expiry| expiry <= crate::clock::unix_now())
        {
            let message = "the service account token has expired: the kubelet replaces it in its file";
            return Err(detailed(Reason::Expired, message.into()));
        }
        let message = "the API server does not accept the service account token";
        return Err(detailed(Reason::Invalid, message.into()));
    }
    // An API server that does not know of audiences names none, and would accept any token.
    if !status
        .audiences
        .iter()
        .flatten()
        .any(|audience| audience == AUDIENCE)
    {
        return Err(audience());
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let Some((namespace, account)) = username
        .strip_prefix(ACCOUNT)
        .and_then(|account| account.split_once(':'))
    else {
        let message = "the token is not a service account's";
        return Err(detailed(Reason::Invalid, message.into()));
    };
    let mut extra = user.extra.unwrap_or_default();
    let mut one = |key| match extra.remove(key).as_deref() {
        Some([value]) => Some(value.clone()),
        _ => None,
    };
    let (Some(pod), Some(pod_uid)) = (one(POD_NAME), one(POD_UID)) else {
        let message = "the service account token is not bound to a pod: use a projected volume's";
        return Err(Refusal::new(Reason::Unbound, message));
    };
    if namespace != workload.namespace.as_str() {
        let message = format!("the token is of namespace {namespace}, and asks for workload {workload}");
        return Err(Refusal::new(Reason::OtherNamespace, message));
    }
    if pod != workload.name.as_str() {
        let message = format!("the token is of pod {namespace}/{pod}, and asks for workload {workload}");
        return Err(Refusal::new(Reason::OtherPod, message));
    }
    let account: Name = account.parse().map_err(|error| {
        let message = format!("service account {namespace}/{account} can't be an identity: {error}");
        Refusal::new(Reason::Name, message)
    })?;
    Ok(Bound {
        identity: Identity::new(trust_domain.clone(), workload.namespace.clone(), account),
        pod_uid,
        node: one(NODE_NAME),
    })
}

/// Whether the pod that a token is bound to is there, and not another one of that name.
fn still_there(bound: &Bound, pod: Option<&Pod>, workload: &ObjectName) -> Result<(), Refusal> {
    let gone = |what: &str| Refusal::new(Reason::PodGone, format!("pod {workload} {what}"));
    let pod = pod.ok_or_else(|| gone("is gone"))?;
    if pod.metadata.uid.as_ref() != Some(&bound.pod_uid) {
        return Err(gone("is another one than the token is bound to"));
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(gone("has ended"));
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    if bound.node.is_some() && bound.node.as_ref() != node {
        return Err(gone("is on another node than the token is bound to"));
    }
    Ok(())
}

async fn answer<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
    api::call(call).await.map_err(|error| Refusal {
        detail: error.to_string().chars().take(MAX_REASON).collect(),
        ..Refusal::new(
            Reason::Unavailable,
            "the API server can't tell now who this is: try again",
        )
    })
}

#[cfg(test)]
mod tests;
