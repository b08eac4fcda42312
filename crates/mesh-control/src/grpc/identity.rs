//! Certificates for proxies: who proves which workload it stands before, gets one for that workload's identity.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use mesh_api::wire::identity::{
    self as wire, CertifyRequest, CertifyResponse, WhoamiRequest, WhoamiResponse,
};
use time::OffsetDateTime;
use tonic::{Code, Request, Response, Status};

use super::{authorise, object_name, peer};
use crate::ca::{Authority, IssueError};
use crate::clock::unix_now;
use crate::join::{JoinError, Tokens};
use crate::metrics::{Metrics, Reason};
use crate::peer::Peer;
use crate::plane::Plane;
use crate::review::Reviewer;
use crate::tls::Caller;

/// The Identity service.
#[derive(Debug)]
pub struct IdentityService {
    /// Who the workloads are.
    pub plane: Arc<Plane>,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// What callers prove themselves with.
    pub proof: Proof,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What callers prove themselves with. One kind of proof: the other one opens nothing.
#[derive(Debug)]
pub enum Proof {
    /// A join token, then the certificate they still hold.
    Joined(Arc<Tokens>),
    /// Each time, a token of their pod's service account.
    ServiceAccount(Reviewer),
}

/// What a caller brings.
struct Brought {
    join: String,
    service_account: String,
    peer: Option<Peer>,
}

/// Why a caller gets nothing: counted, logged, and told.
struct Refused {
    reason: Reason,
    status: Status,
    detail: String,
}

#[tonic::async_trait]
impl wire::identity_server::Identity for IdentityService {
    async fn whoami(&self, request: Request<WhoamiRequest>) -> Result<Response<WhoamiResponse>, Status> {
        let now = unix_now();
        let peer = peer(request.extensions(), now)?;
        let from = address(&request);
        let WhoamiRequest {
            workload,
            join_token,
            service_account_token,
        } = request.into_inner();
        let workload = object_name("workload", &workload)?;
        let brought = Brought {
            join: join_token,
            service_account: service_account_token,
            peer,
        };
        let identity = self
            .prove(&workload, &brought, now)
            .await
            .map_err(|refused| self.audit(&workload, from, refused))?;
        Ok(Response::new(WhoamiResponse {
            identity: identity.to_string(),
        }))
    }

    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let now = unix_now();
        let peer = peer(request.extensions(), now)?;
        let from = address(&request);
        let CertifyRequest {
            workload,
            csr,
            join_token,
            service_account_token,
        } = request.into_inner();
        let workload = object_name("workload", &workload)?;
        let brought = Brought {
            join: join_token,
            service_account: service_account_token,
            peer,
        };
        let certified = self.certified(&workload, &csr, brought, now).await;
        let (identity, certified) = certified.map_err(|refused| self.audit(&workload, from, refused))?;
        self.metrics.issued();
        tracing::info!(%workload, %identity, from = %Shown(from), "certified");
        Ok(Response::new(CertifyResponse {
            chain: vec![certified.leaf.to_vec()],
            bundle: certified
                .trust
                .bundle()
                .iter()
                .map(|root| root.to_vec())
                .collect(),
            identity: identity.to_string(),
            trust: certified.trust.id().to_string(),
        }))
    }
}

impl IdentityService {
    async fn certified(
        &self,
        workload: &ObjectName,
        csr: &[u8],
        brought: Brought,
        now: i64,
    ) -> Result<(Identity, crate::ca::Certified), Refused> {
        let identity = self.prove(workload, &brought, now).await?;
        let certified = self
            .authority
            .certify(csr, &identity, OffsetDateTime::now_utc())
            .map_err(|error| Refused::new(Reason::Request, issue_status(&error)))?;
        // The token goes last, so that a request that was wrong otherwise can be made again.
        if let Proof::Joined(tokens) = &self.proof
            && !brought.join.is_empty()
        {
            let (tokens, workload) = (tokens.clone(), workload.clone());
            tokio::task::spawn_blocking(move || tokens.take(&brought.join, &workload, now))
                .await
                .map_err(|error| Refused::new(Reason::Unavailable, Status::internal(error.to_string())))?
                .map_err(|error| Refused::new(Reason::Invalid, join_status(&error)))?;
        }
        Ok((identity, certified))
    }

