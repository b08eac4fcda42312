//! The names under which callers know a service.

use mesh_api::name::{Name, ObjectName};

/// The host names of a service for a caller in `from`: the long forms always, the bare name in its own namespace.
pub(super) fn names(service: &ObjectName, from: &Name, more: &[String]) -> Vec<String> {
    let ObjectName { namespace, name } = service;
    let long = format!("{name}.{namespace}");
    let mut names = vec![
        format!("{long}.svc"),
        format!("{long}.svc.cluster.local"),
        format!("{long}.mesh"),
        long,
    ];
    if namespace == from {
        names.push(name.to_string());
    }
    names.extend(more.iter().cloned());
    names
}
