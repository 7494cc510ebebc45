//! What the manual says, held against what there is: links lead somewhere, also on a code
//! host, and figures and lists are those of the program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::{answer, exuvia};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Without what stands in code, where brackets mean something else.
fn prose(text: &str) -> String {
    let mut code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            // Inside backticks too.
            prose.extend(line.split('`').step_by(2).flat_map(|part| [part, "`"]));
            prose.push('\n');
        }
    }
    prose
}

/// The anchor that code hosts make of a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    let mut headings = text.lines().filter_map(|line| {
        let rest = line.trim_start_matches('#');
        (rest.len() < line.len()).then(|| rest.trim())
    });
    headings.any(|heading| anchor(heading) == wanted)
}

#[test]
fn every_link_has_a_target() {
    let mut pages = vec![
        root().join("README.md"),
        root().join("guest-sdk/abi.md"),
        root().join("guest-sdk/rust/README.md"),
    ];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "md") {
            pages.push(path);
        }
    }
    let mut dead = Vec::new();
    for path in &pages {
        let text = fs::read_to_string(path).unwrap();
        let folder = path.parent().unwrap();
        for part in prose(&text).split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => folder.join(file),
            };
            let there = match fs::read_to_string(&target) {
                _ if target.is_dir() => anchor.is_empty(),
                Ok(text) => anchor.is_empty() || has_anchor(&text, anchor),
                // A picture.
                Err(_) => target.exists() && anchor.is_empty(),
            };
            if !there {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

#[test]
fn documented_commands_match_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let help = answer(exuvia(folder.path()).arg("--help")).stdout;
    let commands = help.split("Commands:").nth(1).unwrap();
    let commands = commands.lines().skip(1).take_while(|line| !line.is_empty());
    let text = page("docs/cli.md");
    let table = text.split("\n## ").next().unwrap();
    for line in commands {
        let Some(name) = line.split_whitespace().next().filter(|it| *it != "help") else {
            continue;
        };
        if line.starts_with("   ") {
            // The words of the command above go on.
            continue;
        }
        assert!(
            table.contains(&format!("`{name}")),
            "`{name}` is not in cli.md"
        );
    }
}

#[test]
fn examples_in_the_help_work_with_the_app_that_they_name() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["send", "--help"]] {
        let help = answer(exuvia(folder.path()).args(arguments)).stdout;
        let sends = help.lines().map(str::trim);
        let sends = sends.filter(|line| line.contains(" counter-0 "));
        let readme = page("examples/counter/README.md");
        for line in sends {
            assert!(
                readme.contains(line),
                "`{line}` is not in the example's README"
            );
        }
        // Those of the template's app are run with the page.
        let cli = page("docs/cli.md");
        let begins = ["exuvia send counter ", "exuvia call counter "];
        let lines = help.lines().map(str::trim);
        for line in lines.filter(|line| begins.iter().any(|begin| line.starts_with(begin))) {
            let run = format!("$ {line}");
            assert!(cli.contains(&run), "`{line}` is not in cli.md");
        }
    }
}

#[test]
fn documented_figures_match_the_program() {
    let cli = page("docs/cli.md");
    let limits = exuvia_node::Limits::default();
    let sample = format!(
        "of {} MiB\n  mailbox     0 of {}",
        limits.memory >> 20,
        limits.mailbox_messages
    );
    assert!(cli.contains(&sample), "the sample of `inspect`: {sample}");
    let api = page("docs/api.md");
    for (what, number) in [
        ("requests at a time", exuvia_control::MAX_REQUESTS),
        ("of them calls", exuvia_control::MAX_CALLS),
        ("event streams at a time", exuvia_control::MAX_STREAMS),
        (
            "connections, event streams included",
            exuvia_control::MAX_CONNECTIONS,
        ),
        ("connections to `--metrics`", exuvia_control::MAX_SCRAPERS),
        ("traces at a time", exuvia_control::MAX_TRACES),
    ] {
        let mut lines = api.lines().filter(|line| line.contains(what));
        let fits = |line: &str| line.contains(&format!(" {number}"));
        assert!(
            lines.any(fits),
            "`{what}` is {number}, api.md says something else"
        );
    }
}

#[test]
fn the_documented_size_of_an_idle_process_is_the_measured_one() {
    let benchmarks = page("docs/benchmarks.md");
    let row = benchmarks
        .lines()
        .find(|line| line.contains("idle memory, 1,000,000 Rust, B/process"))
        .unwrap();
    let measured: f64 = row.split('|').nth(2).unwrap().trim().parse().unwrap();
    let ideas = page("docs/ideas.md");
    let said = ideas.split(" for a small one in Rust").next().unwrap();
    let said = said.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    let said: f64 = said.parse().unwrap();
    assert!(
        (said / measured - 1.0).abs() < 0.1,
        "{said} said, {measured} measured"
    );
}
