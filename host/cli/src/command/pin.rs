//! `exuvia pin` and `exuvia unpin`: which releases are kept however many follow.

use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Keep a release, however many follow
///
/// A pinned release can be rolled back to until it is unpinned. Others are kept as `[releases]` of
/// the manifest says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia pin 5
  exuvia unpin 5")]
pub(crate) struct Pin {
    /// The release, as `exuvia releases` shows it
    #[arg(value_name = "RELEASE")]
    release: u64,
}

/// Keep a release no longer than others
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia unpin 5")]
pub(crate) struct Unpin {
    /// The release, as `exuvia releases` shows it
    #[arg(value_name = "RELEASE")]
    release: u64,
}

pub(crate) async fn pin(arguments: &Pin, place: &Place, output: &Output) -> Result<(), CliError> {
    set(arguments.release, true, place, output).await
}

pub(crate) async fn unpin(
    arguments: &Unpin,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    set(arguments.release, false, place, output).await
}

async fn set(release: u64, on: bool, place: &Place, output: &Output) -> Result<(), CliError> {
    let done = place.client()?.pin(release, on).await?;
    if output.is_json() {
        return output.value(&done.json);
    }
    output.line(match (on, done.value.changed) {
        (true, true) => "pinned",
        (true, false) => "it was pinned already",
        (false, true) => "unpinned",
        (false, false) => "it was not pinned",
    })
}
