//! `exuvia events`: prints the events of a node as they happen.

use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Print the node's events until it exits
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia events\n  exuvia events --json | jq .event")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), CliError> {
    let mut events = place.client()?.events().await?;
    while let Some(event) = events.next().await? {
        output.event(&event)?;
    }
    Ok(())
}
