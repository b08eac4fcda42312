//! `meshctl rotate`: another root of trust for a mesh on Kubernetes, step by step as its proxies follow.

use mesh_api::wire::admin::{RootRotation, StartRootRotationRequest};
use serde::Serialize;

use super::Context;
use crate::client::answer;
use crate::error::Outcome;
use crate::output::{ago, clock};

#[derive(Debug, Serialize)]
struct Begun {
    phase: String,
    roots: Vec<Root>,
}

#[derive(Debug, Serialize)]
struct Root {
    fingerprint: String,
    expiry: i64,
}

/// Begins it; it goes on by itself.
pub(crate) async fn run(context: &Context) -> Outcome {
    let mut admin = crate::kubernetes::admin(&context.cluster().await?).await?;
    let begun = begun(answer(admin.start_root_rotation(StartRootRotationRequest {})).await?);
    if let Some(format) = context.machine() {
        return context.printer.machine(format, &begun);
    }
    let now = clock();
    let lines = begun
        .roots
        .iter()
        .map(|root| format!("root {} good for {}\n", root.fingerprint, ago(now, root.expiry)));
    context.printer.data(&lines.collect::<String>())?;
    context
        .printer
        .hint("it goes on by itself as proxies follow; `meshctl check` shows how far it is");
    Ok(())
}

fn begun(rotation: RootRotation) -> Begun {
    let roots = rotation.roots.into_iter().map(|root| Root {
        fingerprint: root.fingerprint,
        expiry: root.expiry,
    });
    Begun {
        phase: rotation.phase,
        roots: roots.collect(),
    }
}
