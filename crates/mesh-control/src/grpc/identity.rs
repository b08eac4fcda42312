//! Certificates for proxies: who has a join token, or still holds a certificate of the same identity, gets a new one.

use std::sync::Arc;

use mesh_api::identity::Identity;
use mesh_api::name::ObjectName;
use mesh_api::wire::identity::{
    self as wire, CertifyRequest, CertifyResponse, WhoamiRequest, WhoamiResponse,
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::{authorise, object_name, peer};
use crate::ca::{Authority, IssueError};
use crate::clock::unix_now;
use crate::join::{JoinError, Tokens};
use crate::peer::Peer;
use crate::plane::Plane;

/// The Identity service.
#[derive(Debug)]
pub struct IdentityService {
    /// Who the workloads are.
    pub plane: Arc<Plane>,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// The join tokens that are open.
    pub tokens: Arc<Tokens>,
}

#[tonic::async_trait]
impl wire::identity_server::Identity for IdentityService {
    async fn whoami(&self, request: Request<WhoamiRequest>) -> Result<Response<WhoamiResponse>, Status> {
        let now = unix_now();
        let peer = peer(request.extensions(), now)?;
        let WhoamiRequest { workload, join_token } = request.into_inner();
        let (_, identity) = self.prove(&workload, &join_token, peer.as_ref(), now)?;
        Ok(Response::new(WhoamiResponse {
            identity: identity.to_string(),
        }))
    }

    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let now = unix_now();
        let peer = peer(request.extensions(), now)?;
        let CertifyRequest {
            workload,
            csr,
            join_token,
        } = request.into_inner();
        let (workload, identity) = self.prove(&workload, &join_token, peer.as_ref(), now)?;
        let chain = self
            .authority
            .certify(&csr, &identity, OffsetDateTime::now_utc())
            .map_err(|error| issue_status(&error))?;
        // The token goes last, so that a request that was wrong otherwise can be made again.
        if !join_token.is_empty() {
            let (tokens, workload) = (self.tokens.clone(), workload.clone());
            tokio::task::spawn_blocking(move || tokens.take(&join_token, &workload, now))
                .await
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| join_status(&error))?;
        }
        tracing::info!(%workload, %identity, "certified");
        Ok(Response::new(CertifyResponse {
            chain: vec![chain.to_vec()],
            bundle: vec![self.authority.root().certificate().to_vec()],
            identity: identity.to_string(),
        }))
    }
}

impl IdentityService {
    /// The workload that the caller speaks for, by its token or its certificate, and who that is.
    fn prove(
        &self,
        workload: &str,
        token: &str,
        peer: Option<&Peer>,
        now: i64,
    ) -> Result<(ObjectName, Identity), Status> {
        let workload = object_name("workload", workload)?;
        // Who proves nothing learns nothing, not even which workloads there are.
        match (token, peer) {
            ("", None) => {
                return Err(Status::unauthenticated(
                    "a join token or a certificate of the mesh is needed",
                ));
            }
            ("", Some(_)) => {}
            (token, _) => self
                .tokens
                .check(token, &workload, now)
                .map_err(|error| join_status(&error))?,
        }
        let published = self.plane.publisher().current();
        let identity = published
            .view
            .identity(&workload)
            .ok_or_else(|| Status::not_found(format!("there is no Workload {workload}")))?;
        if let ("", Some(peer)) = (token, peer) {
            authorise(peer, identity, &workload)?;
        }
        Ok((workload, identity.clone()))
    }
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
