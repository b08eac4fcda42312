//! The control plane as a proxy reaches it, and as whoever would like to be one: it is asked for certificates, and read for
//! what it counts and logs.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use mesh_api::wire::identity::CertifyRequest;
use mesh_api::wire::identity::identity_client::IdentityClient;
use mesh_e2e::client;
use mesh_e2e::kubernetes::{Kubectl, PortForward};
use mesh_e2e::metrics::Metrics;
use mesh_e2e::net::local;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// What is asked of it.
const DEPLOYMENT: &str = "deployment/mesh-control";

/// A replica of the control plane, through forwarded ports.
#[derive(Debug)]
pub(crate) struct Authority {
    system: Kubectl,
    proxies: PortForward,
    metrics: PortForward,
}

impl Authority {
    /// That of this namespace.
    pub(crate) fn reached(system: &Kubectl) -> Result<Self> {
        Ok(Self {
            system: system.clone(),
            proxies: PortForward::start(system, DEPLOYMENT, 15010)?,
            metrics: PortForward::start(system, DEPLOYMENT, 15014)?,
        })
    }

    /// Asks for a certificate of this identity for a workload, and returns who is certified.
    pub(crate) async fn certify(
        &self,
        workload: &str,
        identity: &str,
        token: &str,
    ) -> Result<Result<String, tonic::Status>> {
        let mut client = IdentityClient::new(self.channel().await?);
        let request = CertifyRequest {
            workload: workload.to_owned(),
            csr: request_for(identity)?,
            join_token: String::new(),
            service_account_token: token.to_owned(),
        };
        let answer = client.certify(request).await;
        Ok(answer.map(|certified| certified.into_inner().identity))
    }

    /// How often certificates were refused for this reason.
    pub(crate) async fn refusals(&self, reason: &str) -> Result<f64> {
        let page = client::get(local(self.metrics.port()), "/metrics")
            .await?
            .success()?;
        let name = "mesh_control_certificates_refused_total";
        Ok(Metrics::parse(&page.text()).sum(name, &[("reason", reason)]))
    }

    /// The lines of its log that say that something was refused to a workload.
    pub(crate) fn audited(&self, workload: &str) -> Result<Vec<String>> {
        let logs = self.system.run(&["logs", DEPLOYMENT])?;
        let lines = logs
            .lines()
            .filter(|line| line.contains("\"audit\":\"refused\"") && line.contains(workload));
        Ok(lines.map(str::to_owned).collect())
    }

    async fn channel(&self) -> Result<Channel> {
        let map = self.system.get(&["configmap", "mesh-trust-bundle"])?;
        let bundle = map["data"]["roots.pem"].as_str().context("it has no roots.pem")?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), local(self.proxies.port()));
        let connector = tower::service_fn(move |_: http::Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("mesh-control").map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        Ok(Endpoint::from_static("http://mesh-control")
            .connect_with_connector(connector)
            .await?)
    }
}

/// A request, DER, with a key of its own.
fn request_for(identity: &str) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    Ok(params.serialize_request(&KeyPair::generate()?)?.der().to_vec())
}
