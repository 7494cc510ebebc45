//! `exuvia suspend` and `exuvia resume`: pause a process between two messages, and let it
//! continue.

use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Pause a process
///
/// The process finishes the message that it is handling and takes no other until it is resumed.
/// Meanwhile messages wait in its mailbox, up to its limits; the process can be inspected, is
/// upgraded to new code, and terminates if it is stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia suspend counter
  exuvia inspect counter
  exuvia resume counter")]
pub(crate) struct Suspend {
    /// A registered name or a pid
    target: String,
}

/// Resume a process that was suspended
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia resume counter")]
pub(crate) struct Resume {
    /// A registered name or a pid
    target: String,
}

pub(crate) async fn suspend(
    asked: Suspend,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    run(&asked.target, true, place, output).await
}

pub(crate) async fn resume(asked: Resume, place: &Place, output: &Output) -> Result<(), CliError> {
    run(&asked.target, false, place, output).await
}

async fn run(target: &str, on: bool, place: &Place, output: &Output) -> Result<(), CliError> {
    let done = place.client()?.suspend(target, on).await?;
    if output.is_json() {
        return output.value(&done.json);
    }
    let done = done.value;
    output.line(match (on, done.changed, done.at_rest) {
        (true, true, true) => "suspended",
        (true, true, false) => "suspending: it first finishes the message that it is handling",
        (true, false, true) => "it is already suspended",
        (true, false, false) => "it is already being suspended, and still handles a message",
        (false, true, _) => "resumed",
        (false, false, _) => "it is not suspended",
    })
}
