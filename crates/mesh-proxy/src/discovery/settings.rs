//! How services are had on demand: flags, with their defaults and ranges.

use std::time::Duration;

use clap::Args;
use mesh_api::duration::Duration as Span;

/// How services are had on demand, where the Workload says so (`outbound.onDemand`).
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Services on demand")]
pub struct OnDemand {
    /// How long a service that is not called any more is kept; a tenth longer at most; 1s to 24h
    #[arg(long, value_name = "DURATION", default_value_t = OnDemand::default().on_demand_idle, value_parser = up_to_a_day)]
    pub on_demand_idle: Span,

    /// How long a request is held while the control plane is asked for its service; 1s to 24h
    #[arg(long, value_name = "DURATION", default_value_t = OnDemand::default().on_demand_wait, value_parser = up_to_a_day)]
    pub on_demand_wait: Span,

    /// The most services that are kept for having been called, those its Workload names included; 1 to 1000
    #[arg(long, value_name = "N", default_value_t = OnDemand::default().max_on_demand,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_on_demand: u16,
}

impl Default for OnDemand {
    fn default() -> Self {
        Self {
            on_demand_idle: Span::from_millis(600_000),
            on_demand_wait: Span::from_millis(5_000),
            max_on_demand: 500,
        }
    }
}

fn up_to_a_day(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&span.get()) {
        Ok(span)
    } else {
        Err(format!("{text} is not 1s to 24h"))
    }
}
