//! Where a request goes: decided with mesh-api's code, as references into the Table.

use std::sync::Arc;

use http::request::Parts;
use mesh_api::inference::{ModelName, ModelRequest, ModelVersion};
use mesh_api::matching;
use mesh_api::route::{Action, Backend, Filters, ModelRewrite, Redirect, Rule, Split, Unroutable};
use mesh_api::split;

use crate::error::{Failure, Reason};
use crate::observe::{Direction, SeriesKeyRef};
use crate::table::{EndpointSet, ServicePort, Table};
use crate::worker::Worker;

/// Where a request goes: a rule's backend, or the service itself.
pub(super) struct Route<'a> {
    port: &'a ServicePort,
    /// The rule that takes it, and its position.
    taken: Option<(usize, &'a Rule)>,
    /// The position of its backend, if the rule has some.
    backend: usize,
}

impl<'a> Route<'a> {
    /// Decides where a request goes. `addressed`: it was sent to an endpoint, not to the service.
    pub(super) fn decide(
        worker: &Worker,
        table: &Table,
        port: &'a ServicePort,
        addressed: bool,
        parts: &Parts,
        model: Option<&ModelRequest>,
    ) -> Self {
        let request = matching::Request {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
            model: model.and_then(|it| it.model.as_ref()).map(ModelName::as_str),
            version: model.and_then(|it| it.version.as_ref()).map(ModelVersion::as_str),
            operation: model.map(|it| it.operation),
            caller: Some(&table.identity),
        };
        let rules = if addressed {
            &port.endpoint_rules
        } else {
            &port.rules
        };
        let taken = matching::find(rules, &request).and_then(|at| Some((at, port.rules.get(at)?)));
        let split = taken.and_then(|(_, rule)| rule.split());
        let backend = split.map_or(0, |split| choose(worker, table, split, port.salt, parts));
        Self { port, taken, backend }
    }

    /// The rule that takes it; none: it goes to the service itself.
    pub(super) fn rule(&self) -> Option<&'a Rule> {
        self.taken.map(|(_, rule)| rule)
    }

    fn backend(&self) -> Option<&'a Backend> {
        self.rule()?.backends().get(self.backend)
    }

    /// What the request is to ask for instead.
    pub(super) fn rewrite(&self) -> Option<&'a ModelRewrite> {
        self.backend()?.rewrite.as_ref()
    }

    /// What is changed on the way: by the rule, then by the backend.
    pub(super) fn filters(&self) -> [Option<&'a Filters>; 2] {
        [
            self.rule().and_then(|rule| rule.filters.as_deref()),
            self.backend().and_then(|backend| backend.filters.as_deref()),
        ]
    }

    /// Where the client is to go instead, if the rule says so.
    ///
    /// # Errors
    /// When the rule refuses the request.
    pub(super) fn redirect(&self) -> Result<Option<&'a Redirect>, Failure> {
        match self.rule().map(|rule| &rule.action) {
            Some(Action::Redirect(redirect)) => Ok(Some(redirect)),
            Some(Action::Refuse(refused)) => {
                let reason = match refused.reason {
                    Unroutable::NoRule => Reason::NoRule,
                    Unroutable::NoBackend => Reason::NoBackend,
                };
                Err(Failure::new(reason, &*refused.detail).of(self.object()))
            }
            Some(Action::Split(_)) | None => Ok(None),
        }
    }

    /// What explains an answer of the mesh's own.
    pub(super) fn object(&self) -> &'a Arc<str> {
        self.rule().map_or(&self.port.label, |rule| rule.origin.label())
    }

    /// The endpoints it can go to.
    ///
    /// # Errors
    /// When what it is to go to is not there, or there is nothing for it to go to.
    pub(super) fn set(&self) -> Result<&'a Arc<EndpointSet>, Failure> {
        let port = self.port;
        let Some((at, _)) = self.taken else {
            if let Some(first) = port.rules.first()
                && port.own.endpoints.is_empty()
            {
                let detail = format!(
                    "no rule takes the request, and service {} has no endpoints",
                    port.service
                );
                return Err(Failure::new(Reason::NoRule, detail).of(first.origin.label()));
            }
            return Ok(&port.own);
        };
        let target = port.targets.get(at).and_then(|targets| targets.get(self.backend));
        target
            .and_then(|target| target.set.as_ref())
            .ok_or_else(|| self.nowhere())
    }

    /// Why the backend leads nowhere.
    fn nowhere(&self) -> Failure {
        let Some(backend) = self.backend() else {
            return Failure::new(Reason::NoBackend, "the rule has no backend").of(self.object());
        };
        let failure = match &backend.invalid {
            Some(why) => Failure::new(Reason::NoBackend, format!("backend {}: {why}", backend.name)),
            None => {
                let detail = format!(
                    "backend {} names service {}, or a port of it, that is not there",
                    backend.name, backend.service
                );
                Failure::new(Reason::NoSuchBackend, detail)
            }
        };
        failure.of(self.object())
    }

    /// Where it is counted.
    pub(super) fn labels<'b>(&self, model: Option<&'b ModelRequest>) -> SeriesKeyRef<'b>
    where
        'a: 'b,
    {
        SeriesKeyRef {
            service: &self.port.label,
            rule: self.rule().map_or("", |rule| rule.name.as_str()),
            backend: self.backend().map_or("", |backend| backend.name.as_str()),
            ..SeriesKeyRef::unrouted(Direction::Outbound).asks(model)
        }
    }
}

fn choose(worker: &Worker, table: &Table, split: &Split, salt: split::Salt, parts: &Parts) -> usize {
    match split::key(split, &parts.headers, Some(&table.identity)) {
        Some(key) => split::place(split, salt, &key),
        None => split::draw(split, worker.random()),
    }
}
