//! How the control plane does: `/live`, `/ready` and `/metrics`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::ca::Authority;
use crate::metrics::{Measured, Metrics};
use crate::plane::Plane;

/// What is told about.
#[derive(Debug)]
pub struct Health {
    metrics: Arc<Metrics>,
    parts: OnceLock<(Arc<Plane>, Arc<Authority>)>,
    stops: AtomicBool,
}

impl Health {
    /// Of a control plane that begins to start.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            parts: OnceLock::new(),
            stops: AtomicBool::new(false),
        }
    }

    /// Everything is there.
    pub fn started(&self, plane: Arc<Plane>, authority: Arc<Authority>) {
        let _ = self.parts.set((plane, authority));
    }

    /// It is about to end: nobody should come here any more.
    pub fn stops(&self) {
        self.stops.store(true, Relaxed);
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/live", get(|| async { "ok\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// Why it can't serve; none: it can.
    fn not_ready(&self) -> Option<&'static str> {
        match self.parts.get() {
            _ if self.stops.load(Relaxed) => Some("it stops"),
            None => Some("it starts: the API server does not answer, or the root can't be used"),
            Some((plane, _)) if !plane.is_ready() => Some("the mesh was not read yet"),
            Some(_) => None,
        }
    }

    fn measure(&self) -> Measured {
        let Some((plane, authority)) = self.parts.get() else {
            return Measured::default();
        };
        let trust = authority.trust();
        Measured {
            proxies: plane.proxies().connected(),
            version: plane.publisher().current().version.0,
            root_expiry: trust.signer().expiry().unix_timestamp(),
            roots: trust.bundle().len(),
        }
    }
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.not_ready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], health.metrics.text(health.measure()))
}
