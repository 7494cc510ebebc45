//! `exuvia inspect`: shows all that is known of one process, including its state.

use serde_json::Value;

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
    let (process, all) = (&answer.value, &answer.json);
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
    let limit = |name: &str| all["limits"][name].as_u64().unwrap_or_default();
    if let Some(parent) = all["parent"].as_str() {
        line("parent", parent)?;
    }
    for what in ["links", "monitors", "groups"] {
        let pids = strings(&all[what]);
        if !pids.is_empty() {
            line(what, &pids.join(" "))?;
        }
    }
    for table in all["tables"].as_array().into_iter().flatten() {
        let number = |key: &str| table[key].as_u64().unwrap_or_default();
        let name = table["name"].as_str().map_or_else(
            || number("table").to_string(),
            |name| format!("{name} ({})", number("table")),
        );
        let (rows, size) = (number("rows"), bytes(number("bytes")));
        line("table", &format!("{name}: {rows} rows, {size}"))?;
    }
    for (path, dir) in all["limits"]["wasi"]["dirs"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let text = |key: &str| dir[key].as_str().unwrap_or_default();
        let (access, host) = (text("access"), text("path"));
        line("folder", &format!("{path} ({access}): {host}"))?;
    }
    match all["priority"].as_str() {
        None | Some("normal") => {}
        Some(priority) => line("priority", priority)?,
    }
    let watchers = all["watchers"].as_u64().unwrap_or_default();
    if watchers > 0 {
        line("watched by", &watchers.to_string())?;
    }
    if all["trap_exit"] == true {
        line("trap_exit", "it traps exits")?;
    }
    let image = match process.image {
        0 => String::new(),
        size => format!(", as an image {}", bytes(size)),
    };
    line(
        "memory",
        &format!(
            "{} of {}{image}",
            bytes(process.memory),
            bytes(limit("memory"))
        ),
    )?;
    line(
        "mailbox",
        &format!("{} of {}", process.mailbox, limit("mailbox_messages")),
    )?;
    for message in all["messages"].as_array().into_iter().flatten() {
        let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| message[key].as_u64().unwrap_or_default();
        line(
            "",
            &format!(
                "{} from {}  tag {}  {} B",
                text("kind"),
                text("from"),
                number("tag"),
                number("bytes")
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
    match all["data"]["encoding"].as_str() {
        Some("msgpack") => {
            let shown = serde_json::to_string_pretty(&all["data"]["payload"]).unwrap_or_default();
            let schema = all["schema"].as_i64().unwrap_or_default();
            line("state", &format!("schema {schema}"))?;
            for row in shown.lines() {
                output.line(&format!("    {}", clean(row)))?;
            }
            Ok(())
        }
        Some("empty") => line("state", "none yet"),
        Some(encoding) => {
            let payload = all["data"]["payload"].as_str().unwrap_or_default();
            line("state", &format!("{payload} ({encoding})"))
        }
        None => {
            let why = all["no_state"].as_str().unwrap_or("unknown");
            line("state", &format!("not shown: {why}"))
        }
    }
}

fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
