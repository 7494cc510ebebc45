//! `exuvia inspect`: shows all that is known of one process, including its state.

use exuvia_api::Rendered;

use crate::error::CliError;
use crate::output::{Output, Tone, bytes, clean};
use crate::place::Place;

/// Show one process: relations, mailbox, limits, and its state
///
/// The state is what the module's own `save` returns, run on a copy; for the SDKs it is shown
/// as JSON. For a process that is in the middle of a handler, everything but the state is
/// shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia inspect counter
  exuvia inspect '<3.1>' --json | jq .data.payload")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let answer = place.client()?.inspect(&arguments.target).await?;
    if output.is_json() {
        return output.value(&answer.json);
    }
    let all = &answer.value;
    let process = &all.process;
    let names = match process.names.as_slice() {
        [] => String::new(),
        names => format!("  {}", names.join(", ")),
    };
    let module = process.module.as_deref().unwrap_or("a process of the host");
    let pid = output.paint(Tone::Strong, &process.pid);
    output.line(&format!(
        "{pid}{}  {}  {}",
        clean(&names),
        clean(module),
        clean(&process.state)
    ))?;
    let line = |what: &str, text: &str| output.line(&format!("  {what:<11} {}", clean(text)));
    if let Some(parent) = &all.parent {
        line("parent", parent)?;
    }
    for (what, pids) in [
        ("links", &all.links),
        ("monitors", &all.monitors),
        ("groups", &all.groups),
    ] {
        if !pids.is_empty() {
            line(what, &pids.join(" "))?;
        }
    }
    for table in &all.tables {
        let name = match &table.name {
            None => table.table.to_string(),
            Some(name) => format!("{name} ({})", table.table),
        };
        let (rows, size) = (table.rows, bytes(table.bytes));
        line("table", &format!("{name}: {rows} rows, {size}"))?;
    }
    for (path, dir) in all.limits.wasi["dirs"].as_object().into_iter().flatten() {
        let text = |key: &str| dir[key].as_str().unwrap_or_default();
        let (access, host) = (text("access"), text("path"));
        line("folder", &format!("{path} ({access}): {host}"))?;
    }
    for to in &all.limits.connect {
        line("connects to", to)?;
    }
    for holding in &all.holdings {
        line(&holding.kind, &holding.count.to_string())?;
    }
    if all.priority != "normal" {
        line("priority", &all.priority)?;
    }
    if all.watchers > 0 {
        line("watched by", &all.watchers.to_string())?;
    }
    if all.trap_exit {
        line("trap_exit", "it traps exits")?;
    }
    let image = match process.image {
        0 => String::new(),
        size => format!(", as an image {}", bytes(size)),
    };
    let (memory, limit) = (bytes(process.memory), bytes(all.limits.memory));
    line("memory", &format!("{memory} of {limit}{image}"))?;
    let (mailbox, limit) = (process.mailbox, all.limits.mailbox_messages);
    line("mailbox", &format!("{mailbox} of {limit}"))?;
    for message in &all.messages {
        line(
            "",
            &format!(
                "{} from {}  tag {}  {} B",
                message.kind, message.from, message.tag, message.bytes
            ),
        )?;
    }
    line("reductions", &process.reductions.to_string())?;
    line("upgrades", &process.upgrades.to_string())?;
    if let Some(upgrade) = process
        .upgrade
        .as_deref()
        .filter(|upgrade| *upgrade != "current")
    {
        match &process.upgrade_reason {
            Some(reason) => line("upgrade", &format!("{upgrade}: {reason}"))?,
            None => line("upgrade", upgrade)?,
        }
    }
    match &all.data {
        Some(Rendered::Msgpack(value)) => {
            let shown = serde_json::to_string_pretty(value).unwrap_or_default();
            line(
                "state",
                &format!("schema {}", all.schema.unwrap_or_default()),
            )?;
            for row in shown.lines() {
                output.line(&format!("    {}", clean(row)))?;
            }
            Ok(())
        }
        Some(Rendered::Empty) => line("state", "none yet"),
        Some(Rendered::Text(text)) => line("state", &format!("{text} (text)")),
        Some(Rendered::Hex(digits)) => line("state", &format!("{digits} (hex)")),
        None => {
            let why = all.no_state.as_deref().unwrap_or("unknown");
            line("state", &format!("not shown: {why}"))
        }
    }
}
