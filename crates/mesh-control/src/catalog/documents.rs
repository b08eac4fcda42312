//! The mesh's own kinds as objects of Kubernetes: which of them are in force.
//!
//! A bad object is refused alone, and what it last said that was good stays in force; its status keeps that for control planes
//! that start meanwhile. Of several that are about one Service,
//! the oldest is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::document::{API_VERSION, Document, Kind, MeshConfigSpec, MtlsMode, ObjectId};
use mesh_api::identity::TrustDomain;
use mesh_api::kubernetes::{self, MESH_CONFIG, ModelRouteStatus};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::Route;
use mesh_api::snapshot::{Mesh, TrafficPolicy};
use mesh_api::validate::{self, Problem};
use serde_json::{Value, json};

use super::object::{Key, Keyed};
use crate::compile::traffic_policy;

/// The kinds that are objects of Kubernetes.
pub const KINDS: [Kind; 3] = [Kind::MeshConfig, Kind::TrafficPolicy, Kind::ModelRoute];

/// What holds for the whole mesh, before any object is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of every identity.
    pub trust_domain: TrustDomain,
    /// The domain of the Kubernetes cluster, behind `svc.` in the names of Services.
    pub cluster_domain: String,
    /// The namespace of the control plane, where the MeshConfig is.
    pub namespace: Name,
}

/// An object as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: Key,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// Which of its versions this is.
    pub generation: i64,
    /// What it says, valid by itself; or what is wrong with it.
    pub content: Result<Arc<Document>, Vec<Problem>>,
    /// Its status; that of other kinds is a part of a ModelRoute's.
    pub status: ModelRouteStatus,
}

impl Keyed for Written {
    fn key(&self) -> Key {
        self.key.clone()
    }
}

/// Reads what an object says.
///
/// # Errors
/// All that is wrong with it by itself.
pub fn read(kind: Kind, key: &Key, spec: Value, settings: &Settings) -> Result<Document, Vec<Problem>> {
    let spec = match kind {
        Kind::MeshConfig => with_defaults(spec),
        _ => spec,
    };
    // What else an object says of itself is nothing to the mesh.
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": kind.as_str(),
        "metadata": {"name": &*key.name, "namespace": key.namespace.as_str()},
        "spec": spec,
    });
    let document = kubernetes::read(&object).map_err(|problem| vec![problem])?;
    let mut problems = validate::alone(&document);
    if let Document::MeshConfig(object) = &document {
        problems.extend(mesh_config_problem(key, &object.spec, settings));
    }
    if problems.is_empty() {
        Ok(document)
    } else {
        Err(problems)
    }
}

/// On Kubernetes, plaintext is taken where nobody says otherwise: pods without a sidecar are the rule when a mesh begins.
fn with_defaults(mut spec: Value) -> Value {
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("mtls").or_insert_with(|| "permissive".into());
    }
    spec
}

fn mesh_config_problem(key: &Key, spec: &MeshConfigSpec, settings: &Settings) -> Option<Problem> {
    let Settings {
        trust_domain,
        namespace,
        ..
    } = settings;
    if (&key.namespace, &*key.name) != (namespace, MESH_CONFIG) {
        let reason =
            format!("the MeshConfig of this mesh is {namespace}/{MESH_CONFIG}: write what is meant there");
        return Some(Problem::new("metadata.name", reason));
    }
    let other = spec
        .trust_domain
        .as_ref()
        .is_some_and(|domain| domain != trust_domain);
    other.then(|| {
        let reason = format!(
            "the control plane was started with trust domain {trust_domain}: write it here too, or leave the field out"
        );
        Problem::new("spec.trustDomain", reason)
    })
}

/// The objects of the mesh's own kinds.
#[derive(Debug)]
pub struct Documents {
    settings: Settings,
    held: BTreeMap<(Kind, Key), Held>,
    /// ModelRoutes by the Service they are about.
    routes: Attached,
    /// TrafficPolicies by the Service they are about.
    policies: Attached,
}

