//! `meshctl routes`: who calls what, how it is split, and how each way does.

mod graph;
mod picture;
mod view;

use std::time::Duration;

use clap::Args;
use mesh_api::name::ObjectName;

use super::Context;
use crate::client::Admin;
use crate::documents::{self, meant};
use crate::error::{Failure, Outcome};
use crate::output::Format;
use crate::traffic;

pub(crate) use view::View;

/// How often `--watch` looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// Flags of `meshctl routes`.
#[derive(Args, Debug)]
pub(crate) struct Routes {
    /// The Service to look at, as name or namespace/name; default: all
    service: Option<String>,
    /// Show it again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// The span the numbers are about, in seconds, 1 to 300
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=300), value_name = "SECONDS")]
    window: u32,
}

impl Routes {
    /// Asks, arranges, draws.
    pub(crate) async fn run(&self, context: &Context) -> Outcome {
        let mut admin = context.admin().await?;
        let service = match &self.service {
            None => None,
            Some(word) => {
                let kind = mesh_api::document::Kind::Service;
                let listed = documents::list(&mut admin, Some(kind), None, None).await?;
                let names = listed.iter().map(|it| it.document.id().name);
                let names: Vec<_> = names.map(|name| (name.clone(), name)).collect();
                Some(meant("Service", word, context.namespace(), names)?)
            }
        };
        if self.watch && matches!(context.globals.output, Format::Table | Format::Wide) {
            return watch(context, &mut admin, service.as_ref()).await;
        }
        if self.watch {
            return Err(Failure::Usage("--watch draws trees alone: leave -o out".into()));
        }
        let view = look(context, &mut admin, service.as_ref(), self.window).await?;
        context.printer.data(&match context.globals.output {
            Format::Json | Format::Yaml => return context.printer.machine(context.globals.output, &view),
            Format::Dot => graph::dot(&view),
            Format::Mermaid => graph::mermaid(&view),
            Format::Table | Format::Wide => picture::draw(&view, context.printer.width(), context.wide()),
        })
    }
}

/// What goes where now.
async fn look(
    context: &Context,
    admin: &mut Admin,
    service: Option<&ObjectName>,
    window: u32,
) -> Outcome<View> {
    let listed = documents::list(admin, None, None, None).await?;
    let seen = traffic::ask(admin, window).await?;
    let routes = documents::routes(admin).await?;
    let mut view = View::of(&listed, routes, &seen);
    view.services.retain(|it| match service {
        Some(service) => it.name == *service,
        None => context.shows(&it.name),
    });
    Ok(view)
}

/// Draws the tree once.
pub(crate) async fn draw(context: &Context, admin: &mut Admin, window: u32) -> Outcome<String> {
    let view = look(context, admin, None, window).await?;
    Ok(picture::draw(&view, context.printer.width(), false))
}

/// Draws the tree again and again, until somebody ends it.
pub(crate) async fn watch(context: &Context, admin: &mut Admin, service: Option<&ObjectName>) -> Outcome {
    loop {
        let view = look(context, admin, service, 10).await?;
        let picture = picture::draw(&view, context.printer.width(), context.wide());
        context.printer.frame(&picture)?;
        tokio::time::sleep(AGAIN).await;
    }
}
