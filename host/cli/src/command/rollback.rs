//! `exuvia rollback`: back to the release before.

use crate::command::deploy;
use crate::fault::Fault;
use crate::output::Output;
use crate::place::Place;

/// Go back to the release before the current one
///
/// It is a swap like any other: processes and messages stay, and state crosses
/// back by the same paths.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia rollback")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), Fault> {
    let swap = place.client()?.rollback().await?;
    deploy::show(&swap, output)
}
