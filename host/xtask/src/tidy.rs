//! House rules, enforced by a program so that reviews can focus on design.
//!
//! `crates` checks the dependencies between crates, `layers` those between the modules of `engine`,
//! `confined` which names stay in one place of it, `rules` checks the text of each file. They are pure: this file reads the disk and prints. Nothing
//! is fixed automatically.

mod code_view;
mod confined;
mod crates;
mod layers;
mod rules;
mod words;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{abi, shell};

/// A violation of a rule: its location, and how to fix it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// `path` or `path:line`.
    location: String,
    message: String,
}

impl Finding {
    fn file(path: &str, message: impl Into<String>) -> Self {
        Self {
            location: path.to_owned(),
            message: message.into(),
        }
    }

    /// Creates a finding for a line; `index` counts from 0, the printed line number from 1.
    fn line(path: &str, index: usize, message: impl Into<String>) -> Self {
        Self {
            location: format!("{path}:{}", index + 1),
            message: message.into(),
        }
    }
}

/// Folders that contain nothing written by hand.
const SKIPPED_FOLDERS: &[&str] = &["target", "node_modules", ".git"];

pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let metadata = shell::output(shell::cargo(&root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let mut findings = crates::check(&crates::parse(&metadata)?);

    for path in abi::stale()? {
        let message = "it is not as the table of host calls says: run `cargo xtask abi`";
        findings.push(Finding::file(path, message));
    }

    let mut paths = Vec::new();
    list_files(&root, "", &mut paths)?;
    paths.sort();
    for path in &paths {
        let full = root.join(path);
        let bytes = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
        // Binary files are not checked.
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            findings.extend(rules::check_file(path, &text));
        }
    }

    for Finding { location, message } in &findings {
        println!("{location}: {message}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, all rules hold", paths.len());
            Ok(())
        }
        1 => bail!("tidy: 1 rule is broken, see above"),
        n => bail!("tidy: {n} rules are broken, see above"),
    }
}

/// Collects the files below `folder` as paths relative to the root, separated by `/`.
fn list_files(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                list_files(&entry.path(), &path, paths)?;
            }
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}
