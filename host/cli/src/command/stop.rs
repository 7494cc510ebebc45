//! `exuvia stop`: stops a node in an orderly way.

use std::time::Duration;

use exuvia_manifest::parse_duration;

use crate::error::{CliError, Exit};
use crate::output::{Output, count};
use crate::place::Place;

/// Stop the node, its processes in reverse order of their start
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia stop\n  exuvia stop --timeout 1m")]
pub(crate) struct Arguments {
    /// How long the processes may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let report = place.client()?.stop(arguments.timeout).await?;
    if !report.value.orderly {
        return Err(not_orderly(report.value.left));
    }
    if output.is_json() {
        output.value(&report.json)
    } else {
        output.line("stopped")
    }
}

/// Creates the error for a node that stopped, but not in an orderly way.
pub(crate) fn not_orderly(left: u64) -> CliError {
    CliError::new(
        Exit::Failed,
        "not_orderly",
        format!(
            "the node has exited, but {} still running after the timeout",
            count(left, "process was", "processes were")
        ),
    )
    .help("give them more time with `exuvia stop --timeout 2m`, or set their `shutdown`")
}
