//! `meshctl uninstall`: everything that an installation made, in the other order: what the API server asks goes first, so
//! that nothing is held up. Whatever is gone already is passed over, so whoever is interrupted begins again.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{DeleteParams, ListParams};
use mesh_api::inject::PROXY;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Context;
use super::check::pods::has_ended;
use super::install::plan::{PART_OF, Plan, installed};
use super::install::preflight::is_ours;
use crate::cli;
use crate::error::{Failure, Outcome};
use crate::kubernetes::{Cluster, Manifest, Resource, is_missing, refused, replicas};

/// How often it is looked whether something has gone.
const LOOK: Duration = Duration::from_millis(300);

/// Flags of `meshctl uninstall`.
#[derive(Args, Debug)]
pub(crate) struct Uninstall {
    /// Delete the mesh's kinds though there are objects of them, and those objects with them
    #[arg(long)]
    crds: bool,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
    /// How long to wait for each thing to go
    #[arg(long, default_value = "3m", value_parser = cli::span, value_name = "SPAN")]
    timeout: Duration,
}

/// What an uninstallation touches beside the mesh itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Touched {
    /// How many objects of each of the mesh's kinds there are.
    documents: Vec<(&'static str, usize)>,
    /// Whether one of them is in the mesh's own namespace.
    in_namespace: bool,
    /// How many pods have a proxy.
    proxies: usize,
}

