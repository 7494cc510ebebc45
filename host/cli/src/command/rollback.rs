//! `exuvia rollback`: rolls back to the previous release.

use crate::command::deploy;
use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Roll back to the previous release
///
/// A rollback is a swap like any other: processes and messages stay, and state is transferred
/// back by the same paths.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia rollback")]
pub(crate) struct Arguments {}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), CliError> {
    let swap = place.client()?.rollback().await?;
    deploy::show(&swap, output)
}
