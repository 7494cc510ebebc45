//! `exuvia events`: what happens on a node, as it happens.

use crate::fault::Fault;
use crate::output::Output;
use crate::place::Place;

/// Print what happens on the node, until it ends
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia events\n  exuvia events --json | jq .event")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), Fault> {
    let mut events = place.client()?.events().await?;
    while let Some(event) = events.next().await? {
        output.event(&event)?;
    }
    Ok(())
}
