//! What meshctl asks. Served on a socket that only its owner may open, so that callers need no certificate.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mesh_api::document::{Kind, ObjectId};
use mesh_api::name::{Name, ObjectName};
use mesh_api::wire::admin::admin_server::Admin;
use mesh_api::wire::admin::{
    self as wire, Applied, ApplyRequest, ApplyResponse, CreateJoinTokenRequest, DeleteRequest,
    DeleteResponse, DocumentList, GetRootRotationRequest, GetStatusRequest, GetTrafficRequest, JoinToken,
    ListDocumentsRequest, ListProxiesRequest, ListRoutesRequest, ProxyList, RootRotation, RouteList,
    SetSplitRequest, SplitChange, StartRootRotationRequest, Status as PlaneStatus, Traffic, UndoSplitRequest,
    Weight,
};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::identity::join_status;
use super::object_name;
use super::telemetry::SharedTraffic;
use crate::ca::rotation::Phase;
use crate::ca::secret::RootSecret;
use crate::ca::trust::{expiry, fingerprint};
use crate::ca::{Authority, Root, Trust};
use crate::clock::unix_now;
use crate::files::Files;
use crate::join::Tokens;
use crate::plane::{Plane, problem};
use crate::store::{self, StoreError, split};
use crate::traffic::MAX_WINDOW;

/// How long changes of the proxies are gathered before they are told.
const GATHER: Duration = Duration::from_millis(100);
/// How long a join token lasts when nobody says, and at most, in seconds.
const TOKEN_TTL: (u32, u32) = (600, 86_400);

/// The Admin service.
#[derive(Debug)]
pub struct AdminService {
    /// Documents, versions and proxies.
    pub plane: Arc<Plane>,
    /// The root that is told about.
    pub authority: Arc<Authority>,
    /// The join tokens that are open; none: they are not taken here.
    pub tokens: Option<Arc<Tokens>>,
    /// The roots' Secret; none: the root is on disk.
    pub roots: Option<Arc<RootSecret>>,
    /// What proxies reported.
    pub traffic: Arc<SharedTraffic>,
    /// Ends the streams when the control plane stops.
    pub stop: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    /// How far the proxies of this replica are.
    fn rotation(&self, phase: Phase, trust: &Trust) -> RootRotation {
        let counts = self.plane.proxies().trust(trust.id());
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        RootRotation {
            phase: phase.as_str().into(),
            roots: trust
                .bundle()
                .iter()
                .map(|root| wire::Root {
                    fingerprint: fingerprint(root),
                    expiry: expiry(root).unwrap_or_default(),
                })
                .collect(),
            proxies: count(counts.proxies),
            trusting: count(counts.trusting),
            signed: count(counts.signed),
        }
    }

