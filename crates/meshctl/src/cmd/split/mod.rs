//! `meshctl split`: how a route's requests are split over backends, shown, changed, taken back.

mod kubernetes;
mod rule;
mod shown;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use mesh_api::document::{Document, Kind, ModelRouteSpec};
use mesh_api::name::{Name, ObjectName};
use mesh_api::route::{MAX_WEIGHT, Route, Rule};
use mesh_api::wire::admin::{SetSplitRequest, SplitChange, Traffic, UndoSplitRequest, Weight};

use super::{Context, Place};
use crate::acks;
use crate::client::{Admin, answer};
use crate::documents::{self, meant};
use crate::error::{Failure, Outcome};
use crate::kubernetes::Cluster;
use crate::{cli, traffic};
use rule::{no_rule, rule_for};
use shown::{Changed, shown, tell};

/// Flags of `meshctl split`.
#[derive(Args, Debug)]
pub(crate) struct Split {
    /// The ModelRoute, or its service, as name or namespace/name
    route: String,
    /// New weights as BACKEND=WEIGHT (those left out keep theirs), or `undo` to take the last change back; default:
    /// show the split
    #[arg(value_name = "BACKEND=WEIGHT|undo", value_parser = change)]
    changes: Vec<Change>,
    /// The rule; default: the only one that has all the backends named
    #[arg(long, value_name = "NAME")]
    rule: Option<Name>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// On Kubernetes: take weights over that somebody else has applied
    #[arg(long)]
    force_conflicts: bool,
    /// How long to wait for the proxies
    #[arg(long, default_value = "10s", value_parser = cli::span, value_name = "SPAN")]
    timeout: Duration,
    /// Show the route's tree afterwards, again and again
    #[arg(long)]
    watch: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Undo,
    Weight(Name, u32),
}

fn change(text: &str) -> Result<Change, String> {
    if text == "undo" {
        return Ok(Change::Undo);
    }
    let (backend, weight) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not BACKEND=WEIGHT, such as canary=10"))?;
    let backend = Name::from_str(backend).map_err(|error| error.to_string())?;
    let weight = weight
        .parse::<u32>()
        .ok()
        .filter(|weight| *weight <= MAX_WEIGHT)
        .ok_or_else(|| format!("{weight:?} is not a weight: write a number from 0 to {MAX_WEIGHT}"))?;
    Ok(Change::Weight(backend, weight))
}

