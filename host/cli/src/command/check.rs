//! `exuvia check`: checks whether files are modules that a node can load, and whether the code in one
//! could follow the code in another.

mod swap;

use std::path::{Path, PathBuf};

use exuvia_manifest::{FILE_NAME, Manifest};
use exuvia_node::{Checked, Limits, Start};
use serde_json::{Value, json};

use crate::command::deploy::read;
use crate::error::CliError;
use crate::output::{Output, Tone, bytes, clean, count};
use crate::place;

/// Describe modules, or compare old code with new
///
/// Describes each module, or lists all that keeps a node from loading it. Two files are compared
/// instead: what happens to state and messages if the second one follows the first one, as far as
/// the files tell. Needs no node.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia check counter.wasm
  exuvia check
  exuvia check running.wasm counter.wasm
  exuvia check --json counter.wasm | jq .module.schema")]
pub(crate) struct Arguments {
    /// Module files, or apps: folders with an exuvia.toml [default: the nearest exuvia.toml,
    /// here or above]. Exactly two files are old code and new code
    #[arg(value_name = "FILE.wasm|APP")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), CliError> {
    if let [old, new] = &arguments.files[..]
        && !is_app(old)
        && !is_app(new)
    {
        return swap::run(old, new, output);
    }
    let mut bad = 0;
    let nearest = [place::app(None)];
    let files = files(match arguments.files.is_empty() {
        true => &nearest,
        false => &arguments.files,
    })?;
    for file in &files {
        let wasm = read(file)?;
        let name = file.display().to_string();
        match exuvia_node::check(&wasm) {
            Ok(checked) => show(&name, &checked, output)?,
            Err(faults) => {
                bad += 1;
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                show_faults(&name, &faults, output)?;
            }
        }
    }
    match bad {
        0 => Ok(()),
        bad => Err(not_loaded(bad, files.len())),
    }
}

/// Compares two modules, each with its name, and prints what a swap from the first to the second would do.
pub(crate) fn compare(
    old: (&str, &[u8]),
    new: (&str, &[u8]),
    output: &Output,
) -> Result<(), CliError> {
    swap::compared(old, new, output).map(drop)
}

fn not_loaded(bad: u64, all: usize) -> CliError {
    let files = count(bad, "file", "files");
    CliError::failed(format!("{files} of {all} cannot be loaded"))
        .help("guest-sdk/abi.md says what a module needs; an SDK does most of it")
}

fn is_app(path: &Path) -> bool {
    path.is_dir() || path.file_name().is_some_and(|name| name == FILE_NAME)
}

/// Returns the named files, and for an app the files of its modules.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for path in named {
        if is_app(path) {
            let manifest = Manifest::load(path)?;
            manifest.check_files()?;
            files.extend(manifest.modules.into_values().map(|module| module.path));
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn show(name: &str, checked: &Checked, output: &Output) -> Result<(), CliError> {
    if output.is_json() {
        return output.value(&json!({ "file": name, "module": checked }));
    }
    let good = output.paint(Tone::Good, "good");
    output.line(&format!(
        "{good} {}  {}, {} of initial memory, schema {}",
        clean(name),
        bytes(checked.file_bytes),
        bytes(checked.memory_bytes),
        checked.schema
    ))?;
    output.line(&format!("  state: {}", state(checked)))?;
    if let Some(contract) = &checked.contract {
        output.line(&format!(
            "  saved: {}; `load` takes {}",
            clean(&contract.ty),
            clean(&contract.loads)
        ))?;
    }
    output.line(&format!("  start: {}", start(&checked.start)))?;
    let usual = Limits::default().memory;
    if checked.memory_bytes > usual {
        let usual = bytes(usual);
        output.line(&format!(
            "  memory: it starts with more than the {usual} that a process may have by default: its module needs a higher `limits.memory`"
        ))?;
    }
    for why in &checked.resident_only {
        let word = output.paint(Tone::Warning, "resident only");
        output.line(&format!("  {word}: {}", clean(why)))?;
    }
    if !checked.wasi.is_empty() {
        output.line(&format!("  wasi: {}", wasi(&checked.wasi)))?;
    }
    for warning in &checked.warnings {
        let word = output.paint(Tone::Warning, "warning");
        output.line(&format!("  {word}: {}", clean(warning)))?;
    }
    Ok(())
}

/// Describes how a process begins, and what it costs.
fn start(start: &Start) -> String {
    let shared = bytes(start.base_bytes);
    let how = match start.differs_by {
        None => format!("once for all processes, which share {shared}"),
        Some(call) => format!(
            "for each process, since it calls `{call}`; they share {shared} (a module that exports `exuvia_shared_start` starts once)"
        ),
    };
    match (start.idle_bytes, &start.idle_failed) {
        (Some(image), _) => format!("{how}; started with nil, one costs {}", bytes(image as u64)),
        (None, Some(why)) => format!("{how}; started with nil, {}", clean(why)),
        (None, None) => how,
    }
}

/// Lists what a module may request of WASI, judging by the functions that it imports. A standard
/// library imports some that a module never calls.
fn wants(functions: &[String]) -> Vec<&'static str> {
    let any = |names: &[&str]| {
        functions
            .iter()
            .any(|function| names.contains(&function.as_str()))
    };
    let mut wants = Vec::new();
    if any(&["path_open"]) {
        wants.push("files");
    }
    if any(&["environ_get"]) {
        wants.push("variables");
    }
    if any(&["args_get"]) {
        wants.push("arguments");
    }
    wants
}

fn wasi(functions: &[String]) -> String {
    let wants = wants(functions);
    if wants.is_empty() {
        return "it needs no grants".to_owned();
    }
    format!(
        "it can use {}, as far as `[modules.NAME.wasi]` of the manifest grants it",
        wants.join(", ")
    )
}

/// Describes how a process's state is treated in a swap.
fn state(checked: &Checked) -> &'static str {
    let images = checked.layout && checked.resident_only.is_empty();
    match (images, checked.save && checked.load) {
        (true, true) => "reused where the layout is the same, else migrated by `save` and `load`",
        (true, false) => {
            "reused where the layout is the same; a version with another layout is refused because it does not export `save` and `load`"
        }
        (false, true) => "migrated by `save` and `load`",
        (false, false) => {
            "cannot be upgraded to another version: the module has neither a usable layout fingerprint nor both `save` and `load`"
        }
    }
}

fn show_faults(name: &str, faults: &[String], output: &Output) -> Result<(), CliError> {
    if output.is_json() {
        let faults: Vec<Value> = faults.iter().map(|fault| json!(fault)).collect();
        return output.value(&json!({ "file": name, "faults": faults }));
    }
    let word = output.paint(Tone::Bad, "bad");
    output.line(&format!("{word} {}", clean(name)))?;
    for fault in faults {
        output.line(&format!("  {}", clean(fault)))?;
    }
    Ok(())
}
