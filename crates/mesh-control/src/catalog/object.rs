//! Objects of Kubernetes, as little of each as the mesh needs.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_api::document::MtlsMode;
use mesh_api::name::{Name, ObjectName};

/// Namespace and name of an object of any kind; unlike an [`ObjectName`] its name may have dots, and be longer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where it lives; for a Namespace: itself.
    pub namespace: Name,
    /// What it is called there.
    pub name: Arc<str>,
}

impl Key {
    /// As the mesh names workloads and services; none: the mesh has no such names.
    pub fn object_name(&self) -> Option<ObjectName> {
        Some(ObjectName::new(self.namespace.clone(), self.name.parse().ok()?))
    }
}

impl From<&ObjectName> for Key {
    fn from(name: &ObjectName) -> Self {
        Self {
            namespace: name.namespace.clone(),
            name: name.name.as_str().into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What happened to the objects of a kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// This one is there, and says this.
    Apply(T),
    /// This one is gone.
    Delete(Key),
    /// These are there, and no others.
    Reset(Vec<T>),
}

/// An object that has a [`Key`].
pub trait Keyed {
    /// Which object it is.
    fn key(&self) -> Key;
}

/// A Service that has an address or endpoints: not one of type ExternalName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Its cluster IPs; none: it is headless.
    pub addresses: Vec<IpAddr>,
    /// Whether IPv6 is its first family.
    pub prefers_v6: bool,
}

impl Keyed for Service {
    fn key(&self) -> Key {
        Key::from(&self.name)
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; `port-80` if it has none.
    pub name: Name,
    /// What its EndpointSlices call it: its name, or nothing.
    pub slice_name: Arc<str>,
    /// The number callers use.
    pub number: u16,
    /// Its `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// Some of the endpoints of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub key: Key,
    /// The Service.
    pub service: Name,
    /// Whether its addresses are of IPv6.
    pub v6: bool,
    /// The TCP ports of its endpoints: what the Service calls them, and their numbers.
    pub ports: Vec<(Arc<str>, u16)>,
    /// What serves.
    pub endpoints: Vec<SliceEndpoint>,
}

impl Keyed for Slice {
    fn key(&self) -> Key {
        self.key.clone()
    }
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Where it is.
    pub address: IpAddr,
    /// The pod that it is; none: no pod.
    pub pod: Option<Key>,
    /// Whether it may be sent requests.
    pub state: EndpointState,
}

/// Whether an endpoint may be sent requests; better ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    /// It is.
    Ready,
    /// It ends, and serves until then: to be used when nothing is ready.
    Draining,
    /// It does not serve.
    Unready,
}

/// A pod that has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub key: Key,
    /// Its service account.
    pub account: Arc<str>,
    /// Its addresses; none: it has none yet.
    pub addresses: Vec<IpAddr>,
    /// The TCP ports that its containers declare, without the sidecar's.
    pub ports: Vec<(Option<Name>, u16)>,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// Whether it has the node's addresses instead of its own.
    pub host_network: bool,
    /// Its annotation `mesh.dev/mtls`.
    pub mtls: Mtls,
}

impl Keyed for Pod {
    fn key(&self) -> Key {
        self.key.clone()
    }
}

/// What an annotation `mesh.dev/mtls` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mtls {
    /// Nothing.
    #[default]
    Unsaid,
    /// This.
    Mode(MtlsMode),
    /// Something else: taken for strict, so that a slip of the pen opens nothing.
    Unknown(Arc<str>),
}

impl Mtls {
    /// Reads the annotation.
    pub fn read(text: Option<&str>) -> Self {
        match text {
            None => Self::Unsaid,
            Some("strict") => Self::Mode(MtlsMode::Strict),
            Some("permissive") => Self::Mode(MtlsMode::Permissive),
            Some(other) => Self::Unknown(other.chars().take(64).collect::<String>().into()),
        }
    }

    /// The mode; none: nothing is said.
    pub fn mode(&self) -> Option<MtlsMode> {
        match self {
            Self::Unsaid => None,
            Self::Mode(mode) => Some(*mode),
            Self::Unknown(_) => Some(MtlsMode::Strict),
        }
    }
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Name,
    /// Its annotation `mesh.dev/mtls`.
    pub mtls: Mtls,
}

impl Keyed for Namespace {
    fn key(&self) -> Key {
        Key {
            namespace: self.name.clone(),
            name: self.name.as_str().into(),
        }
    }
}
