//! `exuvia check OLD NEW`: says what would happen in a swap, as far as two files tell. What that is,
//! the node's library decides; this prints it.

use std::path::Path;

use exuvia_node::{Loss, Rollback, SwapCheck, Way};
use serde_json::json;

use super::{not_loaded, show_faults, wants};
use crate::command::deploy::read;
use crate::error::CliError;
use crate::output::{Output, Tone, clean};

pub(super) fn run(old: &Path, new: &Path, output: &Output) -> Result<(), CliError> {
    let names = [old, new].map(|path| path.display().to_string());
    let (before, after) = (read(old)?, read(new)?);
    let checked = compared((&names[0], &before), (&names[1], &after), output)?;
    match checked.comparison.is_accepted() {
        true => Ok(()),
        false => Err(CliError::failed(format!(
            "{} cannot take the state of {}",
            clean(&names[1]),
            clean(&names[0])
        ))
        .help("`exuvia deploy --fresh` gives up the state; docs/upgrade.md says how it is kept")),
    }
}

/// Compares two modules, each with its name, and prints what a swap would do.
pub(super) fn compared(
    old: (&str, &[u8]),
    new: (&str, &[u8]),
    output: &Output,
) -> Result<SwapCheck, CliError> {
    let checked = match exuvia_node::check_swap(old.1, new.1) {
        Ok(checked) => checked,
        Err(both) => {
            let mut bad = 0;
            for (name, faults) in [old.0, new.0].into_iter().zip(&both) {
                if !faults.is_empty() {
                    bad += 1;
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    show_faults(name, &faults, output)?;
                }
            }
            return Err(not_loaded(bad, both.len()));
        }
    };
    show(old.0, new.0, &checked, output)?;
    Ok(checked)
}

fn show(old: &str, new: &str, checked: &SwapCheck, output: &Output) -> Result<(), CliError> {
    if output.is_json() {
        let accepted = checked.comparison.is_accepted();
        return output.value(&json!({
            "old": old,
            "new": new,
            "accepted": accepted,
            "swap": checked,
        }));
    }
    let compared = &checked.comparison;
    let word = match &compared.state {
        Way::Reused | Way::Migrated { .. } => output.paint(Tone::Good, "good"),
        Way::Undecided { .. } => output.paint(Tone::Warning, "unknown"),
        Way::Refused { .. } => output.paint(Tone::Bad, "bad"),
    };
    output.line(&format!("{word} {} -> {}", clean(old), clean(new)))?;
    let line = |label: &str, text: &str| output.line(&format!("  {label}: {}", clean(text)));
    let warning = output.paint(Tone::Warning, "warning");
    match &compared.state {
        // One line for each thing that is to be done.
        Way::Refused { reasons } => {
            for reason in reasons {
                line("state", &format!("refused: {reason}"))?;
            }
        }
        way => line("state", &way.to_string())?,
    }
    if let Some(why) = &compared.not_reused {
        line("not reused", why)?;
    }
    for why in &compared.unreadable {
        line(&warning, why)?;
    }
    for change in &compared.fields {
        match change.loss {
            // It is among the reasons.
            Loss::Refused => {}
            Loss::Dropped | Loss::Unknown => line(&warning, &change.to_string())?,
            Loss::None | Loss::Converted => line("field", &change.to_string())?,
        }
    }
    match &compared.messages {
        None => line("messages", "not compared, since not both describe them")?,
        Some(changes) if changes.is_empty() => line("messages", "the same")?,
        Some(changes) => {
            for change in changes {
                let label = match change.is_breaking() {
                    true => &warning,
                    false => "message",
                };
                line(label, &change.to_string())?;
            }
        }
    }
    let wants = wants(&checked.new_wasi);
    if !wants.is_empty() {
        let wants = wants.join(", ");
        line(
            "wasi",
            &format!("the new code can also use {wants}, as far as its grants allow"),
        )?;
    }
    match (&compared.rollback, &compared.state) {
        (Rollback::Reused | Rollback::Migrated, _) => {}
        (Rollback::Undecided, Way::Undecided { .. }) => {}
        (back, _) => line("rollback", &back.to_string())?,
    }
    Ok(())
}
