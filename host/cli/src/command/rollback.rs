//! `exuvia rollback`: rolls back to the previous release, or to one that is named.

use exuvia_api::RollbackOptions;

use crate::command::deploy::{self, Consent};
use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Roll back to the previous release, or to any that is kept
///
/// A rollback is a swap like any other: processes and messages stay, and state is transferred
/// back by the same paths. One to the previous release is always possible while the node runs: a
/// process whose state cannot go back stays on its version. A release that is named, or that was
/// committed before the node was started, is deployed once more, and verified as such.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia rollback
  exuvia releases
  exuvia rollback 5 --message 'prices were wrong'")]
pub(crate) struct Arguments {
    /// The release whose modules are to run again, as `exuvia releases` shows it [default: the one
    /// before the current one]
    #[arg(value_name = "RELEASE")]
    release: Option<u64>,
    #[command(flatten)]
    consent: Consent,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    if arguments.release.is_none() && arguments.consent.is_given() {
        return Err(CliError::usage(
            "a rollback to the previous release is not verified, so there is nothing to consent to",
        )
        .help("name the release, which is then deployed once more: `exuvia releases` shows them"));
    }
    let options = RollbackOptions {
        to: arguments.release,
        fresh: arguments.consent.fresh,
        loops: arguments.consent.loops(),
        message: arguments.consent.message,
    };
    let swap = place.client()?.rollback(options).await?;
    deploy::show(&swap, output)
}
