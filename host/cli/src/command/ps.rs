//! `exuvia ps`: lists the processes of a node.

use clap::builder::RangedU64ValueParser;
use exuvia_api::{Client, Info, MAX_LISTED, Module, Process};

use crate::error::{CliError, Exit};
use crate::output::{Output, Tone, bytes, clean};
use crate::place::Place;
use crate::table::{Align, Table};

/// List processes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia ps
  exuvia ps --module counter --limit 10
  exuvia ps --json | jq '.[] | select(.mailbox > 0) | .pid'")]
pub(crate) struct Arguments {
    /// Show only processes of this module
    #[arg(long)]
    module: Option<String>,
    /// Show at most N processes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit())]
    limit: usize,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let client = place.client()?;
    let list = client
        .processes(arguments.module.as_deref(), arguments.limit, None)
        .await?;
    if list.value.items.is_empty()
        && let Some(module) = &arguments.module
    {
        known(&client, module).await?;
    }
    if output.is_json() {
        return output.value(&list.json["items"]);
    }
    let mut table = Table::new(&[
        ("PID", Align::Left),
        ("NAME", Align::Left),
        ("MODULE", Align::Left),
        ("STATE", Align::Left),
        ("UPGRADE", Align::Left),
        ("MAILBOX", Align::Right),
        ("REDUCTIONS", Align::Right),
        ("MEMORY", Align::Right),
        ("IMAGE", Align::Right),
    ]);
    let none = || "-".to_owned();
    for process in &list.value.items {
        table.row([
            process.pid.clone(),
            match process.names.as_slice() {
                [] => none(),
                names => names.join(","),
            },
            process.module.clone().unwrap_or_else(none),
            process.state.clone(),
            process.upgrade.clone().unwrap_or_else(none),
            process.mailbox.to_string(),
            process.reductions.to_string(),
            bytes(process.memory),
            match process.image {
                0 => none(),
                size => bytes(size),
            },
        ]);
    }
    let (heading, rows) = table.lines();
    output.line(&output.paint(Tone::Strong, &heading))?;
    for (row, process) in rows.iter().zip(&list.value.items) {
        output.line(row)?;
        if let Some(note) = note(process) {
            let word = output.paint(
                Tone::Warning,
                process.upgrade.as_deref().unwrap_or_default(),
            );
            output.line(&format!("  {word}: {note}"))?;
        }
    }
    if list.value.next.is_some() {
        let info = client.info().await?.value;
        let all = match &arguments.module {
            None => info.processes,
            Some(module) => find(&info, module).map_or(0, population),
        };
        if all > list.value.items.len() as u64 {
            let note = format!("{} of {all}; --limit N shows more", list.value.items.len());
            output.line(&output.paint(Tone::Quiet, &note))?;
        }
    }
    Ok(())
}

/// Returns a note for a process that does not run the current code.
fn note(process: &Process) -> Option<String> {
    let reason = process.upgrade_reason.as_deref().unwrap_or_default();
    let lines: Vec<&str> = reason.lines().map(str::trim).collect();
    let reason = clean(&lines.join(" "));
    match process.upgrade.as_deref()? {
        "failed" => Some(reason),
        "reverted" => Some(format!(
            "its new code failed, so it runs the old code until the next swap: {reason}"
        )),
        "exempt" => {
            let version = clean(process.module.as_deref().unwrap_or("its version"));
            Some(format!(
                "stays on {version} until it exits; to kill it, deploy the current file with `exuvia deploy --kill`"
            ))
        }
        _ => None,
    }
}

fn limit() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_LISTED as u64)
}

/// Fails if the node has no such module: an empty list would hide that the name is misspelt.
async fn known(client: &Client, module: &str) -> Result<(), CliError> {
    let info = client.info().await?.value;
    if find(&info, module).is_some() {
        return Ok(());
    }
    Err(CliError::new(
        Exit::Failed,
        "no_module",
        format!(
            "the node has no module `{module}`; {}",
            super::deploy::it_has(&info)
        ),
    ))
}

fn find<'a>(info: &'a Info, module: &str) -> Option<&'a Module> {
    info.modules.iter().find(|known| known.name == module)
}

/// Returns the number of processes in all versions of a module.
fn population(module: &Module) -> u64 {
    module.loaded.iter().map(|version| version.processes).sum()
}
