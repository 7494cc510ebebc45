//! Rules about the text of one file.
//!
//! Each violation has a message that says how to fix it. Forbidden words are spelled in two
//! parts here, so that this file obeys the rules too.

use super::Finding;
use super::code_view::code_view;

/// Longer files hide their structure. `tidy: size, <reason>` in a comment exempts a file.
const MAX_LINES: usize = 1000;

/// Folders of the project's Rust sources; other Rust files are not checked.
const RUST_FOLDERS: &[&str] = &["host/", "guest-sdk/", "modules/", "examples/"];

/// Files that are generated or copied verbatim, and therefore not edited to any style.
const FOREIGN: &[&str] = &[
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "openapi.json",
    "exuvia.schema.json",
];

/// Where `unsafe` is allowed, and why.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("host/image/src/arena", "packed memories lie in mappings"),
    ("host/image/src/base_file", "a base is mapped over memories"),
    ("host/image/src/faults", "the kernel counts page faults"),
    (
        "host/image/src/mapping",
        "the kernel is told about mappings",
    ),
    ("host/image/src/memories", "frames' memories are mappings"),
    (
        "host/image/src/pagemap",
        "the kernel is asked for written pages",
    ),
    ("host/image/src/stacks", "stacks of fibers lie in mappings"),
    (
        "host/engine/src/instance/fiber_stack",
        "wasmtime's traits for stacks",
    ),
    (
        "host/engine/src/instance/linear_memory",
        "wasmtime's traits for memories",
    ),
    (
        "host/engine/src/module/compile_cache",
        "native code is loaded from a file",
    ),
    ("host/engine/tests/it/pressure", "a test uses up mappings"),
    ("guest-sdk/rust/src/sys", "host calls are foreign functions"),
    (
        "guest-sdk/rust/src/heap",
        "an allocator hands out raw memory",
    ),
    (
        "guest-sdk/python/engine/src",
        "host calls, an allocator, and an interpreter that is a static",
    ),
];

/// Absolute paths of a particular machine.
const MACHINE_PATHS: &[&str] = &[
    concat!("/", "root/"),
    concat!("/", "home/"),
    concat!("/", "work/"),
];

/// Macros that mark unfinished work.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

const LATER: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Checks one file; `path` is relative to the project's top folder.
pub(super) fn check_file(path: &str, text: &str) -> Vec<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut findings = Vec::new();
    if FOREIGN.contains(&name) {
        return findings;
    }
    check_text(path, text, &mut findings);
    if path.ends_with(".rs") && RUST_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        check_rust(path, text, &mut findings);
    }
    findings
}

/// Rules for every text file.
fn check_text(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    if lines > MAX_LINES && !text.lines().any(has_size_reason) {
        findings.push(Finding::file(
            path,
            format!("{lines} lines, the limit is {MAX_LINES}: split it, or say why not with `// tidy: size, <reason>`"),
        ));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::file(path, "does not end with a newline"));
    }
    for (index, line) in text.split_terminator('\n').enumerate() {
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::line(
                path,
                index,
                "whitespace at the end of the line",
            ));
        }
        for folder in MACHINE_PATHS {
            if holds_absolute(line, folder) {
                let message = format!("`{folder}` is a path of one machine: use a relative one");
                findings.push(Finding::line(path, index, message));
            }
        }
        for word in LATER {
            for at in word_positions(line, word) {
                if !has_issue_number(&line[at + word.len()..]) {
                    let message =
                        format!("`{word}` without an issue: write `{word}(#12)`, or do it");
                    findings.push(Finding::line(path, index, message));
                }
            }
        }
    }
}

fn check_rust(path: &str, text: &str, findings: &mut Vec<Finding>) {
    if !text.starts_with("//!") {
        findings.push(Finding::line(
            path,
            0,
            "open the file with `//!`: what it owns, who may call it",
        ));
    }
    let view = code_view(text);
    let may_be_unsafe = UNSAFE_ALLOWED
        .iter()
        .any(|(allowed, _)| path.starts_with(allowed));
    for (index, line) in view.lines().enumerate() {
        if !may_be_unsafe && !word_positions(line, "unsafe").is_empty() {
            let locations: Vec<&str> = UNSAFE_ALLOWED
                .iter()
                .map(|(location, _)| *location)
                .collect();
            let message = format!("`unsafe` is for {} only", locations.join(" and "));
            findings.push(Finding::line(path, index, message));
        }
        for name in UNFINISHED {
            if word_positions(line, name)
                .iter()
                .any(|at| line[at + name.len()..].trim_start().starts_with('!'))
            {
                findings.push(Finding::line(
                    path,
                    index,
                    format!("`{name}!` is for work in progress only"),
                ));
            }
        }
    }
    super::words::check(path, &view, findings);
    super::layers::check(path, &view, findings);
    super::confined::check(path, &view, findings);
    check_attributes(path, &view, findings);
    check_crate_root(path, &view, findings);
}

/// Finds ignored tests, which prove nothing, and silenced lints without a reason.
fn check_attributes(path: &str, view: &str, findings: &mut Vec<Finding>) {
    for (at, _) in view.match_indices('#') {
        let rest = view[at + 1..].trim_start_matches('!').trim_start();
        let Some(rest) = rest.strip_prefix('[') else {
            continue;
        };
        let attribute = rest[..attribute_end(rest)].trim();
        let index = view[..at].matches('\n').count();
        let named = |name: &str| {
            attribute
                .strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        if named("ignore") {
            findings.push(Finding::line(
                path,
                index,
                "an ignored test: fix it, remove it, or give it a named switch",
            ));
        }
        let silences = (named("allow") || named("expect")) && attribute.ends_with(')');
        if silences && word_positions(attribute, "reason").is_empty() {
            findings.push(Finding::line(
                path,
                index,
                "a silenced lint needs a reason: `reason = \"...\"`",
            ));
        }
    }
}

/// Returns the length of an attribute's text, up to its closing bracket.
fn attribute_end(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return at,
            ']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// Checks that the root file of a host crate has the required lint attribute about `unsafe`.
fn check_crate_root(path: &str, view: &str, findings: &mut Vec<Finding>) {
    let parts: Vec<&str> = path.split('/').collect();
    let ["host", name, "src", "lib.rs" | "main.rs"] = parts[..] else {
        return;
    };
    let wanted = if matches!(name, "engine" | "image") {
        "#![deny(clippy::undocumented_unsafe_blocks)]"
    } else {
        "#![forbid(unsafe_code)]"
    };
    if !view.contains(wanted) {
        findings.push(Finding::file(
            path,
            format!("a crate's root file needs `{wanted}`"),
        ));
    }
}

fn has_size_reason(line: &str) -> bool {
    line.split_once("tidy: size,")
        .is_some_and(|(_, reason)| reason.contains(char::is_alphabetic))
}

fn has_issue_number(rest: &str) -> bool {
    let number = rest
        .strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'));
    number
        .is_some_and(|(number, _)| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// Returns whether the line contains the folder as the start of an absolute path.
fn holds_absolute(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~$}>*".contains(c))
    })
}

/// Returns the byte positions where the word occurs as a whole word.
fn word_positions(line: &str, word: &str) -> Vec<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
        })
        .collect()
}

#[cfg(test)]
mod tests;