/// Objects by the Service they are about, the oldest first.
type Attached = BTreeMap<ObjectName, BTreeSet<Seniority>>;
/// When it was created, and its name.
type Seniority = (i64, Key);

#[derive(Debug)]
struct Held {
    written: Written,
    /// What it last said that was good.
    good: Option<Good>,
}

#[derive(Clone, Debug)]
struct Good {
    document: Arc<Document>,
    /// The Service it is about; none: the mesh.
    service: Option<ObjectName>,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    Mesh(Mesh),
    Route(Box<Route>),
    Policy(TrafficPolicy),
}

/// What a change of an object touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// These Services.
    pub services: BTreeSet<ObjectName>,
    /// What holds for the whole mesh.
    pub mesh: bool,
}

/// What becomes of an object.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// As it is written.
    pub written: &'a Written,
    /// What is in force of it.
    pub in_force: Option<&'a Arc<Document>>,
    /// Why what is written is not in force.
    pub refused: Vec<Problem>,
}

impl Documents {
    /// No objects.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            held: BTreeMap::new(),
            routes: Attached::new(),
            policies: Attached::new(),
        }
    }

    /// An object says this.
    pub fn put(&mut self, written: Written) -> Touched {
        let at = (written.kind, written.key.clone());
        let before = self.held.remove(&at);
        let content = written.content.as_ref().ok();
        let fresh = content.and_then(|document| Good::of(document, &self.settings));
        let good = fresh
            .or_else(|| before.as_ref().and_then(|before| before.good.clone()))
            .or_else(|| self.kept(&written));
        let mut touched = Touched::default();
        self.detach(before.as_ref(), &mut touched);
        let held = Held { written, good };
        self.attach(&held, &mut touched);
        self.held.insert(at, held);
        touched
    }

    /// What was in force when it was written, as its status has kept it from another control plane.
    fn kept(&self, written: &Written) -> Option<Good> {
        let spec = written.status.in_force.clone()?;
        let document = read(written.kind, &written.key, spec, &self.settings).ok()?;
        Good::of(&Arc::new(document), &self.settings)
    }

    /// An object is gone.
    pub fn delete(&mut self, kind: Kind, key: &Key) -> Touched {
        let mut touched = Touched::default();
        let held = self.held.remove(&(kind, key.clone()));
        self.detach(held.as_ref(), &mut touched);
        touched
    }

    /// The objects of a kind.
    pub fn keys(&self, kind: Kind) -> impl Iterator<Item = &Key> {
        let held = self.held.keys();
        held.filter(move |(there, _)| *there == kind).map(|(_, key)| key)
    }

    /// What holds for the whole mesh.
    pub fn mesh(&self) -> Mesh {
        let Settings {
            trust_domain,
            namespace,
            ..
        } = &self.settings;
        let key = Key {
            namespace: namespace.clone(),
            name: MESH_CONFIG.into(),
        };
        match self
            .held
            .get(&(Kind::MeshConfig, key))
            .and_then(|held| held.good.as_ref())
        {
            Some(Good {
                effect: Effect::Mesh(mesh),
                ..
            }) => mesh.clone(),
            _ => {
                let defaults = MeshConfigSpec {
                    mtls: MtlsMode::Permissive,
                    ..MeshConfigSpec::default()
                };
                Mesh::new(&defaults, trust_domain)
            }
        }
    }

    /// How a Service's requests are routed.
    pub fn route(&self, service: &ObjectName) -> Option<&Route> {
        match &self.first(Kind::ModelRoute, service)?.effect {
            Effect::Route(route) => Some(route),
            Effect::Mesh(_) | Effect::Policy(_) => None,
        }
    }

    /// How a Service's endpoints are connected to and chosen.
    pub fn policy(&self, service: &ObjectName) -> TrafficPolicy {
        match self.first(Kind::TrafficPolicy, service).map(|good| &good.effect) {
            Some(Effect::Policy(policy)) => *policy,
            _ => TrafficPolicy::default(),
        }
    }

    /// What becomes of each object, in the order of kind and name.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict<'_>> {
        self.held.values().map(|held| self.judge(held))
    }

    fn judge<'a>(&'a self, held: &'a Held) -> Verdict<'a> {
        let written = &held.written;
        let mut refused = written.content.as_ref().err().cloned().unwrap_or_default();
        let mut in_force = held.good.as_ref();
        if let Some((service, senior)) = in_force.and_then(|good| self.senior(written, good)) {
            let reason = format!(
                "{} {senior} is about service {service} already, and is older: put both into one",
                written.kind
            );
            refused.push(Problem::new("spec.service", reason));
            in_force = None;
        }
        Verdict {
            written,
            in_force: in_force.map(|good| &good.document),
            refused,
        }
    }

    /// The older object that is about the same Service.
    fn senior<'a>(&'a self, written: &Written, good: &'a Good) -> Option<(&'a ObjectName, &'a Key)> {
        let service = good.service.as_ref()?;
        let (_, first) = self.attached(written.kind).get(service)?.first()?;
        (*first != written.key).then_some((service, first))
    }

    fn first(&self, kind: Kind, service: &ObjectName) -> Option<&Good> {
        let (_, key) = self.attached(kind).get(service)?.first()?;
        self.held.get(&(kind, key.clone()))?.good.as_ref()
    }

    fn attached(&self, kind: Kind) -> &Attached {
        match kind {
            Kind::TrafficPolicy => &self.policies,
            _ => &self.routes,
        }
    }

    fn attach(&mut self, held: &Held, touched: &mut Touched) {
        if let Some((service, seniority)) = note(held, touched) {
            let attached = self.attached_mut(held.written.kind);
            attached.entry(service).or_default().insert(seniority);
        }
    }

    fn detach(&mut self, held: Option<&Held>, touched: &mut Touched) {
        let Some(held) = held else { return };
        let Some((service, seniority)) = note(held, touched) else {
            return;
        };
        let attached = self.attached_mut(held.written.kind);
        if let Some(there) = attached.get_mut(&service) {
            there.remove(&seniority);
            if there.is_empty() {
                attached.remove(&service);
            }
        }
    }

    fn attached_mut(&mut self, kind: Kind) -> &mut Attached {
        match kind {
            Kind::TrafficPolicy => &mut self.policies,
            _ => &mut self.routes,
        }
    }
}

