//! What is asked, and what is told of it.

use std::net::SocketAddr;

use http::{HeaderMap, Method};
use serde::Serialize;

use crate::identity::Identity;
use crate::inference::{AppProtocol, Operation};
use crate::name::{Name, ObjectName};
use crate::route::Origin;

/// A request to be explained.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The service it is sent to.
    pub service: &'a ObjectName,
    /// The service's port; none: its only one, or its first.
    pub port: Option<&'a Name>,
    /// Its method.
    pub method: &'a Method,
    /// Its target: path and query.
    pub target: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body, or as much of it as is known.
    pub body: &'a [u8],
    /// Who sends it.
    pub caller: Option<&'a Identity>,
}

impl Question<'_> {
    /// The path of its target.
    pub fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    /// The query of its target, if it has one.
    pub fn query(&self) -> Option<&str> {
        let target = self.target.split('#').next()?;
        target.split_once('?').map(|(_, query)| query)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// No such service.
    #[error("there is no Service {0}")]
    NoService(ObjectName),
    /// No such port.
    #[error("Service {service} has no port {port:?}: it has {there}")]
    NoPort {
        /// The service.
        service: ObjectName,
        /// The port that was asked for.
        port: String,
        /// Those that it has.
        there: String,
    },
}

/// What happens to a request, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The service.
    pub service: ObjectName,
    /// Its port.
    pub port: Name,
    /// What the port speaks.
    pub protocol: AppProtocol,
    /// What was recognised; none: not a model request.
    pub model: Option<Recognised>,
    /// The ModelRoute of the service.
    pub route: Option<ObjectName>,
    /// The rules up to the one that takes the request, each with why it does not.
    pub rules: Vec<Considered>,
    /// What comes of it.
    pub decision: Decision,
}

/// What a request asks of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recognised {
    /// What is asked.
    pub operation: Operation,
    /// The model, if one is named.
    pub model: Option<String>,
    /// Its version, if one is named.
    pub version: Option<String>,
    /// What is to be known about the reading.
    pub note: Option<String>,
}

/// A rule that was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Considered {
    /// Its name.
    pub rule: Name,
    /// What it was made from.
    pub origin: Origin,
    /// Whether it takes the request.
    pub takes: bool,
    /// For each of its matches, the first field that does not hold; none: all hold.
    pub mismatches: Vec<Option<&'static str>>,
}

/// What comes of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Decision {
    /// The mesh answers it itself.
    Refused {
        /// The status.
        status: u16,
        /// The word in `mesh-error`.
        reason: String,
        /// What is wrong.
        detail: String,
    },
    /// A rule's split takes it.
    #[serde(rename_all = "camelCase")]
    Split {
        /// The rule.
        rule: Name,
        /// How the backend is chosen.
        how: How,
        /// The backends it can go to; one when it is certain.
        backends: Vec<Possible>,
    },
    /// A rule answers it with where to go instead.
    #[serde(rename_all = "camelCase")]
    Redirect {
        /// The rule.
        rule: Name,
        /// The status.
        status: u16,
        /// The URL in `location`.
        location: String,
    },
    /// No rule takes it: it goes to the service's own endpoints.
    Own {
        /// Where they are.
        endpoints: Vec<Place>,
    },
}

/// How a split chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum How {
    /// By weight, anew for each request.
    Draw {
        /// The key that would keep the caller on one backend, when the request lacks it.
        missing: Option<String>,
    },
    /// By a key: always the same.
    Key {
        /// What the key is: a header, or the caller.
        name: String,
        /// The key itself.
        value: String,
    },
}

/// A backend that a request can go to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Possible {
    /// Its name.
    pub name: Name,
    /// How likely it is, above 0 up to 1.
    pub probability: f64,
    /// Whose endpoints serve it.
    pub service: ObjectName,
    /// The target that is sent instead, when it is rewritten.
    pub target: Option<String>,
    /// The model asked for there, when it is rewritten.
    pub model: Option<String>,
    /// The version asked for there, when it is rewritten.
    pub version: Option<String>,
    /// What else is changed on the way there and back, in words.
    pub changes: Vec<String>,
    /// Why it fails there, when it does.
    pub failure: Option<String>,
    /// Where it is served.
    pub endpoints: Vec<Place>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The workload; none: one without a sidecar.
    pub workload: Option<ObjectName>,
    /// Where it is called.
    pub address: SocketAddr,
}
