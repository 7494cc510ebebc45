//! `exuvia tree`: shows the supervision tree.

use exuvia_api::{Branch, MAX_LISTED};

use crate::error::CliError;
use crate::output::{Output, Tone, clean};
use crate::place::Place;

/// Show the supervision tree and the state of each process
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia tree
  exuvia tree --limit 20")]
pub(crate) struct Arguments {
    /// Show at most N processes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = limit())]
    limit: usize,
}

fn limit() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..=MAX_LISTED as u64)
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let answer = place.client()?.tree(arguments.limit).await?;
    if output.is_json() {
        return output.value(&answer.json["roots"]);
    }
    for root in &answer.value.roots {
        output.line(&words(root, output))?;
        below(root, "", output)?;
    }
    Ok(())
}

/// Prints the children of a branch, each line prefixed with `indent`.
fn below(branch: &Branch, indent: &str, output: &Output) -> Result<(), CliError> {
    for (number, child) in branch.children.iter().enumerate() {
        let last = number + 1 == branch.children.len() && branch.more == 0;
        let (mark, further) = match last {
            true => ("└─ ", "   "),
            false => ("├─ ", "│  "),
        };
        output.line(&format!("{indent}{mark}{}", words(child, output)))?;
        below(child, &format!("{indent}{further}"), output)?;
    }
    if branch.more > 0 {
        let more = format!("and {} more; --limit N shows them", branch.more);
        output.line(&format!("{indent}└─ {}", output.paint(Tone::Quiet, &more)))?;
    }
    Ok(())
}

/// Describes a process in one line: its ID, pid, names, module, state and restart type.
fn words(branch: &Branch, output: &Output) -> String {
    let mut words = Vec::new();
    let name = branch.id.as_deref().unwrap_or("supervisor");
    words.push(output.paint(Tone::Strong, &clean(name)));
    words.push(clean(branch.pid.as_deref().unwrap_or("-")));
    let others = branch.names.iter().filter(|other| *other != name);
    words.extend(others.map(|other| clean(other)));
    words.extend(branch.module.as_deref().map(clean));
    words.extend(branch.strategy.as_deref().map(clean));
    // The process's own state says more than `running`.
    let state = match (branch.state.as_str(), &branch.process) {
        ("running", Some(process)) if branch.strategy.is_none() => clean(process),
        ("running", _) if branch.strategy.is_some() => String::new(),
        ("running", _) => "running".to_owned(),
        (state, _) => output.paint(Tone::Warning, &clean(state)),
    };
    words.push(state);
    match branch.restart.as_deref() {
        None | Some("permanent") => {}
        Some(restart) => words.push(output.paint(Tone::Quiet, &clean(restart))),
    }
    words.retain(|word| !word.is_empty());
    words.join("  ")
}
