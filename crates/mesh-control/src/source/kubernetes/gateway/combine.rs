//! The one route of a Service that has a ModelRoute, routes of the Gateway API, or both.

use mesh_api::name::ObjectName;
use mesh_api::route::{Route, Rule};
use mesh_api::validate::Problem;

use super::names::Names;

/// Puts a ModelRoute and rules from [`super::compile`] together. The ModelRoute comes first: what its rules take is decided
/// by it alone, everything else by the others, which refuse what none of them takes.
///
/// # Errors
/// When there are more rules than a route may have.
pub fn combine(
    service: &ObjectName,
    model_route: Option<Route>,
    rules: Vec<Rule>,
) -> Result<Option<Route>, Vec<Problem>> {
    if rules.is_empty() {
        return Ok(model_route);
    }
    let object = model_route.as_ref().and_then(|route| route.object.clone());
    let mut all: Vec<Rule> = model_route
        .iter()
        .flat_map(|route| route.rules.iter().cloned())
        .collect();
    let mut names = Names::taken(all.iter().map(|rule| &rule.name));
    all.extend(rules.into_iter().map(|rule| Rule {
        name: names.unique(rule.name.as_str()),
        ..rule
    }));
    Route::of(service.clone(), object, all).map(Some)
}
