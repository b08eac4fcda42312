//! Endpoints and what is known of their load; both outlive the Table they were made for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use mesh_api::document::BalancerKind;
use mesh_api::identity::Identity;
use mesh_api::inference::AppProtocol;
use mesh_api::name::ObjectName;
use mesh_api::snapshot::TrafficPolicy;

use crate::balance::Load;
use crate::carry::Answers;

/// Tells endpoints apart for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

/// One place that serves a port of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// Tells it apart.
    pub id: EndpointId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Who it must prove to be; none: it is called in plaintext.
    pub identity: Option<Identity>,
    /// Requests in flight and recent latency, from all workers.
    pub load: Load,
    /// What its answers are like.
    answers: AtomicU8,
}

impl Endpoint {
    /// An endpoint nobody has called yet.
    pub fn new(address: SocketAddr, identity: Option<Identity>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = EndpointId(NEXT.fetch_add(1, Ordering::Relaxed));
        Arc::new(Self {
            id,
            address,
            identity,
            load: Load::default(),
            answers: AtomicU8::new(Answers::default() as u8),
        })
    }

    /// Whether it is a process on this host that is called as it is: the application beside.
    pub fn is_beside(&self) -> bool {
        self.identity.is_none() && self.address.ip().is_loopback()
    }

    /// What its last answer to a request that can be [carried](crate::carry) was like.
    pub fn answers(&self) -> Answers {
        let answers = self.answers.load(Ordering::Relaxed);
        [Answers::Short, Answers::Events]
            .into_iter()
            .find(|kind| *kind as u8 == answers)
            .unwrap_or_default()
    }

    /// Notes what an answer was like.
    pub fn answered(&self, answers: Answers) {
        // Most answers are like the one before: workers pass the line around only when it changes.
        if self.answers() != answers {
            self.answers.store(answers as u8, Ordering::Relaxed);
        }
    }
}

/// The endpoints of one port of a service.
#[derive(Debug)]
pub struct EndpointSet {
    /// The service.
    pub service: ObjectName,
    /// The service's name as a label.
    pub label: Arc<str>,
    /// What they speak.
    pub protocol: AppProtocol,
    /// How they are connected to and chosen.
    pub(super) policy: TrafficPolicy,
    /// In the order of the configuration.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl EndpointSet {
    /// A set of endpoints.
    pub fn new(
        service: ObjectName,
        protocol: AppProtocol,
        policy: TrafficPolicy,
        endpoints: Vec<Arc<Endpoint>>,
    ) -> Arc<Self> {
        let label = service.to_string().into();
        Arc::new(Self {
            service,
            label,
            protocol,
            policy,
            endpoints,
        })
    }

    /// The set with only one of its endpoints.
    pub fn only(&self, endpoint: Arc<Endpoint>) -> Arc<Self> {
        Arc::new(Self {
            service: self.service.clone(),
            label: Arc::clone(&self.label),
            protocol: self.protocol,
            policy: self.policy,
            endpoints: vec![endpoint],
        })
    }

    /// How one of them is chosen.
    pub fn balancer(&self) -> BalancerKind {
        self.policy.balancer
    }
}
