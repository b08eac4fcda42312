//! What several tests of this crate need: an authority with leaves of all kinds, and a small configuration.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use mesh_api::document::{BeyondReadAhead, MtlsMode};
use mesh_api::identity::Identity;
use mesh_api::snapshot::{Mesh, Service, ServicePort, Snapshot, TrafficPolicy, Version, Workload};
use rcgen::{CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tls::{Credentials, CredentialsError};

/// An authority.
pub(crate) struct Authority {
    pub root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A key and its chain.
pub(crate) struct Certified {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            root,
            issuer: Issuer::new(params, key),
        }
    }

    /// A leaf with these names, that holds for so long from now on (or ended as long ago).
    pub(crate) fn certify(&self, names: Vec<SanType>, left: Result<Duration, Duration>) -> Certified {
        let now = SystemTime::now();
        let end = match left {
            Ok(left) => now + left,
            Err(ago) => now - ago,
        };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        params.not_before = (now - Duration::from_secs(7_200)).into();
        params.not_after = end.into();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            chain: vec![leaf.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// Credentials of an identity.
    pub(crate) fn credentials(&self, of: &str) -> Credentials {
        self.try_credentials(of, of).unwrap()
    }

    /// Credentials of `of` made with a leaf of `holds`.
    pub(crate) fn try_credentials(&self, of: &str, holds: &str) -> Result<Credentials, CredentialsError> {
        let Certified { chain, key } = self.certify(vec![uri(holds)], Ok(Duration::from_secs(3_600)));
        let of = identity(of);
        let trust_domain = of.trust_domain.clone();
        Credentials::new(of, chain, key, vec![self.root.clone()], &trust_domain)
    }
}

/// A configuration with one service.
pub(crate) fn snapshot(version: u64) -> Snapshot {
    let port = ServicePort {
        name: "http".parse().unwrap(),
        port: 8080,
        app_protocol: "mesh.dev/open-inference".parse().unwrap(),
    };
    let service = Service {
        ports: vec![port],
        hosts: vec!["fraud.example".to_owned()],
        addresses: Vec::new(),
        policy: TrafficPolicy::default(),
        endpoints: std::sync::Arc::default(),
        route: None,
    };
    Snapshot {
        version: Version(version),
        mesh: Mesh {
            trust_domain: "mesh.local".parse().unwrap(),
            mtls: MtlsMode::Strict,
            read_ahead_bytes: 1 << 20,
            beyond_read_ahead: BeyondReadAhead::Refuse,
            detection_wait: std::time::Duration::from_millis(500),
            access_log_percent: Some(50.0),
            tracing: None,
        },
        workload: Workload {
            name: "ml/web".parse().unwrap(),
            identity: identity("spiffe://mesh.local/ns/ml/sa/web"),
            ports: Vec::new(),
            proxy_listen: Some("127.0.0.1:15001".parse().unwrap()),
            local_ports: Vec::new(),
            interception: None,
            on_demand: false,
            mtls: None,
        },
        services: BTreeMap::from([("ml/fraud".parse().unwrap(), std::sync::Arc::new(service))]),
    }
}
