//! `meshctl delete`: a document out of the running mesh.

use clap::Args;
use mesh_api::document::Kind;
use mesh_api::wire::admin::DeleteRequest;

use super::get::object_name;
use super::{Context, Place};
use crate::cli;
use crate::client::answer;
use crate::documents::{self, meant};
use crate::error::Outcome;
use crate::kubernetes::{self, Cluster};

/// Flags of `meshctl delete`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// The kind
    #[arg(value_parser = cli::kind)]
    kind: Kind,
    /// The name, or namespace/name
    name: String,
}

impl Delete {
    /// Deletes the document of this name.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let place = context.place().await?;
        if let Place::Kubernetes(cluster) = &place {
            return self.on_kubernetes(context, cluster).await;
        }
        let mut admin = place.admin().await?;
        let listed = documents::list(&mut admin, Some(self.kind), None, None).await?;
        let names = listed.iter().map(|it| it.document.id().name);
        let names: Vec<_> = names.map(|name| (name.clone(), name)).collect();
        let object = meant(self.kind.as_str(), &self.name, context.namespace(), names)?;
        let request = DeleteRequest {
            kind: self.kind.to_string(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
        };
        let version = answer(admin.delete(request)).await?.version;
        let text = serde_json::json!({"object": format!("{} {object}", self.kind), "action": "deleted", "version": version});
        if let Some(format) = context.machine() {
            return context.printer.machine(format, &text);
        }
        context
            .printer
            .data(&format!("{} {object} deleted\n", self.kind))?;
        context.printer.say(format!("version {version}"));
        Ok(())
    }

    async fn on_kubernetes(&self, context: &Context, cluster: &Cluster) -> Outcome {
        let objects = kubernetes::documents::list(cluster, Some(self.kind)).await?;
        let names = objects.iter().filter_map(object_name);
        let names: Vec<_> = names.map(|name| (name.clone(), name)).collect();
        let object = meant(self.kind.as_str(), &self.name, context.namespace(), names)?;
        kubernetes::documents::delete(
            cluster,
            self.kind,
            object.namespace.as_str(),
            object.name.as_str(),
        )
        .await?;
        let text = serde_json::json!({"object": format!("{} {object}", self.kind), "action": "deleted"});
        match context.machine() {
            Some(format) => context.printer.machine(format, &text),
            None => context.printer.data(&format!("{} {object} deleted\n", self.kind)),
        }
    }
}