impl Split {
    /// Shows, changes or takes back.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let wanted = self.wanted()?;
        let place = context.place().await?;
        let route = match &place {
            Place::Machine(_) => self.on_this_machine(context, &place, &wanted).await?,
            Place::Kubernetes(cluster) => self.on_kubernetes(context, cluster, &wanted).await?,
        };
        if self.watch {
            return super::routes::watch(context, &mut place.admin().await?, Some(&route.service)).await;
        }
        Ok(())
    }

    async fn on_this_machine(&self, context: &Context, place: &Place, wanted: &Wanted) -> Outcome<Route> {
        let mut admin = place.admin().await?;
        let listed = documents::list(&mut admin, Some(Kind::ModelRoute), None, None).await?;
        let specs = listed.into_iter().filter_map(|it| match it.document {
            Document::ModelRoute(route) => Some((route.metadata.object_name(), route.spec)),
            _ => None,
        });
        let (name, spec) = self.find(context, specs.collect())?;
        let route = in_force(&name, &spec)?;
        match wanted {
            Wanted::Show => self.show(context, &route, &traffic::ask(&mut admin, 10).await?)?,
            Wanted::Weights(weights) if self.dry_run => self.try_out(context, &name, &spec, weights)?,
            Wanted::Weights(weights) => {
                let rule = rule_for(&route, self.rule.as_ref(), weights)?;
                let request = SetSplitRequest {
                    namespace: name.namespace.to_string(),
                    route: name.name.to_string(),
                    rule: rule.name.to_string(),
                    weights: weights.iter().map(|(name, it)| (name.to_string(), *it)).collect(),
                };
                let change = answer(admin.set_split(request)).await?;
                self.settle(&mut admin, context, change).await?;
            }
            Wanted::Undo => {
                let request = UndoSplitRequest {
                    namespace: name.namespace.to_string(),
                    route: name.name.to_string(),
                };
                let change = answer(admin.undo_split(request)).await?;
                self.settle(&mut admin, context, change).await?;
            }
        }
        Ok(route)
    }

    async fn on_kubernetes(&self, context: &Context, cluster: &Cluster, wanted: &Wanted) -> Outcome<Route> {
        let mut routes = kubernetes::routes(cluster).await?;
        let specs = routes
            .iter()
            .map(|(name, (_, spec))| (name.clone(), spec.clone()));
        let (name, spec) = self.find(context, specs.collect())?;
        let route = in_force(&name, &spec)?;
        let object = routes.remove(&name).map(|(object, _)| object).unwrap_or_default();
        match wanted {
            Wanted::Show => {
                // What was seen is worth showing; the split itself needs no control plane.
                let seen = match crate::kubernetes::admin(cluster).await {
                    Ok(mut admin) => traffic::ask(&mut admin, 10).await,
                    Err(failure) => Err(failure),
                };
                let seen = seen.unwrap_or_else(|failure| {
                    context
                        .printer
                        .warn(&format!("what was seen is left out: {failure}"));
                    Traffic::default()
                });
                self.show(context, &route, &seen)?;
            }
            Wanted::Weights(weights) if self.dry_run => self.try_out(context, &name, &spec, weights)?,
            Wanted::Weights(_) | Wanted::Undo => {
                self.write(context, cluster, &route, &object, wanted).await?;
            }
        }
        Ok(route)
    }

    fn wanted(&self) -> Outcome<Wanted> {
        let mut weights = BTreeMap::new();
        for change in &self.changes {
            match change {
                Change::Undo if self.changes.len() > 1 => {
                    return Err(Failure::Usage("undo stands alone: it takes no weights".into()));
                }
                Change::Undo if self.dry_run => {
                    return Err(Failure::Usage("undo has no --dry-run".into()));
                }
                Change::Undo => return Ok(Wanted::Undo),
                Change::Weight(backend, weight) => {
                    if weights.insert(backend.clone(), *weight).is_some() {
                        return Err(Failure::Usage(format!("{backend} stands twice")));
                    }
                }
            }
        }
        Ok(if weights.is_empty() {
            Wanted::Show
        } else {
            Wanted::Weights(weights)
        })
    }

    fn find(
        &self,
        context: &Context,
        mut specs: BTreeMap<ObjectName, ModelRouteSpec>,
    ) -> Outcome<(ObjectName, ModelRouteSpec)> {
        let routes = specs
            .keys()
            .map(|name| (name.clone(), name.clone()))
            .collect::<Vec<_>>();
        let services = specs.iter().map(|(name, spec)| {
            let service = ObjectName::new(name.namespace.clone(), spec.service.clone());
            (service, name.clone())
        });
        let services = services.collect::<Vec<_>>();
        // A ModelRoute's own name goes before the name of another one's service.
        let find = |names| meant("ModelRoute", &self.route, context.namespace(), names);
        let found = match find(routes) {
            Err(Failure::Told { .. }) => find(services),
            other => other,
        }?;
        let spec = specs.remove(&found).unwrap_or_else(|| ModelRouteSpec {
            service: found.name.clone(),
            rules: Vec::new(),
        });
        Ok((found, spec))
    }

    fn show(&self, context: &Context, route: &Route, seen: &Traffic) -> Outcome {
        let rules = route.rules.iter();
        let rules: Vec<&Rule> = rules
            .filter(|rule| self.rule.as_ref().is_none_or(|name| rule.name == *name))
            .collect();
        if let (Some(rule), true) = (&self.rule, rules.is_empty()) {
            return Err(no_rule(route, rule));
        }
        if let Some(format) = context.machine() {
            return context.printer.machine(format, &rules);
        }
        context.printer.data(&shown(route, &rules, seen))
    }

    fn try_out(
        &self,
        context: &Context,
        name: &ObjectName,
        spec: &ModelRouteSpec,
        weights: &BTreeMap<Name, u32>,
    ) -> Outcome {
        let before = Route::new(name, spec).map_err(|problems| Failure::new(problems[0].to_string()))?;
        let rule = rule_for(&before, self.rule.as_ref(), weights)?;
        let mut spec = spec.clone();
        let position = before.rules.iter().position(|other| other.name == rule.name);
        if let Some(rule) = position.and_then(|position| spec.rules.get_mut(position)) {
            for backend in &mut rule.split.backends {
                backend.weight = weights.get(&backend.name).copied().unwrap_or(backend.weight);
            }
        }
        let after = Route::new(name, &spec)
            .map_err(|problems| Failure::new(format!("ModelRoute {name}: {}", problems[0])))?;
        let of = |route: &Route| {
            let rule = position.and_then(|position| route.rules.get(position));
            let backends = rule.map(Rule::backends).unwrap_or_default();
            let weights = backends.iter().map(|it| (it.name.to_string(), it.weight));
            weights.collect::<Vec<_>>()
        };
        let changed = Changed {
            route: name.to_string(),
            rule: rule.name.to_string(),
            before: of(&before),
            after: of(&after),
            dry_run: true,
            proxies: None,
            served: None,
        };
        tell(context, &changed)
    }

    /// Waits for the proxies, and tells what changed.
    async fn settle(&self, admin: &mut Admin, context: &Context, change: SplitChange) -> Outcome {
        let acks = acks::wait(admin, change.version, self.timeout).await?;
        let pairs = |weights: Vec<Weight>| weights.into_iter().map(|it| (it.backend, it.weight)).collect();
        let changed = Changed {
            route: change.route,
            rule: change.rule,
            before: pairs(change.before),
            after: pairs(change.after),
            dry_run: false,
            proxies: Some(acks.clone()),
            served: None,
        };
        tell(context, &changed)?;
        for complaint in acks.complaints() {
            context.printer.error(&complaint);
        }
        for workload in &acks.away {
            let text = format!("the proxy of {workload} is not connected: it serves what it had");
            context.printer.warn(&text);
        }
        if acks.complete() {
            return Ok(());
        }
        context
            .printer
            .hint("`meshctl check` finds what is wrong; `meshctl split ROUTE undo` takes the change back");
        Err(Failure::Silent)
    }
}

enum Wanted {
    Show,
    Weights(BTreeMap<Name, u32>),
    Undo,
}

fn in_force(name: &ObjectName, spec: &ModelRouteSpec) -> Outcome<Route> {
    Route::new(name, spec)
        .map_err(|problems| Failure::new(format!("ModelRoute {name} is not in force: {}", problems[0])))
}
