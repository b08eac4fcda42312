//! A control plane in this process, and proxies and meshctl as clients of it, over real TLS and a real socket.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use hyper_util::rt::TokioIo;
use mesh_api::document::Document;
use mesh_api::snapshot::{Delta, Snapshot};
use mesh_api::wire;
use mesh_api::wire::admin::admin_client::AdminClient;
use mesh_api::wire::config::config_client::ConfigClient;
use mesh_api::wire::config::subscribe_request::Message;
use mesh_api::wire::config::{Ack, Hello, Nack, Refusal, SubscribeRequest};
use mesh_api::wire::identity::identity_client::IdentityClient;
use mesh_api::wire::identity::{CertifyRequest, WhoamiRequest};
use mesh_control::config::Config;
use mesh_control::serve::standalone::{self, Running};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

/// A mesh of one service in two versions, behind a route, and a client.
pub const MESH: &str = "\
# the mesh of the tests
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: client, namespace: ml}
spec:
  serviceAccount: client
  outbound: {proxyPort: 14000}
---
apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {name: triton, namespace: ml, labels: {app: triton}}
spec:
  serviceAccount: triton
  ports:
  - {name: http, port: 8000, listen: 18000, appProtocol: mesh.dev/open-inference}
---
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {name: fraud, namespace: ml}
spec:
  ports: [{name: http, port: 80}]
  selector: {app: triton}
";

pub const ROUTE: &str = "\
apiVersion: mesh.dev/v1alpha1
kind: ModelRoute
metadata: {name: fraud, namespace: ml}
spec:
  service: fraud            # traffic sent to this service
  rules:
  - split:
      backends:
      - {name: stable, service: fraud, weight: 95}   # what was there
      - {name: canary, service: fraud, weight: 5}
";

pub struct Mesh {
    pub folder: TempDir,
    pub running: Option<Running>,
}

impl Mesh {
    pub async fn start(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("config").join(name), text).unwrap();
        }
        let mut mesh = Self {
            folder,
            running: None,
        };
        mesh.restart().await;
        mesh
    }

    pub async fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.running = Some(standalone::start(self.config()).await.unwrap());
    }

    fn config(&self) -> Config {
        let (config, state) = (self.documents(), self.state());
        Config::parse_from([
            "mesh-control",
            "--config",
            config.to_str().unwrap(),
            "--state",
            state.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ])
    }

    pub fn documents(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.documents().join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.documents().join(name)).unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address()
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        let socket = self.state().join("control.sock");
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let channel = Endpoint::from_static("http://admin")
            .connect_with_connector(connector)
            .await;
        AdminClient::new(channel.unwrap())
    }

    pub async fn token(&self, workload: &str) -> String {
        let request = wire::admin::CreateJoinTokenRequest {
            workload: workload.into(),
            ttl_seconds: 60,
        };
        let token = self.admin().await.create_join_token(request).await.unwrap();
        token.into_inner().token
    }

    pub async fn channel(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Channel, tonic::transport::Error> {
        channel(self.address(), &self.state().join("ca/root.pem"), credentials).await
    }

    /// A proxy that has a certificate.
    pub async fn join(&self, workload: &str) -> Credentials {
        let token = self.token(workload).await;
        let mut identity = IdentityClient::new(self.channel(None).await.unwrap());
        let request = WhoamiRequest {
            workload: workload.into(),
            join_token: token.clone(),
            ..WhoamiRequest::default()
        };
        let who = identity.whoami(request).await.unwrap().into_inner().identity;
        let (csr, key) = csr(&[&who], &[]);
        certify(&mut identity, workload, csr, key, &token).await.unwrap()
    }

    pub async fn follow(
        &self,
        credentials: &Credentials,
        workload: &str,
        version: u64,
    ) -> Result<Follower, Status> {
        let channel = self.channel(Some(credentials)).await.unwrap();
        Follower::start(channel, workload, "proxy-1", version).await
    }
}

pub struct Credentials {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
    pub identity: String,
}