    /// The documents' files, to change them.
    fn files(&self) -> Result<Arc<Files>, Status> {
        self.plane.files().cloned().ok_or_else(|| {
            Status::failed_precondition(
                "the objects of this mesh are in Kubernetes: change them there, with kubectl, or with meshctl and a kubeconfig",
            )
        })
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type WatchProxiesStream = Pin<Box<dyn Stream<Item = Result<ProxyList, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<PlaneStatus> {
        Ok(Response::new(PlaneStatus {
            software: concat!("mesh-control ", env!("CARGO_PKG_VERSION")).into(),
            version: self.plane.publisher().version().0,
            trust_domain: self.authority.trust_domain().to_string(),
            root_expiry: self.authority.trust().signer().expiry().unix_timestamp(),
            source: self.plane.source(),
            problems: self.plane.problems(),
            started: self.plane.started(),
        }))
    }

    async fn list_documents(&self, request: Request<ListDocumentsRequest>) -> Answer<DocumentList> {
        let wanted = request.into_inner();
        let kind = match wanted.kind.as_str() {
            "" => None,
            kind => Some(parse_kind(kind)?),
        };
        let mut documents = self.plane.documents();
        documents.retain(|document| {
            kind.is_none_or(|kind| kind.as_str() == document.kind)
                && (wanted.namespace.is_empty() || wanted.namespace == document.namespace)
                && (wanted.name.is_empty() || wanted.name == document.name)
        });
        Ok(Response::new(DocumentList { documents }))
    }

    async fn list_routes(&self, _: Request<ListRoutesRequest>) -> Answer<RouteList> {
        let published = self.plane.publisher().current();
        let routes = published
            .view
            .services()
            .filter_map(|(_, service)| service.route.as_ref());
        let routes = routes.map(Into::into).collect();
        Ok(Response::new(RouteList { routes }))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        let ApplyRequest { yaml, name, dry_run } = request.into_inner();
        let files = self.files()?;
        let applied = blocking(move || Ok(store::apply(&files, &name, &yaml, dry_run))).await?;
        Ok(Response::new(match applied {
            Ok(applied) => ApplyResponse {
                applied: applied
                    .objects
                    .iter()
                    .map(|(id, action)| Applied {
                        object: id.to_string(),
                        action: action.as_str().into(),
                    })
                    .collect(),
                problems: Vec::new(),
                version: applied.version.0,
            },
            Err(StoreError::Refused(problems)) => ApplyResponse {
                applied: Vec::new(),
                problems: problems.iter().map(|it| problem(it, false)).collect(),
                version: self.plane.publisher().version().0,
            },
            Err(other) => return Err(store_status(&other)),
        }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let DeleteRequest {
            kind,
            namespace,
            name,
        } = request.into_inner();
        let namespace = if namespace.is_empty() {
            "default".into()
        } else {
            namespace
        };
        let id = ObjectId {
            kind: parse_kind(&kind)?,
            name: ObjectName::new(parse_name("namespace", &namespace)?, parse_name("name", &name)?),
        };
        let files = self.files()?;
        let version = blocking(move || store::delete(&files, &id)).await?;
        Ok(Response::new(DeleteResponse { version: version.0 }))
    }

    async fn set_split(&self, request: Request<SetSplitRequest>) -> Answer<SplitChange> {
        let asked = request.into_inner();
        let files = self.files()?;
        let changed = blocking(move || {
            let wanted = split::Wanted {
                namespace: &asked.namespace,
                route: &asked.route,
                rule: &asked.rule,
                weights: &asked.weights,
            };
            split::set(&files, &wanted)
        })
        .await?;
        Ok(Response::new(split_change(&changed)))
    }

    async fn undo_split(&self, request: Request<UndoSplitRequest>) -> Answer<SplitChange> {
        let asked = request.into_inner();
        let files = self.files()?;
        let changed = blocking(move || split::undo(&files, &asked.namespace, &asked.route)).await?;
        Ok(Response::new(split_change(&changed)))
    }

    async fn list_proxies(&self, _: Request<ListProxiesRequest>) -> Answer<ProxyList> {
        Ok(Response::new(proxies(&self.plane)))
    }

    async fn watch_proxies(&self, _: Request<ListProxiesRequest>) -> Answer<Self::WatchProxiesStream> {
        let (lists, stream) = mpsc::channel(1);
        let (plane, stop) = (self.plane.clone(), self.stop.clone());
        tokio::spawn(async move {
            let (mut changed, mut published) = (plane.proxies().follow(), plane.publisher().follow());
            loop {
                changed.mark_unchanged();
                published.mark_unchanged();
                if lists.send(Ok(proxies(&plane))).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = lists.closed() => return,
                    _ = changed.changed() => {}
                    _ = published.changed() => {}
                }
                tokio::time::sleep(GATHER).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_traffic(&self, request: Request<GetTrafficRequest>) -> Answer<Traffic> {
        let window = request.into_inner().window_seconds;
        if u64::from(window) > MAX_WINDOW {
            return Err(Status::invalid_argument(format!(
                "window_seconds: {window} is more than {MAX_WINDOW}"
            )));
        }
        Ok(Response::new(self.traffic.over(window)))
    }

    async fn create_join_token(&self, request: Request<CreateJoinTokenRequest>) -> Answer<JoinToken> {
        let CreateJoinTokenRequest {
            workload,
            ttl_seconds,
        } = request.into_inner();
        let tokens = self.tokens.clone().ok_or_else(|| {
            Status::failed_precondition(
                "on Kubernetes, proxies prove themselves with their pod's service account: there are no join tokens",
            )
        })?;
        let workload = object_name("workload", &workload)?;
        if self
            .plane
            .publisher()
            .current()
            .view
            .identity(&workload)
            .is_none()
        {
            return Err(Status::not_found(format!("there is no Workload {workload}")));
        }
        let ttl = match ttl_seconds {
            0 => TOKEN_TTL.0,
            ttl if ttl <= TOKEN_TTL.1 => ttl,
            ttl => {
                return Err(Status::invalid_argument(format!(
                    "ttl_seconds: {ttl} is more than {}",
                    TOKEN_TTL.1
                )));
            }
        };
        let now = unix_now();
        let expiry = now + i64::from(ttl);
        let token = tokio::task::spawn_blocking(move || tokens.create(&workload, expiry, now))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| join_status(&error))?;
        Ok(Response::new(JoinToken { token, expiry }))
    }

    async fn start_root_rotation(&self, _: Request<StartRootRotationRequest>) -> Answer<RootRotation> {
        let roots = self.roots.as_ref().ok_or_else(|| {
            Status::failed_precondition("only a mesh on Kubernetes rotates its root while it runs")
        })?;
        let next = Root::generate(self.authority.trust_domain(), OffsetDateTime::now_utc())
            .map_err(|error| Status::internal(format!("{error:#}")))?;
        let begun = roots.roots().begin(next);
        let begun = begun.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let written = roots.write(&begun).await;
        written.map_err(|error| Status::aborted(format!("{error:#}")))?;
        tracing::info!("rotation: begun");
        Ok(Response::new(self.rotation(begun.phase(), &begun.trust())))
    }

    async fn get_root_rotation(&self, _: Request<GetRootRotationRequest>) -> Answer<RootRotation> {
        let phase = self
            .roots
            .as_ref()
            .map_or(Phase::Steady, |roots| roots.roots().phase());
        Ok(Response::new(self.rotation(phase, &self.authority.trust())))
    }
}

/// Runs what touches files where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| store_status(&error))
}

fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Unknown(_) => Status::not_found(error.to_string()),
        StoreError::Invalid(_) | StoreError::Refused(_) => Status::invalid_argument(error.to_string()),
        StoreError::File { .. } => Status::failed_precondition(error.to_string()),
        StoreError::Publish(_) => Status::internal(error.to_string()),
    }
}

fn proxies(plane: &Plane) -> ProxyList {
    plane.proxies().list(plane.publisher().version(), unix_now())
}

fn parse_kind(text: &str) -> Result<Kind, Status> {
    text.parse()
        .map_err(|error: mesh_api::document::UnknownKind| Status::invalid_argument(error.to_string()))
}

fn parse_name(field: &str, text: &str) -> Result<Name, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn split_change(changed: &split::Changed) -> SplitChange {
    let weights = |weights: &[(String, u32)]| {
        weights
            .iter()
            .map(|(backend, weight)| Weight {
                backend: backend.clone(),
                weight: *weight,
            })
            .collect()
    };
    SplitChange {
        route: changed.route.to_string(),
        rule: changed.rule.clone(),
        before: weights(&changed.before),
        after: weights(&changed.after),
        version: changed.version.0,
    }
}
