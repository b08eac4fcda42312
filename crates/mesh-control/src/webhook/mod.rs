//! What the API server asks before it stores an object: whether an object of the mesh is good, and how a pod comes to its
//! sidecar.
//!
//! Both are asked over HTTPS with AdmissionReviews of version v1, and answered in it. Our certificate is signed by the
//! mesh's own root: one root to keep, to distribute and to rotate, and no workload's certificate has the DNS names that
//! the API server looks for.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, META_API_VERSION_V1};

pub mod inject;
pub mod validate;

use crate::metrics::{Metrics, Outcome, Webhook};

/// The largest AdmissionReview, in bytes: two objects of the 3 MiB that an API server takes, and room around them.
const MAX_REVIEW: usize = 8 << 20;
/// The longest reason that is told, in characters.
const MAX_REASON: usize = 4_000;

/// Who answers.
#[derive(Debug)]
pub struct Webhooks {
    /// What objects are checked against.
    pub validate: validate::Validator,
    /// Who adds sidecars; none: nobody does.
    pub inject: Option<inject::Injector>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What a request is answered with.
#[derive(Debug)]
pub struct Decision {
    /// For the API server.
    pub response: AdmissionResponse,
    /// For the books.
    pub outcome: Outcome,
}

impl Webhooks {
    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        let mut router = Router::new().route("/validate", post(validate));
        if self.inject.is_some() {
            router = router.route("/inject", post(inject));
        }
        router.layer(DefaultBodyLimit::max(MAX_REVIEW)).with_state(self)
    }

    fn answer(&self, webhook: Webhook, decided: Result<Decision, Unreadable>) -> Response {
        match decided {
            Ok(Decision { response, outcome }) => {
                self.metrics.webhook(webhook, outcome);
                Json(response.into_review()).into_response()
            }
            Err(Unreadable { status, reason }) => {
                self.metrics.webhook(webhook, Outcome::Failed);
                tracing::warn!(
                    webhook = webhook.as_str(),
                    "a request can't be answered: {reason}"
                );
                (status, format!("{reason}\n")).into_response()
            }
        }
    }
}

impl Decision {
    fn allowed(response: AdmissionResponse) -> Self {
        Self {
            response,
            outcome: Outcome::Allowed,
        }
    }

    fn denied(mut response: AdmissionResponse, reason: &str) -> Self {
        response = response.deny(reason.chars().take(MAX_REASON).collect::<String>());
        response.result.code = 422;
        response.result.reason = "Invalid".into();
        Self {
            response,
            outcome: Outcome::Denied,
        }
    }
}

/// A request that is no AdmissionReview.
struct Unreadable {
    status: StatusCode,
    reason: String,
}

impl Unreadable {
    fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<AdmissionRequest<DynamicObject>, Unreadable> {
    let body = body.map_err(|rejection| Unreadable::new(rejection.status(), rejection.body_text()))?;
    let wrong = |reason: String| Unreadable::new(StatusCode::BAD_REQUEST, reason);
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(&body)
        .map_err(|error| wrong(format!("this is no AdmissionReview: {error}")))?;
    if review.types.api_version != META_API_VERSION_V1 {
        let version: String = review.types.api_version.chars().take(80).collect();
        return Err(wrong(format!("{version:?} is not {META_API_VERSION_V1}")));
    }
    review
        .try_into()
        .map_err(|_| wrong("the AdmissionReview holds no request".into()))
}

async fn validate(State(webhooks): State<Arc<Webhooks>>, body: Result<Bytes, BytesRejection>) -> Response {
    let decided = read(body).map(|request| webhooks.validate.decide(&request));
    webhooks.answer(Webhook::Validate, decided)
}

async fn inject(State(webhooks): State<Arc<Webhooks>>, body: Result<Bytes, BytesRejection>) -> Response {
    let decided = match (read(body), &webhooks.inject) {
        (Ok(request), Some(injector)) => injector.decide(&request).await,
        (Ok(_), None) => Err(Unreadable::new(
            StatusCode::NOT_FOUND,
            "nobody adds sidecars here",
        )),
        (Err(unreadable), _) => Err(unreadable),
    };
    webhooks.answer(Webhook::Inject, decided)
}

#[cfg(test)]
mod tests;
