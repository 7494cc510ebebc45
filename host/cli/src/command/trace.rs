//! `exuvia trace`: the messages of one process, as they pass.

use clap::builder::RangedU64ValueParser;
use exuvia_control::{DEFAULT_TRACED, MAX_TRACED};

use crate::fault::Fault;
use crate::output::Output;
use crate::place::Place;

/// Print what a process receives and sends
///
/// Received is what it takes from its mailbox, sent what leaves it: messages,
/// requests and replies. It ends after --limit messages, with the process, or with
/// Ctrl-C. The process is slowed down by the copying, and by nothing else: a reader
/// that is too slow misses messages, and is told how many.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia trace counter
  exuvia trace '<3.1>' --limit 1000 --json | jq .event.payload")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
    /// At most so many messages
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TRACED, value_parser = limit())]
    limit: u64,
}

fn limit() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=MAX_TRACED)
}

pub(crate) async fn run(arguments: Arguments, place: &Place, output: &Output) -> Result<(), Fault> {
    let mut messages = place
        .client()?
        .trace(&arguments.target, arguments.limit)
        .await?;
    while let Some(message) = messages.next().await? {
        output.event(&message)?;
    }
    Ok(())
}
