//! What the commands' tests share: a mesh's documents and traffic, and an Admin service in this process.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use mesh_api::document::{Document, parse_all};
use mesh_api::route::Route;
use mesh_api::telemetry::{BUCKETS, bucket};
use mesh_api::wire::admin::admin_server::{self, AdminServer};
use mesh_api::wire::admin::*;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::client::{self, Admin};
use crate::documents::InForce;

pub(crate) const MESH: &str = include_str!("testing.yaml");

/// The documents of the test mesh.
pub(crate) fn documents() -> Vec<InForce> {
    let mut documents: Vec<_> = stored()
        .into_iter()
        .map(|stored| {
            let parsed = parse_all("mesh.yaml".as_ref(), &stored.yaml);
            let document = parsed.into_iter().next().unwrap().unwrap().0;
            InForce { document, stored }
        })
        .collect();
    documents.sort_by_key(|it| it.document.id());
    documents
}

/// Its first ModelRoute.
pub(crate) fn route() -> Route {
    let route = documents().into_iter().find_map(|it| match it.document {
        Document::ModelRoute(route) => Some(route),
        _ => None,
    });
    let route = route.unwrap();
    Route::new(&route.metadata.object_name(), &route.spec).unwrap()
}

pub(crate) fn stored() -> Vec<StoredDocument> {
    let parsed = parse_all("mesh.yaml".as_ref(), MESH);
    let stored = parsed.into_iter().map(|parsed| {
        let (document, source) = parsed.unwrap();
        let id = document.id();
        StoredDocument {
            kind: id.kind.to_string(),
            namespace: id.name.namespace.to_string(),
            name: id.name.name.to_string(),
            yaml: source.text,
            file: "mesh.yaml".into(),
            line: source.line as u32,
        }
    });
    stored.collect()
}

/// Ten seconds of traffic in the test mesh.
pub(crate) fn traffic() -> Traffic {
    let path = |backend: &str, version: &str, requests: u64, failures: u64, seconds: f64| {
        let mut latency = vec![0; BUCKETS];
        latency[bucket(seconds)] = requests;
        Path {
            workload: "ml/client".into(),
            service: "ml/fraud".into(),
            rule: "rule-0".into(),
            backend: backend.into(),
            model: "fraud".into(),
            version: version.into(),
            operation: "infer".into(),
            requests,
            failures,
            first_byte: latency.clone(),
            latency,
            ..Path::default()
        }
    };
    let inbound = |workload: &str, service: &str, requests: u64| Path {
        workload: workload.into(),
        inbound: true,
        service: service.into(),
        peer: "spiffe://mesh.local/ns/ml/sa/client".into(),
        rule: String::new(),
        ..path("", "", requests, 0, 0.004)
    };
    Traffic {
        seconds: 10.0,
        paths: vec![
            path("stable", "1", 380, 0, 0.0042),
            path("canary", "2", 20, 1, 0.0123),
            Path {
                rule: String::new(),
                operation: "metadata".into(),
                ..path("", "", 5, 0, 0.001)
            },
            Path {
                service: "ml/iris".into(),
                rule: String::new(),
                model: "iris".into(),
                ..path("", "v1", 50, 0, 0.02)
            },
            inbound("ml/triton-v1", "ml/fraud-v1", 380),
            inbound("ml/triton-v2", "ml/fraud-v2", 20),
        ],
    }
}

/// An HTTPRoute of the test mesh, as the control plane has it.
pub(crate) fn http_route() -> Route {
    use mesh_api::wire::config::{self as wire, rule::Action, string_match::How};
    let rule = |name: &str, matches, action| wire::Rule {
        name: name.into(),
        origin: "HTTPRoute ml/web".into(),
        matches,
        action: Some(action),
        ..wire::Rule::default()
    };
    let old = wire::Match {
        path: Some(wire::StringMatch {
            how: Some(How::Under("/old".into())),
        }),
        ..wire::Match::default()
    };
    let moved = wire::Redirect {
        host: "new.example".into(),
        status: 301,
        ..wire::Redirect::default()
    };
    let backend = |name: &str, weight| wire::Backend {
        name: name.into(),
        service: format!("ml/{name}"),
        weight,
        ..wire::Backend::default()
    };
    let split = wire::Split {
        backends: vec![backend("iris", 3), backend("fraud-v2", 1)],
        ..wire::Split::default()
    };
    let route = wire::Route {
        service: "ml/iris".into(),
        object: String::new(),
        rules: vec![
            rule("moved", vec![old], Action::Redirect(moved)),
            rule("web", Vec::new(), Action::Split(split)),
        ],
    };
    mesh_api::wire::route(route).unwrap()
}

