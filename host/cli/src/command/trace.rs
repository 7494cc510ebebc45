//! `exuvia trace`: prints the messages of one process as they are received and sent.

use clap::builder::RangedU64ValueParser;
use exuvia_api::{DEFAULT_TRACED, MAX_TRACED};

use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Print the messages that a process receives and sends
///
/// Received are messages that it takes from its mailbox, sent those that leave it: messages,
/// requests and replies. The trace ends after --limit messages, when the process terminates, or
/// with Ctrl-C. Only the copying slows the process down: a reader that is too slow misses
/// messages, and gets their number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia trace counter
  exuvia trace '<3.1>' --limit 1000 --json | jq .event.payload")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
    /// Stop after N messages
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TRACED, value_parser = limit())]
    limit: u64,
}

fn limit() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=MAX_TRACED)
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let mut messages = place
        .client()?
        .trace(&arguments.target, arguments.limit)
        .await?;
    while let Some(message) = messages.next().await? {
        output.event(&message)?;
    }
    Ok(())
}
