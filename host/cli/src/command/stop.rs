//! `exuvia stop`: the orderly end of a node.

use std::time::Duration;

use serde_json::Value;

use crate::fault::{Exit, Fault};
use crate::output::{Output, count};
use crate::place::Place;

/// Stop the node, children in reverse order of their start
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia stop\n  exuvia stop --timeout 60000")]
pub(crate) struct Arguments {
    /// How long the processes get, in milliseconds [default: 30000]
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
}

pub(crate) async fn run(arguments: Arguments, place: &Place, output: &Output) -> Result<(), Fault> {
    let timeout = arguments.timeout.map(Duration::from_millis);
    let report = place.client()?.stop(timeout).await?;
    if report["orderly"] == Value::Bool(false) {
        return Err(not_orderly(report["left"].as_u64().unwrap_or(0)));
    }
    if output.is_json() {
        output.value(&report)
    } else {
        output.line("stopped")
    }
}

/// The node has ended, but not as it should.
pub(crate) fn not_orderly(left: u64) -> Fault {
    Fault::new(
        Exit::Failed,
        "not_orderly",
        format!(
            "the node has ended, but not all processes had stopped in time: {} dropped",
            count(left, "process was", "processes were")
        ),
    )
    .help("give them longer with `exuvia stop --timeout MS`, or set their `shutdown_ms`")
}
