//! `exuvia describe`: lists the functions that a process accepts.

use exuvia_api::{Description, Function};

use crate::error::CliError;
use crate::output::{Output, Tone, clean};
use crate::place::Place;

/// List the functions that a process accepts
///
/// Modules whose messages are defined by a protocol describe them in their section
/// `exuvia.protocol`; the Rust SDK writes it for `#[exuvia::protocol]`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia describe counter
  exuvia describe counter --json | jq -r '.functions[].name'")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let answer = place.client()?.describe(&arguments.target).await?;
    if output.is_json() {
        return output.value(&answer.json);
    }
    let described = answer.value;
    output.line(&format!(
        "{}  {}",
        output.paint(Tone::Strong, &clean(&described.pid)),
        clean(&described.module)
    ))?;
    if let Some(why) = silent(&described) {
        return output.line(&format!("  {}", clean(&why)));
    }
    for function in &described.functions {
        output.line(&format!("  {}", clean(&signature(function))))?;
        for line in function.docs.lines().filter(|line| !line.trim().is_empty()) {
            let line = format!("      {}", clean(line.trim()));
            output.line(&output.paint(Tone::Quiet, &line))?;
        }
    }
    Ok(())
}

/// Returns why no functions can be listed, or `None` if they can.
pub(super) fn silent(described: &Description) -> Option<String> {
    if let Some(why) = &described.unreadable {
        return Some(format!("its section exuvia.protocol cannot be read: {why}"));
    }
    described
        .functions
        .is_empty()
        .then(|| "its module describes no protocol".to_owned())
}

/// Formats a function, as in `add(by: i64)` and `get() -> i64`.
pub(super) fn signature(function: &Function) -> String {
    let parameters: Vec<String> = (function.parameters.iter())
        .map(|parameter| match parameter.ty.as_str() {
            "" => parameter.name.clone(),
            ty => format!("{}: {ty}", parameter.name),
        })
        .collect();
    let parameters = parameters.join(", ");
    match &function.reply {
        None => format!("{}({parameters})", function.name),
        Some(reply) => format!("{}({parameters}) -> {reply}", function.name),
    }
}
