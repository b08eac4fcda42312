//! The control side of a proxy against a real control plane: joining, following, renewing, and doing without it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use hyper_util::rt::TokioIo;
use mesh_api::wire::admin::admin_client::AdminClient;
use mesh_api::wire::admin::{
    CreateJoinTokenRequest, GetRootRotationRequest, ListProxiesRequest, Proxy as Listed,
};
use mesh_control::ca::{Root, Trust};
use mesh_control::serve::standalone::{self, Running};
use mesh_proxy::app::Proxy;
use mesh_proxy::config::Config;
use mesh_proxy::drain::Drain;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Uri};

/// Far longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Mesh {
    folder: TempDir,
    outbound: SocketAddr,
    on_demand: bool,
    control: Option<Running>,
    address: String,
}

impl Mesh {
    async fn start(leaf_lifetime: Duration) -> Self {
        Self::start_with(leaf_lifetime, false).await
    }

    async fn start_with(leaf_lifetime: Duration, on_demand: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("config")).unwrap();
        let mut mesh = Self {
            outbound: free_port(),
            on_demand,
            folder,
            control: None,
            address: String::new(),
        };
        mesh.say("fraud");
        mesh.start_control(leaf_lifetime).await;
        std::fs::copy(mesh.path("control/ca/root.pem"), mesh.path("bundle.pem")).unwrap();
        mesh
    }

    async fn start_control(&mut self, leaf_lifetime: Duration) {
        let (config, state) = (self.path("config"), self.path("control"));
        let mut config = mesh_control::config::Config::parse_from([
            "mesh-control",
            "--config",
            &config,
            "--state",
            &state,
            "--listen",
            "127.0.0.1:0",
        ]);
        config.leaf_lifetime = leaf_lifetime;
        let running = standalone::start(config).await.unwrap();
        self.address = running.address().to_string();
        self.control = Some(running);
    }

    async fn stop_control(&mut self) {
        self.control.take().unwrap().stop().await;
    }

    /// Documents: a client, and a service that is called so.
    fn say(&self, service: &str) {
        let (port, on_demand) = (self.outbound.port(), self.on_demand);
        let text = format!(
            "apiVersion: mesh.dev/v1alpha1
kind: Workload
metadata: {{name: client, namespace: ml}}
spec:
  serviceAccount: caller
  outbound: {{proxyPort: {port}, onDemand: {on_demand}}}
---
apiVersion: mesh.dev/v1alpha1
kind: Service
metadata: {{name: {service}, namespace: ml}}
spec:
  ports: [{{name: http, port: 80}}]
  selector: {{app: triton}}
"
        );
        std::fs::write(self.folder.path().join("config/mesh.yaml"), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    async fn admin(&self) -> AdminClient<Channel> {
        let socket = self.folder.path().join("control/control.sock");
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let endpoint = Endpoint::from_static("http://admin");
        AdminClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    async fn make_token(&self) {
        let request = CreateJoinTokenRequest {
            workload: "ml/client".to_owned(),
            ttl_seconds: 60,
        };
        let token = self.admin().await.create_join_token(request).await.unwrap();
        std::fs::write(self.path("token"), token.into_inner().token + "\n").unwrap();
    }

    /// Waits until the control plane sees the proxy so.
    async fn until(&self, wanted: impl Fn(&Listed, u64) -> bool) {
        let mut admin = self.admin().await;
        let mut lists = admin
            .watch_proxies(ListProxiesRequest {})
            .await
            .unwrap()
            .into_inner();
        let seen = async {
            while let Some(list) = lists.message().await.unwrap() {
                if list.proxies.iter().any(|proxy| wanted(proxy, list.version)) {
                    return;
                }
            }
            panic!("the control plane ended the list");
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("never seen");
    }

    async fn start_proxy(&self) -> Sidecar {
        let flags = [
            ("--workload", "ml/client".to_owned()),
            ("--control", self.address.clone()),
            ("--trust-bundle", self.path("bundle.pem")),
            ("--token-file", self.path("token")),
            ("--state", self.path("proxy")),
            ("--admin", "127.0.0.1:0".to_owned()),
            ("--workers", "1".to_owned()),
            ("--drain-limit", "5s".to_owned()),
            ("--on-demand-idle", "3s".to_owned()),
            ("--on-demand-wait", "2s".to_owned()),
        ];
        let flags = flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]);
        let config = Config::parse_from(std::iter::once("mesh-proxy").chain(flags));
        let proxy = Proxy::start(&config, Box::new(std::io::sink())).await.unwrap();
        Sidecar {
            admin: proxy.admin(),
            drain: proxy.drain().clone(),
            running: tokio::spawn(proxy.run()),
        }
    }
}

struct Sidecar {
    admin: SocketAddr,
    drain: Drain,
    running: JoinHandle<()>,
}

impl Sidecar {
    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            let mut pause = tokio::time::interval(Duration::from_millis(50));
            loop {
                pause.tick().await;
                let answer = self.json(path).await;
                if wanted(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("never so")
    }

    async fn stop(self) {
        self.drain.start();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn has_service(table: &Value, name: &str) -> bool {
    table["snapshot"]["services"].get(name).is_some()
}

fn mode(path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(Path::new(path)).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_proxy_joins_follows_and_does_without_the_control_plane() {
    let mut mesh = Mesh::start(Duration::from_secs(3_600)).await;
    mesh.make_token().await;
    let proxy = mesh.start_proxy().await;
    mesh.until(|proxy, version| proxy.version == version && proxy.certificate_expiry > 0)
        .await;
    assert_eq!(proxy.get("/ready").await.0, 200);
    let certificate = proxy.json("/certificates").await["certificate"].clone();
    assert_eq!(certificate["identity"], "spiffe://mesh.local/ns/ml/sa/caller");
    assert!(has_service(&proxy.json("/table").await, "ml/fraud"));
    TcpStream::connect(mesh.outbound)
        .await
        .expect("the listener is there");

    mesh.say("spam");
    let table = proxy.until("/table", |table| has_service(table, "ml/spam")).await;
    assert!(!has_service(&table, "ml/fraud"), "what is gone is gone");
    assert!(
        proxy
            .get("/metrics")
            .await
            .1
            .contains("mesh_control_connected 1\n")
    );

    // The control plane goes; the proxy goes on, and comes up again without it.
    mesh.stop_control().await;
    proxy.stop().await;
    for file in ["proxy/credentials.pem", "proxy/config.bin"] {
        assert_eq!(mode(&mesh.path(file)), 0o600, "{file}");
    }
    std::fs::remove_file(mesh.path("token")).unwrap();
    std::fs::remove_file(mesh.path("bundle.pem")).unwrap();
    let proxy = mesh.start_proxy().await;
    assert_eq!(proxy.get("/ready").await.0, 200);
    assert_eq!(
        proxy.json("/certificates").await["certificate"]["serial"],
        certificate["serial"]
    );
    assert_eq!(proxy.json("/table").await["version"], table["version"]);
    TcpStream::connect(mesh.outbound)
        .await
        .expect("the listener is there");
    proxy.stop().await;

    // And follows when it is back, without a token, and with no roots but those that came with the certificate.
    mesh.start_control(Duration::from_secs(3_600)).await;
    mesh.say("fraud");
    let proxy = mesh.start_proxy().await;
    proxy
        .until("/table", |table| has_service(table, "ml/fraud"))
        .await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_follows_the_roots_while_it_runs() {
    let mesh = Mesh::start(Duration::from_secs(60)).await;
    mesh.make_token().await;
    let proxy = mesh.start_proxy().await;
    mesh.until(|proxy, version| proxy.version == version).await;
    let authority = mesh.control.as_ref().unwrap().authority().clone();
    let old = authority.trust().signer().clone();
    let next = Root::generate(authority.trust_domain(), time::OffsetDateTime::now_utc()).unwrap();
    let next = std::sync::Arc::new(next);
    let mut admin = mesh.admin().await;
    for (signer, other) in [(&old, Some(&next)), (&next, Some(&old)), (&next, None)] {
        let serial = proxy.json("/certificates").await["certificate"]["serial"].clone();
        let others = other.map(|root| root.certificate().clone());
        authority.replace(Trust::new(signer.clone(), others));
        let has_it = async {
            loop {
                let rotation = admin
                    .get_root_rotation(GetRootRotationRequest {})
                    .await
                    .unwrap()
                    .into_inner();
                if (rotation.proxies, rotation.trusting, rotation.signed) == (1, 1, 1) {
                    return rotation;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let rotation = tokio::time::timeout(PATIENCE, has_it)
            .await
            .expect("never renewed");
        assert_eq!(rotation.roots.len(), 1 + usize::from(other.is_some()));
        assert_ne!(proxy.json("/certificates").await["certificate"]["serial"], serial);
    }
    assert_eq!(proxy.get("/ready").await.0, 200);
    proxy.stop().await;
}

/// Asks for a service by the proxy's listener for all of them: the status, and the reason of the mesh's own answers.
async fn call(at: SocketAddr, host: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let reason = answer.lines().find_map(|line| line.strip_prefix("mesh-error: "));
    (
        answer[9..12].parse().unwrap(),
        reason.unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn services_come_when_they_are_called_and_go_when_they_are_not() {
    let there = || (503, "no-endpoints".to_owned());
    let absent = || (404, "no-such-service".to_owned());
    let mut mesh = Mesh::start_with(Duration::from_secs(3_600), true).await;
    mesh.make_token().await;
    let proxy = mesh.start_proxy().await;
    mesh.until(|proxy, version| proxy.version == version).await;
    assert!(
        !has_service(&proxy.json("/table").await, "ml/fraud"),
        "nobody has called it"
    );

    // The first call waits for its service, and finds it as if it had always been there.
    for host in ["fraud", "fraud.ml.svc:80", "FRAUD.ml"] {
        assert_eq!(call(mesh.outbound, host).await, there(), "{host}");
    }
    for host in ["nothing", "nothing.ml", "fraud:81", "fraud.other", "10.0.0.1"] {
        assert_eq!(call(mesh.outbound, host).await, absent(), "{host}");
    }
    assert!(has_service(&proxy.json("/table").await, "ml/fraud"));
    assert!(proxy.get("/metrics").await.1.contains("mesh_on_demand_services"));

    // Nobody calls it any more.
    proxy
        .until("/table", |table| !has_service(table, "ml/fraud"))
        .await;
    assert_eq!(call(mesh.outbound, "fraud").await, there(), "and it comes again");

    // Without the control plane, what is known goes on, also over a restart, and what is not fails closed.
    mesh.stop_control().await;
    proxy.stop().await;
    let proxy = mesh.start_proxy().await;
    assert_eq!(call(mesh.outbound, "fraud").await, there());
    assert_eq!(call(mesh.outbound, "spam").await, (503, "unresolved".to_owned()));

    // When it is back, what was used is still there, and the rest can be asked for.
    mesh.say("spam");
    mesh.start_control(Duration::from_secs(3_600)).await;
    proxy.stop().await;
    let proxy = mesh.start_proxy().await;
    mesh.until(|proxy, version| proxy.connected && proxy.version == version)
        .await;
    assert_eq!(call(mesh.outbound, "spam").await, there());
    assert_eq!(
        call(mesh.outbound, "fraud").await,
        absent(),
        "its document is gone"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn certificates_of_seconds_are_renewed_on_and_on() {
    let mesh = Mesh::start(Duration::from_secs(4)).await;
    mesh.make_token().await;
    let proxy = mesh.start_proxy().await;
    let mut serial = Value::Null;
    for _ in 0..3 {
        let next = proxy
            .until("/certificates", |told| {
                let found = &told["certificate"]["serial"];
                !found.is_null() && *found != serial
            })
            .await;
        serial = next["certificate"]["serial"].clone();
        assert_eq!(
            next["certificate"]["identity"],
            "spiffe://mesh.local/ns/ml/sa/caller"
        );
    }
    mesh.until(|proxy, _| proxy.connected).await;
    proxy.stop().await;
}

#[tokio::test]
async fn without_a_valid_token_there_is_no_certificate_and_no_table() {
    let mesh = Mesh::start(Duration::from_secs(3_600)).await;
    std::fs::write(mesh.path("token"), "mesh-join-guessed").unwrap();
    let proxy = mesh.start_proxy().await;
    let failed = async {
        while !proxy
            .get("/metrics")
            .await
            .1
            .contains("mesh_certificates_total{result=\"failed\"}")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    assert_eq!(
        proxy.get("/ready").await,
        (503, "no configuration yet\n".to_owned())
    );
    assert_eq!(proxy.json("/certificates").await["certificate"], Value::Null);
    // The right token, put there later, is found.
    mesh.make_token().await;
    proxy
        .until("/table", |table| has_service(table, "ml/fraud"))
        .await;
    proxy.stop().await;
}