/// A proxy that serves a version.
pub(crate) fn proxy(workload: &str, version: u64) -> Proxy {
    Proxy {
        workload: workload.into(),
        proxy_id: "7f".into(),
        software: "0.1.0".into(),
        connected: true,
        version,
        sent: version,
        acked: 1_000,
        certificate_expiry: 90_000,
        connected_since: 900,
        ..Proxy::default()
    }
}

/// Text without colours.
pub(crate) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// An Admin service that says what a test wants it to.
pub(crate) struct FakeControl {
    pub(crate) proxies: watch::Sender<ProxyList>,
    pub(crate) status: Mutex<mesh_api::wire::admin::Status>,
    pub(crate) asked: Mutex<Vec<SetSplitRequest>>,
}

impl Default for FakeControl {
    fn default() -> Self {
        Self {
            proxies: watch::Sender::new(ProxyList::default()),
            status: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

/// Serves it, and connects to it.
pub(crate) async fn serve(fake: &Arc<FakeControl>) -> (tempfile::TempDir, Admin) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let service = AdminServer::from_arc(fake.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(listener),
    );
    let admin = client::connect_to(&socket).await.unwrap();
    (dir, admin)
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl admin_server::Admin for FakeControl {
    type WatchProxiesStream = Pin<Box<dyn Stream<Item = Result<ProxyList, Status>> + Send>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<mesh_api::wire::admin::Status> {
        Ok(Response::new(self.status.lock().unwrap().clone()))
    }

    async fn list_documents(&self, request: Request<ListDocumentsRequest>) -> Answer<DocumentList> {
        let kind = request.into_inner().kind;
        let mut documents = stored();
        documents.retain(|it| kind.is_empty() || it.kind == kind);
        Ok(Response::new(DocumentList { documents }))
    }

    async fn list_routes(&self, _: Request<ListRoutesRequest>) -> Answer<RouteList> {
        Ok(Response::new(RouteList::default()))
    }

    async fn apply(&self, _: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        Err(Status::failed_precondition("the source is read-only"))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        Ok(Response::new(DeleteResponse { version: 8 }))
    }

    async fn set_split(&self, request: Request<SetSplitRequest>) -> Answer<SplitChange> {
        let request = request.into_inner();
        let after = request.weights.iter().map(|(backend, weight)| Weight {
            backend: backend.clone(),
            weight: *weight,
        });
        let change = SplitChange {
            route: format!("{}/{}", request.namespace, request.route),
            rule: request.rule.clone(),
            before: vec![],
            after: after.collect(),
            version: 8,
        };
        self.asked.lock().unwrap().push(request);
        Ok(Response::new(change))
    }

    async fn undo_split(&self, _: Request<UndoSplitRequest>) -> Answer<SplitChange> {
        Err(Status::not_found(
            "ModelRoute ml/fraud has no change to take back",
        ))
    }

    async fn list_proxies(&self, _: Request<ListProxiesRequest>) -> Answer<ProxyList> {
        Ok(Response::new(self.proxies.borrow().clone()))
    }

    async fn watch_proxies(&self, _: Request<ListProxiesRequest>) -> Answer<Self::WatchProxiesStream> {
        let stream = WatchStream::new(self.proxies.subscribe()).map(Ok);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_traffic(&self, _: Request<GetTrafficRequest>) -> Answer<Traffic> {
        Ok(Response::new(traffic()))
    }

    async fn create_join_token(&self, _: Request<CreateJoinTokenRequest>) -> Answer<JoinToken> {
        Ok(Response::new(JoinToken {
            token: "secret".into(),
            expiry: 0,
        }))
    }

    async fn start_root_rotation(&self, _: Request<StartRootRotationRequest>) -> Answer<RootRotation> {
        Err(Status::failed_precondition("the root is a folder's"))
    }

    async fn get_root_rotation(&self, _: Request<GetRootRotationRequest>) -> Answer<RootRotation> {
        Ok(Response::new(RootRotation::default()))
    }
}
