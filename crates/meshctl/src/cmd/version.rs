//! `meshctl version`: what runs here, and what runs there.

use mesh_api::wire::admin::GetStatusRequest;
use serde::Serialize;

use super::{Context, Place};
use crate::client::answer;
use crate::error::Outcome;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client: &'static str,
    control: Option<String>,
    mesh: Option<String>,
}

/// Prints both versions; that no mesh runs is no error.
pub(crate) async fn run(context: &Context) -> Outcome {
    let place = context.place().await.ok();
    let admin = match &place {
        Some(place) => place.admin().await.ok(),
        None => None,
    };
    let control = match admin {
        Some(mut admin) => answer(admin.get_status(GetStatusRequest {})).await.ok(),
        None => None,
    };
    let mesh = place.map(|place| match place {
        Place::Machine(mesh) => mesh.name.to_string(),
        Place::Kubernetes(cluster) => cluster.context,
    });
    let versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        mesh: mesh.filter(|_| control.is_some()),
        control: control.map(|status| status.software),
    };
    if let Some(format) = context.machine() {
        return context.printer.machine(format, &versions);
    }
    let control = match (&versions.control, &versions.mesh) {
        (Some(software), Some(mesh)) => format!("{software} (mesh {mesh})"),
        _ => "not running".into(),
    };
    context
        .printer
        .data(&format!("client   {}\ncontrol  {control}\n", versions.client))
}
