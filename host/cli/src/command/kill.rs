//! `exuvia kill` and `exuvia restart`: terminate a process, and have it restarted.

use crate::error::{CliError, Exit};
use crate::output::{Output, clean};
use crate::place::Place;

/// Kill a process, whatever it is doing
///
/// The process can neither trap nor delay this. Its supervisor restarts it if its `restart`
/// says so, and counts that towards its restart intensity; `exuvia restart` does not count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia kill counter
  exuvia kill '<3.1>' --reason 'it holds the lock of yesterday'")]
pub(crate) struct Kill {
    /// A registered name or a pid
    target: String,
    /// The reason shown in the log and to linked processes
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Make a process's supervisor stop and restart it
///
/// The process is stopped in order, within its `shutdown`, and starts with a fresh state.
/// This does not count towards the restart intensity. Its siblings keep running, whatever the
/// strategy is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  exuvia restart counter")]
pub(crate) struct Restart {
    /// A registered name or a pid
    target: String,
}

pub(crate) async fn kill(asked: Kill, place: &Place, output: &Output) -> Result<(), CliError> {
    let killed = place
        .client()?
        .kill(&asked.target, asked.reason.as_deref())
        .await?;
    if !killed.value.exited {
        let pid = killed.value.pid;
        return Err(CliError::new(
            Exit::Failed,
            "not_ended",
            format!("{pid} was killed but has not exited within a second"),
        )
        .help("it exits when its current host call ends; `exuvia ps` shows it until then"));
    }
    if output.is_json() {
        return output.value(&killed.json);
    }
    output.line(&format!("killed {}", clean(&killed.value.pid)))
}

pub(crate) async fn restart(
    asked: Restart,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let restarted = place.client()?.restart(&asked.target).await?;
    if output.is_json() {
        return output.value(&restarted.json);
    }
    let new = restarted.value;
    output.line(&format!(
        "restarted {} as {}, with a fresh state",
        clean(&new.previous),
        clean(&new.pid)
    ))
}