/// Notes what an object touches: a Service, as one of those that are about it, or the mesh.
fn note(held: &Held, touched: &mut Touched) -> Option<(ObjectName, Seniority)> {
    let service = held.good.as_ref()?.service.clone();
    match service {
        None => {
            touched.mesh = true;
            None
        }
        Some(service) => {
            touched.services.insert(service.clone());
            Some((service, (held.written.created, held.written.key.clone())))
        }
    }
}

impl Good {
    /// What a document that is valid by itself means.
    fn of(document: &Arc<Document>, settings: &Settings) -> Option<Self> {
        let ObjectId { name, .. } = document.id();
        let here = |service: &Name| ObjectName::new(name.namespace.clone(), service.clone());
        let (service, effect) = match &**document {
            Document::MeshConfig(object) => (
                None,
                Effect::Mesh(Mesh::new(&object.spec, &settings.trust_domain)),
            ),
            Document::ModelRoute(object) => {
                let route = Route::new(&name, &object.spec).ok()?;
                (Some(route.service.clone()), Effect::Route(Box::new(route)))
            }
            Document::TrafficPolicy(object) => {
                let policy = traffic_policy(&object.spec);
                (Some(here(&object.spec.service)), Effect::Policy(policy))
            }
            Document::Service(_) | Document::Workload(_) => return None,
        };
        Some(Self {
            document: Arc::clone(document),
            service,
            effect,
        })
    }
}
