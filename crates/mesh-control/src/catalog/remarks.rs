//! What people are told about objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_api::document::Document;
use mesh_api::validate::Problem;

use super::documents::Verdict;
use super::{Catalog, services, workloads};
use crate::source::kubernetes::gateway;

/// Something that people should know about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Kind and name, such as `ModelRoute ml/fraud`.
    pub object: String,
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether the object counts all the same.
    pub warning: bool,
}

impl Remark {
    fn new(object: &impl ToString, problem: Problem, warning: bool) -> Self {
        Self {
            object: object.to_string(),
            field: problem.field,
            reason: problem.reason,
            warning,
        }
    }
}

impl Catalog {
    /// The mesh's own documents that are in force, in the order of kind and name.
    pub fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.verdicts().filter_map(|verdict| verdict.in_force)
    }

    /// What becomes of each object of the mesh's own kinds, in the same order.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict<'_>> {
        self.documents.verdicts()
    }

    /// What people should know about objects.
    pub fn remarks(&self) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for verdict in self.documents.verdicts() {
            let object = format!("{} {}", verdict.written.kind, verdict.written.key);
            let refused = verdict.refused.into_iter();
            remarks.extend(refused.map(|problem| Remark::new(&object, problem, false)));
            let missing = verdict.in_force.map(|document| self.missing(document));
            let missing = missing.into_iter().flatten();
            remarks.extend(missing.map(|problem| Remark::new(&object, problem, true)));
        }
        remarks.extend(
            self.route_verdicts()
                .flat_map(|(route, verdicts)| of_route(route, &verdicts)),
        );
        for service in self.services.values() {
            let problems = services::problems(service).into_iter();
            let object = format!("Service {}", service.name);
            remarks.extend(problems.map(|problem| Remark::new(&object, problem, true)));
        }
        for namespace in self.namespaces.values() {
            let problem = workloads::mtls_problem(&namespace.mtls);
            remarks.extend(
                problem.map(|problem| Remark::new(&format!("Namespace {}", namespace.name), problem, true)),
            );
        }
        for pod in self.pods.values() {
            let problems = workloads::problems(pod).into_iter();
            remarks.extend(problems.map(|problem| Remark::new(&format!("Pod {}", pod.key), problem, true)));
        }
        remarks
    }

    /// What a document names that is not there.
    pub fn missing(&self, document: &Document) -> Vec<Problem> {
        mesh_api::validate::missing(document, &|name| {
            let service = self.view.service(name)?;
            Some(service.ports.iter().map(|port| port.name.clone()).collect())
        })
    }
}

/// What is wrong with a route of the Gateway API, once for all its parents.
fn of_route(route: &gateway::Parsed, verdicts: &[gateway::Verdict]) -> BTreeSet<Remark> {
    let object = route.origin();
    let refused = verdicts.iter().map(|it| &it.accepted).filter(|it| !it.holds);
    let refused = refused.map(|accepted| {
        // What is not supported is told with its field.
        let field = accepted
            .message
            .split_once(": ")
            .filter(|(field, _)| field.starts_with("spec."));
        let (field, reason) = field.unwrap_or(("spec.parentRefs", accepted.message.as_str()));
        Remark::new(&object, Problem::new(field, reason), false)
    });
    let missing = verdicts.iter().map(|it| &it.resolved_refs).filter(|it| !it.holds);
    let missing = missing.map(|refs| Remark::new(&object, Problem::new("spec.rules", &*refs.message), true));
    refused.chain(missing).collect()
}
