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
    let checked = match exuvia_node::check_swap(&read(old)?, &read(new)?) {
        Ok(checked) => checked,
        Err(both) => {
            let mut bad = 0;
            for (file, faults) in [old, new].into_iter().zip(&both) {
                if !faults.is_empty() {
                    bad += 1;
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    show_faults(file, &faults, output)?;
                }
            }
            return Err(not_loaded(bad, both.len()));
        }
    };
    show(old, new, &checked, output)?;
    match checked.comparison.is_accepted() {
        true => Ok(()),
        false => Err(CliError::failed(format!(
            "{} cannot take the state of {}",
            clean(&new.display().to_string()),
            clean(&old.display().to_string())
        ))
        .help("`exuvia deploy --fresh` gives up the state; docs/upgrade.md says how it is kept")),
    }
}

fn show(old: &Path, new: &Path, checked: &SwapCheck, output: &Output) -> Result<(), CliError> {
    let (old, new) = (old.display().to_string(), new.display().to_string());
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
    output.line(&format!("{word} {} -> {}", clean(&old), clean(&new)))?;
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