    /// Who the workload is that the caller proves to speak for. Who proves nothing learns nothing, not even which workloads
    /// there are.
    async fn prove(&self, workload: &ObjectName, brought: &Brought, now: i64) -> Result<Identity, Refused> {
        match &self.proof {
            Proof::Joined(tokens) => {
                if !brought.service_account.is_empty() {
                    let message = "this control plane takes join tokens, not service account tokens";
                    return Err(Refused::other_proof(message));
                }
                self.joined(tokens, workload, brought, now)
            }
            Proof::ServiceAccount(reviewer) => {
                if !brought.join.is_empty() {
                    let message = "this control plane takes service account tokens, not join tokens";
                    return Err(Refused::other_proof(message));
                }
                let reviewed = reviewer.review(&brought.service_account, workload).await;
                reviewed.map_err(|refusal| Refused {
                    reason: refusal.reason,
                    status: refusal.status(),
                    detail: refusal.detail,
                })
            }
        }
    }

    /// By join token or certificate.
    fn joined(
        &self,
        tokens: &Tokens,
        workload: &ObjectName,
        brought: &Brought,
        now: i64,
    ) -> Result<Identity, Refused> {
        match (brought.join.as_str(), &brought.peer) {
            ("", None) => {
                let message = "a join token or a certificate of the mesh is needed";
                return Err(Refused::new(Reason::NoToken, Status::unauthenticated(message)));
            }
            ("", Some(_)) => {}
            (token, _) => tokens
                .check(token, workload, now)
                .map_err(|error| Refused::new(Reason::Invalid, join_status(&error)))?,
        }
        let published = self.plane.publisher().current();
        let identity = published.view.identity(workload).ok_or_else(|| {
            let message = format!("there is no Workload {workload}");
            Refused::new(Reason::Name, Status::not_found(message))
        })?;
        if let ("", Some(peer)) = (brought.join.as_str(), &brought.peer) {
            authorise(peer, identity, workload).map_err(|status| Refused::new(Reason::OtherPod, status))?;
        }
        Ok(identity.clone())
    }

    /// One line for each refusal, with what was asked for and by whom, never with what was brought.
    fn audit(&self, workload: &ObjectName, from: Option<SocketAddr>, refused: Refused) -> Status {
        self.metrics.refused(refused.reason);
        let Refused {
            reason,
            status,
            detail,
        } = refused;
        let reason = reason.as_str();
        let message = status.message();
        match status.code() {
            // Nobody did anything wrong.
            Code::Unavailable | Code::ResourceExhausted | Code::Internal => {
                tracing::warn!(audit = "no certificate", %workload, from = %Shown(from), reason, detail, "{message}");
            }
            _ => {
                tracing::warn!(audit = "refused", %workload, from = %Shown(from), reason, detail, "{message}");
            }
        }
        status
    }
}

impl Refused {
    fn new(reason: Reason, status: Status) -> Self {
        Self {
            reason,
            status,
            detail: String::new(),
        }
    }

    fn other_proof(message: &str) -> Self {
        Self::new(Reason::OtherProof, Status::unauthenticated(message))
    }
}

/// Where a request comes from, as logs write it.
struct Shown(Option<SocketAddr>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("unknown"),
        }
    }
}

fn address<T>(request: &Request<T>) -> Option<SocketAddr> {
    request.extensions().get::<Caller>().map(|caller| caller.address)
}

fn issue_status(error: &IssueError) -> Status {
    match error {
        IssueError::Unreadable(_) | IssueError::Key => Status::invalid_argument(error.to_string()),
        IssueError::Names { .. } | IssueError::Authority => Status::permission_denied(error.to_string()),
        IssueError::Signing(_) => Status::internal(error.to_string()),
    }
}

/// What a join token's failure is on the wire.
pub(crate) fn join_status(error: &JoinError) -> Status {
    match error {
        JoinError::Refused => Status::unauthenticated(error.to_string()),
        JoinError::TooMany => Status::resource_exhausted(error.to_string()),
        JoinError::Store(_) | JoinError::Random(_) => Status::internal(error.to_string()),
    }
}