impl Uninstall {
    /// Asks where something of others would be lost, and takes everything away.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let cluster = context.cluster().await?;
        if let Some(helm) = installed(&cluster).await?.and_then(|there| there.helm) {
            return Err(
                Failure::new(format!("the mesh belongs to Helm release {helm}")).hint(format!(
                    "`helm uninstall {helm} -n {}` removes it",
                    cluster.namespace
                )),
            );
        }
        let touched = touched(&cluster).await?;
        self.confirm(context, &touched)?;
        let kinds_go = self.crds || touched.documents.is_empty();
        self.carry_out(context, &cluster, kinds_go, !kinds_go && touched.in_namespace)
            .await?;
        if !kinds_go {
            context.printer.warn(&format!(
                "kept, with the definitions of their kinds: {}",
                counted(&touched)
            ));
            context
                .printer
                .hint("`meshctl uninstall --crds` deletes them too");
        }
        context
            .printer
            .say(format!("the mesh is gone from {}", cluster.context));
        Ok(())
    }

    fn confirm(&self, context: &Context, touched: &Touched) -> Outcome {
        let mut losses = Vec::new();
        if touched.proxies > 0 {
            losses.push(format!(
                "{} pods have a proxy: they go on with what they have until their certificates end; restart them soon",
                touched.proxies
            ));
        }
        if self.crds && !touched.documents.is_empty() {
            losses.push(format!("this deletes {}", counted(touched)));
        }
        if losses.is_empty() {
            return Ok(());
        }
        for loss in &losses {
            context.printer.warn(loss);
        }
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(
                Failure::new("nothing was deleted: there is nobody to ask").hint("--yes asks nothing")
            );
        }
        let mut out = std::io::stderr();
        // When nobody reads standard error, nobody answers either.
        let _ = write!(out, "uninstall the mesh? [y/N] ").and_then(|()| out.flush());
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        match line.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new("nothing was deleted")),
        }
    }

    async fn carry_out(
        &self,
        context: &Context,
        cluster: &Cluster,
        kinds: bool,
        keep_namespace: bool,
    ) -> Outcome {
        // Everything that any values could have brought.
        let plan = Plan::of(&json!({"ha": true}), &cluster.namespace)?;
        for manifest in &plan.webhooks {
            delete(context, cluster, manifest).await?;
        }
        let (workload, rest): (Vec<&Manifest>, Vec<&Manifest>) = plan
            .control
            .iter()
            .partition(|manifest| manifest.resource.kind == "Deployment");
        for manifest in workload {
            delete(context, cluster, manifest).await?;
        }
        // A replica that still runs would write the roots again.
        self.wait("the control plane to end", async || {
            Ok(replicas(cluster).await?.is_empty())
        })
        .await?;
        bundles(context, cluster).await?;
        for manifest in rest.into_iter().rev() {
            delete(context, cluster, manifest).await?;
        }
        made(context, cluster).await?;
        if kinds {
            for manifest in &plan.crds {
                delete(context, cluster, manifest).await?;
            }
            self.wait("the kinds to go", async || {
                for manifest in &plan.crds {
                    if live(cluster, manifest).await?.is_some() {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
            .await?;
        }
        if keep_namespace {
            return Ok(());
        }
        delete(context, cluster, &plan.namespace).await?;
        self.wait("the namespace to go", async || {
            let there = live(cluster, &plan.namespace).await?;
            Ok(there.is_none_or(|namespace| !is_ours(&namespace)))
        })
        .await
    }

    async fn wait(&self, what: &str, gone: impl AsyncFn() -> Outcome<bool>) -> Outcome {
        let end = Instant::now() + self.timeout;
        while !gone().await? {
            if Instant::now() >= end {
                return Err(
                    Failure::new(format!("waited {} s for {what}", self.timeout.as_secs()))
                        .hint("the same command again goes on from here"),
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// `3 ModelRoutes, 1 TrafficPolicies`.
fn counted(touched: &Touched) -> String {
    let counts: Vec<String> = touched
        .documents
        .iter()
        .map(|(kind, count)| format!("{count} of {kind}"))
        .collect();
    counts.join(", ")
}

async fn touched(cluster: &Cluster) -> Outcome<Touched> {
    let mut touched = Touched::default();
    for resource in Resource::DOCUMENTS {
        let listed = match resource
            .api(&cluster.client, None)
            .list(&ListParams::default())
            .await
        {
            Ok(listed) => listed.items,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(refused(&format!("cannot see the {}", resource.plural), &error)),
        };
        if !listed.is_empty() {
            touched.documents.push((resource.kind, listed.len()));
        }
        let namespace = Some(cluster.namespace.as_str());
        touched.in_namespace |= listed
            .iter()
            .any(|object| object.metadata.namespace.as_deref() == namespace);
    }
    let params = ListParams::default().labels(&format!("{PROXY}=true"));
    let pods = cluster.all::<Pod>().list(&params).await;
    let pods = pods
        .map_err(|error| refused("cannot see the pods with a proxy", &error))?
        .items;
    touched.proxies = pods.iter().filter(|pod| !has_ended(pod)).count();
    Ok(touched)
}

async fn live(cluster: &Cluster, manifest: &Manifest) -> Outcome<Option<Value>> {
    let live = manifest.live(cluster).await;
    live.map_err(|error| refused(&format!("cannot see {manifest}"), &error))
}

/// Deletes an object, if it is the mesh's.
async fn delete(context: &Context, cluster: &Cluster, manifest: &Manifest) -> Outcome {
    let Some(there) = live(cluster, manifest).await? else {
        return Ok(());
    };
    // Kinds are known by their group, which is the mesh's own.
    if !is_ours(&there) && manifest.resource.kind != "CustomResourceDefinition" {
        context.printer.warn(&format!(
            "{manifest} stays: it has no label {PART_OF}=mesh, so somebody else made it"
        ));
        return Ok(());
    }
    let deleted = manifest.delete(cluster).await;
    if deleted.map_err(|error| refused(&format!("cannot delete {manifest}"), &error))? {
        context.printer.say(format!("{manifest} deleted"));
    }
    Ok(())
}

/// The roots that proxies trust, in every namespace.
async fn bundles(context: &Context, cluster: &Cluster) -> Outcome {
    let params = ListParams::default()
        .fields("metadata.name=mesh-trust-bundle")
        .labels(&format!("{PART_OF}=mesh"));
    let listed = cluster.all::<ConfigMap>().list(&params).await;
    let listed = listed.map_err(|error| refused("cannot see the ConfigMaps mesh-trust-bundle", &error))?;
    let mut count = 0;
    for bundle in listed {
        let namespace = bundle.metadata.namespace.unwrap_or_default();
        let api = cluster.within::<ConfigMap>(&namespace);
        match api.delete("mesh-trust-bundle", &DeleteParams::default()).await {
            Ok(_) => count += 1,
            Err(error) if is_missing(&error) => {}
            Err(error) => {
                return Err(refused(
                    &format!("cannot delete ConfigMap {namespace}/mesh-trust-bundle"),
                    &error,
                ));
            }
        }
    }
    if count > 0 {
        context.printer.say(format!(
            "ConfigMap mesh-trust-bundle deleted in {count} namespaces"
        ));
    }
    Ok(())
}

/// What the control plane made by itself in its namespace.
async fn made(context: &Context, cluster: &Cluster) -> Outcome {
    let namespace = cluster.namespace.as_str();
    let mut made = vec![
        json!({"kind": "Lease", "metadata": {"name": "mesh-control", "namespace": namespace}}),
        json!({"kind": "ConfigMap", "metadata": {"name": "mesh-rotation", "namespace": namespace}}),
        json!({"kind": "ConfigMap", "metadata": {"name": "mesh-replicas", "namespace": namespace}}),
    ];
    // Beside the root there may be the one before and the one after it.
    let secrets = cluster.own::<Secret>().list(&ListParams::default()).await;
    let secrets = match secrets {
        Ok(secrets) => secrets.items,
        Err(error) => return Err(refused("cannot see the Secrets of the mesh", &error)),
    };
    let names = secrets.into_iter().filter_map(|secret| secret.metadata.name);
    made.extend(
        names
            .filter(|name| name == "mesh-root" || name.starts_with("mesh-root-"))
            .map(|name| json!({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}})),
    );
    for manifest in made.into_iter().filter_map(Manifest::of) {
        let deleted = manifest.delete(cluster).await;
        if deleted.map_err(|error| refused(&format!("cannot delete {manifest}"), &error))? {
            context.printer.say(format!("{manifest} deleted"));
        }
    }
    Ok(())
}
