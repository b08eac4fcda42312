//! What a request asks of which model, read as far ahead as routing needs and no further.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use mesh_api::document::BeyondReadAhead;
use mesh_api::inference::{self, AppProtocol, Head, ModelRequest, Recognition};
use mesh_api::snapshot::Mesh;
use tokio::time::Instant;

use crate::body::{FromClient, Source, refused};
use crate::error::{Failure, Reason};
use crate::forward::DEFAULT_IDLE;
use crate::limits::Limits;

/// A request whose model is known as far as it needs to be, and its body with what was read of it.
pub struct Recognised {
    /// What it asks; none: it is not a model request, or routing does not depend on what its body says.
    pub model: Option<ModelRequest>,
    /// Its body.
    pub source: Rc<RefCell<Source>>,
}

/// How a request's body is held.
pub struct Hold<'a> {
    /// How far.
    pub mesh: &'a Mesh,
    /// Whether it must be, because routing depends on the name of the model.
    pub needed: bool,
    /// How long the client may send nothing.
    pub silence: Duration,
}

/// How long a client may send nothing of a body: gRPC calls may be silent for as long as nothing else moves either.
pub fn silence(limits: &Limits, grpc: bool) -> Duration {
    if grpc {
        DEFAULT_IDLE
    } else {
        limits.body_timeout.get()
    }
}

/// Recognises a request. When needed, the body is held until it names the model; otherwise the name is found as the
/// body passes by.
///
/// # Errors
/// When the request has no single meaning, or its name stands too far in it and such requests are to be refused.
pub async fn recognise(
    protocol: AppProtocol,
    how: &Hold<'_>,
    parts: &Parts,
    body: FromClient,
) -> Result<Recognised, Failure> {
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let head = Head {
        method: &parts.method,
        target,
        headers: &parts.headers,
    };
    let recognition = inference::recognise(protocol, &head).map_err(|refusal| refused(&refusal))?;
    let now = Instant::now();
    match recognition {
        Recognition::Plain => Ok(Recognised {
            model: None,
            source: Source::new(body, None, None, now, how.silence),
        }),
        Recognition::Known(model) => {
            let source = Source::new(body, None, None, now, how.silence);
            Ok(Recognised {
                model: Some(model),
                source,
            })
        }
        Recognition::Body(scanner) => {
            let operation = scanner.operation();
            let within = how.needed.then_some(how.mesh.read_ahead_bytes);
            let source = Source::new(body, Some(scanner), within, now, how.silence);
            let model = if how.needed {
                hold(how, &source).await?
            } else {
                // Known from the head alone: the operation, for labels.
                ModelRequest::unnamed(operation)
            };
            Ok(Recognised {
                model: Some(model),
                source,
            })
        }
    }
}

/// Holds the body until it names the model, or is over, or is too long.
async fn hold(how: &Hold<'_>, source: &Rc<RefCell<Source>>) -> Result<ModelRequest, Failure> {
    let mesh = how.mesh;
    loop {
        if source.borrow().late() {
            let limit = mesh.read_ahead_bytes;
            let detail = format!(
                "no model name within the first {limit} bytes (MeshConfig spec.inference.readAheadBytes)"
            );
            return without_name(
                mesh,
                Failure::new(Reason::BeyondReadAhead, detail),
                source.borrow().operation(),
            );
        }
        if let Some(found) = source.borrow().found() {
            return readable(mesh, found.clone());
        }
        let more = poll_fn(|cx| source.borrow_mut().poll_hold(cx));
        let Ok(more) = tokio::time::timeout(how.silence, more).await else {
            return Err(slow(how.silence));
        };
        match more {
            Ok(true) => {}
            // However the body is cut into pieces, what follows the name is the server's concern.
            Ok(false) if source.borrow().late() || source.borrow().found().is_some() => {}
            Ok(false) => {
                let finished = source.borrow_mut().finish();
                let model = finished.map_err(|refusal| refused(&refusal))?;
                return readable(
                    mesh,
                    model.unwrap_or_else(|| ModelRequest::unnamed(inference::Operation::Other)),
                );
            }
            Err(error) => {
                let failure = source.borrow().failure().cloned();
                return Err(failure.unwrap_or_else(|| Failure::new(Reason::ClientAborted, error.to_string())));
            }
        }
    }
}

/// The client sends nothing.
pub fn slow(silence: Duration) -> Failure {
    let detail = format!("nothing came of the request's body for {silence:?} (--body-timeout)");
    Failure::new(Reason::SlowBody, detail)
}

fn readable(mesh: &Mesh, model: ModelRequest) -> Result<ModelRequest, Failure> {
    match model.unreadable {
        None => Ok(model),
        Some(why) => {
            let operation = model.operation;
            without_name(
                mesh,
                Failure::new(Reason::Unreadable, why.as_str()),
                Some(operation),
            )
        }
    }
}

/// What happens to a request whose name can't be read: the setting says.
fn without_name(
    mesh: &Mesh,
    refused: Failure,
    operation: Option<inference::Operation>,
) -> Result<ModelRequest, Failure> {
    match mesh.beyond_read_ahead {
        BeyondReadAhead::Refuse => Err(refused),
        BeyondReadAhead::RouteWithoutModel => Ok(ModelRequest::unnamed(
            operation.unwrap_or(inference::Operation::Other),
        )),
    }
}
