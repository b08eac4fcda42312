//! MLflow, SageMaker and Databricks scoring servers: no model on the wire, except in Databricks' paths.

use super::{
    operation::Operation,
    path::{Path, is, name},
    refusal::Refusal,
    request::{ModelRequest, PathPlace, PathStyle, Place},
};

/// Reads a path. `None`: not a path of the protocol.
pub(super) fn path(path: &Path<'_>) -> Result<Option<ModelRequest>, Refusal> {
    path.without_odd_escapes()?;
    let segments = path.segments::<8>();
    let (endpoint, operation) = match segments.as_slice() {
        [only] if is(only, "invocations") => (None, Operation::Score),
        [only] if is(only, "ping") || is(only, "health") => (None, Operation::Health),
        [only] if is(only, "version") => (None, Operation::Metadata),
        [first, endpoint, last] if is(first, "serving-endpoints") && is(last, "invocations") => {
            (Some(*endpoint), Operation::Score)
        }
        [first, endpoint, served, _, last]
            if is(first, "serving-endpoints") && is(served, "served-models") && is(last, "invocations") =>
        {
            (Some(*endpoint), Operation::Score)
        }
        _ => return Ok(None),
    };
    let Some(endpoint) = endpoint else {
        return Ok(Some(ModelRequest::unnamed(operation)));
    };
    let at = path.range_of(endpoint);
    Ok(Some(ModelRequest {
        model: Some(name(endpoint)?),
        place: Place::Path(PathPlace {
            version: at.end..at.end,
            name: at,
            style: PathStyle::NameOnly,
        }),
        ..ModelRequest::unnamed(operation)
    }))
}
