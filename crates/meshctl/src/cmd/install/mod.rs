//! `meshctl install` and `meshctl upgrade`: the control plane onto a Kubernetes cluster, step by step. Each step says
//! how things should be, so whoever is interrupted begins again.

pub(crate) mod plan;
pub(crate) mod preflight;
pub(crate) mod steps;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Context;
use crate::error::{Failure, Outcome};
use crate::finding::{self, Verdict};
use crate::kubernetes::{Change, Cluster, Manifest};
use crate::output::Format;
use crate::{chart, cli};

use plan::Plan;
use preflight::Intent;

/// Who owns the fields that an installation sets.
pub(crate) const MANAGER: &str = "meshctl-install";

/// Flags of `meshctl install`.
#[derive(Args, Debug)]
pub(crate) struct Install {
    #[command(flatten)]
    changes: Changes,
}

/// Flags of `meshctl upgrade`.
#[derive(Args, Debug)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    changes: Changes,
}

/// How the installation is to be.
#[derive(Args, Debug)]
struct Changes {
    /// Two replicas of the control plane on different nodes: --set ha=true
    #[arg(long)]
    ha: bool,
    /// A value of the chart, such as images.registry=registry.example.com/mesh; may be given several times
    #[arg(long, value_name = "PATH=VALUE", value_parser = chart::assignment)]
    set: Vec<Value>,
    /// A YAML file of the chart's values; may be given several times
    #[arg(long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Forget the values of the installation that is there; default: they stay, and these go over them
    #[arg(long)]
    reset_values: bool,
    /// Let the API server check everything, show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for each thing that must become ready
    #[arg(long, default_value = "3m", value_parser = cli::span, value_name = "SPAN")]
    timeout: Duration,
}

impl Install {
    /// Installs, or shows what would be.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if let Some(format) = context.machine() {
            let plan = Plan::of(&self.changes.values()?, &context.globals.mesh_namespace)?;
            return print(context, format, &plan);
        }
        let cluster = context.cluster().await?;
        self.changes.carry_out(context, &cluster, Intent::Install).await?;
        if self.changes.dry_run {
            return Ok(());
        }
        context.printer.hint(
            "`meshctl check` looks at everything; \
             `kubectl label namespace NAME mesh.dev/inject=enabled` gives new pods there a proxy",
        );
        Ok(())
    }
}

impl Upgrade {
    /// Brings an installation to this release, and says which proxies are to follow.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        if context.machine().is_some() {
            return Err(Failure::Usage(
                "upgrade prints no objects: `meshctl install -o yaml` does".into(),
            ));
        }
        let cluster = context.cluster().await?;
        self.changes.carry_out(context, &cluster, Intent::Upgrade).await?;
        if self.changes.dry_run {
            return Ok(());
        }
        super::upgrade::report(context, &cluster).await
    }
}

impl Changes {
    /// The values given here, over nothing.
    fn values(&self) -> Outcome<Value> {
        let mut values = Value::Object(serde_json::Map::new());
        for file in &self.values {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
            let read: Option<Value> = serde_saphyr::from_str(&text)
                .map_err(|error| Failure::new(format!("{} is not YAML: {error}", file.display())))?;
            match read {
                None => {}
                Some(read) if read.is_object() => chart::merge(&mut values, read),
                Some(_) => return Err(Failure::new(format!("{} is not a map of values", file.display()))),
            }
        }
        for value in &self.set {
            chart::merge(&mut values, value.clone());
        }
        if self.ha {
            values["ha"] = true.into();
        }
        Ok(values)
    }

    async fn carry_out(&self, context: &Context, cluster: &Cluster, intent: Intent) -> Outcome {
        let there = plan::installed(cluster).await?;
        let mut values = Value::Object(serde_json::Map::new());
        if let (Some(there), false) = (&there, self.reset_values) {
            values = there.values.clone();
        }
        chart::merge(&mut values, self.values()?);
        let plan = Plan::of(&values, &cluster.namespace)?;
        let findings = preflight::look(cluster, &plan, intent, there.as_ref()).await;
        let failed = findings.iter().filter(|it| it.verdict == Verdict::Failed);
        if failed.count() > 0 {
            context.printer.say_lines(&finding::for_people(&findings));
            return Err(Failure::new("nothing was changed"));
        }
        for warning in findings.iter().filter(|it| it.verdict == Verdict::Warning) {
            context.printer.warn(&warning.says);
        }
        if self.dry_run {
            return dry_run(context, cluster, &plan).await;
        }
        steps::carry_out(context, cluster, &plan, self.timeout).await?;
        context.printer.say(format!(
            "mesh {} is installed in namespace {} of {}",
            env!("CARGO_PKG_VERSION"),
            cluster.namespace,
            cluster.context
        ));
        Ok(())
    }
}

/// All objects in the order in which they are made, for `kubectl apply` and for GitOps.
fn print(context: &Context, format: Format, plan: &Plan) -> Outcome {
    let objects: Vec<&Value> = plan.all().map(|manifest| &manifest.object).collect();
    match format {
        Format::Yaml => {
            let mut text = String::new();
            for object in objects {
                text.push_str("---\n");
                text.push_str(&serde_saphyr::to_string(object)?);
            }
            context.printer.data(&text)
        }
        format => {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
            context.printer.machine(format, &list)
        }
    }
}

/// What the API server would do with each object.
async fn dry_run(context: &Context, cluster: &Cluster, plan: &Plan) -> Outcome {
    let params = kube::api::PatchParams {
        dry_run: true,
        ..steps::params()
    };
    let fresh = plan.namespace.live(cluster).await.ok().flatten().is_none();
    let mut out = String::new();
    for manifest in plan.all() {
        // Nothing can be tried in a namespace that is not there yet.
        if fresh && manifest.namespace().is_some() {
            out.push_str(&format!("{manifest} would be created\n"));
            continue;
        }
        let (change, _) = manifest
            .apply(cluster, &params)
            .await
            .map_err(|error| crate::kubernetes::refused(&format!("cannot apply {manifest}"), &error))?;
        out.push_str(&would(manifest, &change));
    }
    context.printer.data(&out)?;
    context.printer.say("nothing was changed (dry run)");
    Ok(())
}

fn would(manifest: &Manifest, change: &Change) -> String {
    match change {
        Change::Unchanged => format!("{manifest} stays as it is\n"),
        Change::Created => format!("{manifest} would be created\n"),
        Change::Configured(fields) => {
            let mut lines = format!("{manifest} would change:\n");
            for field in fields {
                lines.push_str(&format!("  {field}\n"));
            }
            lines
        }
    }
}