pub fn csr(uris: &[&str], dns: &[&str]) -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    for uri in uris {
        params
            .subject_alt_names
            .push(SanType::URI((*uri).try_into().unwrap()));
    }
    for name in dns {
        params
            .subject_alt_names
            .push(SanType::DnsName((*name).try_into().unwrap()));
    }
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    (csr, key)
}

pub async fn certify(
    identity: &mut IdentityClient<Channel>,
    workload: &str,
    csr: Vec<u8>,
    key: KeyPair,
    token: &str,
) -> Result<Credentials, Status> {
    let request = CertifyRequest {
        workload: workload.into(),
        csr,
        join_token: token.into(),
        ..CertifyRequest::default()
    };
    let response = identity.certify(request).await?.into_inner();
    Ok(Credentials {
        chain: response.chain.into_iter().map(CertificateDer::from).collect(),
        key,
        identity: response.identity,
    })
}

pub async fn channel(
    address: SocketAddr,
    root: &Path,
    credentials: Option<&Credentials>,
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match credentials {
        None => config.with_no_client_auth(),
        Some(credentials) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.key.serialize_der()));
            config
                .with_client_auth_cert(credentials.chain.clone(), key)
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("mesh-control").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://mesh-control")
        .connect_with_connector(connect)
        .await
}

/// A proxy's end of the configuration stream.
pub struct Follower {
    pub requests: mpsc::Sender<SubscribeRequest>,
    pub deltas: Streaming<wire::config::Delta>,
    pub serves: Option<Snapshot>,
}

impl Follower {
    pub async fn start(channel: Channel, workload: &str, id: &str, version: u64) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(8);
        let hello = Message::Hello(Hello {
            workload: workload.into(),
            proxy_id: id.into(),
            software: "test 1".into(),
            version,
            ..Hello::default()
        });
        requests
            .send(SubscribeRequest { message: Some(hello) })
            .await
            .unwrap();
        let deltas = ConfigClient::new(channel)
            .subscribe(ReceiverStream::new(stream))
            .await?
            .into_inner();
        Ok(Self {
            requests,
            deltas,
            serves: None,
        })
    }

    /// The next Delta, read as proxies read it.
    pub async fn receive(&mut self) -> Result<Delta, Status> {
        let message = self
            .deltas
            .message()
            .await?
            .ok_or_else(|| Status::cancelled("ended"))?;
        Ok(wire::delta(message).unwrap())
    }

    pub async fn ack(&mut self, delta: Delta) {
        let version = delta.version.0;
        self.serves = Some(Snapshot::after(self.serves.as_ref(), delta).unwrap());
        let message = Some(Message::Ack(Ack { version }));
        self.requests.send(SubscribeRequest { message }).await.unwrap();
    }

    pub async fn nack(&mut self, delta: &Delta, reason: &str) {
        let message = Some(Message::Nack(Nack {
            version: delta.version.0,
            refusals: vec![Refusal {
                object: "Route ml/fraud".into(),
                field: "rules[0]".into(),
                reason: reason.into(),
            }],
        }));
        self.requests.send(SubscribeRequest { message }).await.unwrap();
    }

    /// Takes Deltas until one leads to what is wanted.
    pub async fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> &Snapshot {
        loop {
            if self.serves.as_ref().is_some_and(&wanted) {
                return self.serves.as_ref().unwrap();
            }
            let delta = self.receive().await.unwrap();
            self.ack(delta).await;
        }
    }
}

/// The weights of the first rule of the route of `ml/fraud`.
pub fn weights(snapshot: &Snapshot) -> Option<Vec<u32>> {
    let route = snapshot
        .services
        .get(&"ml/fraud".parse().unwrap())?
        .route
        .as_ref()?;
    let split = route.rules[0].split()?;
    Some(split.backends.iter().map(|backend| backend.weight).collect())
}

/// The object of a document's text.
pub fn document(text: &str) -> Document {
    mesh_api::document::parse_all(Path::new("-"), text)
        .remove(0)
        .unwrap()
        .0
}
