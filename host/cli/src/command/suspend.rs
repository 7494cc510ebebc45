//! `exuvia suspend` and `exuvia resume`: a process stands still, between two
//! messages, and goes on.

use crate::fault::Fault;
use crate::output::Output;
use crate::place::Place;

/// Have a process take no messages until it is resumed
///
/// It finishes the message that it is handling. Meanwhile messages wait in its mailbox,
/// up to its limits; it can be inspected, it crosses to new code, and it ends if it is told to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia suspend counter
  exuvia inspect counter
  exuvia resume counter")]
pub(crate) struct Suspend {
    /// A registered name or a pid
    target: String,
}

/// Have a process that was suspended take messages again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia resume counter")]
pub(crate) struct Resume {
    /// A registered name or a pid
    target: String,
}

pub(crate) async fn suspend(asked: Suspend, place: &Place, output: &Output) -> Result<(), Fault> {
    run(&asked.target, true, place, output).await
}

pub(crate) async fn resume(asked: Resume, place: &Place, output: &Output) -> Result<(), Fault> {
    run(&asked.target, false, place, output).await
}

async fn run(target: &str, on: bool, place: &Place, output: &Output) -> Result<(), Fault> {
    let done = place.client()?.suspend(target, on).await?;
    if output.is_json() {
        return output.value(&done.json);
    }
    let done = done.value;
    output.line(match (on, done.changed, done.still) {
        (true, true, true) => "suspended",
        (true, true, false) => "suspending: it ends the message that it handles first",
        (true, false, true) => "it was suspended already",
        (true, false, false) => "it was told already, and still handles a message",
        (false, true, _) => "resumed",
        (false, false, _) => "it was not suspended",
    })
}
