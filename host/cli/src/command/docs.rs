//! `exuvia docs`: the manual of this very version, without a network.

use std::io::Write as _;

use crate::fault::Fault;
use crate::output::{Output, Tone};

/// Print a page of the manual
///
/// Without a page it lists them. They are of this version, and need no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia docs
  exuvia docs manifest | less")]
pub(crate) struct Arguments {
    /// Which page
    page: Option<String>,
}

/// Name, text and what it is about.
const PAGES: &[(&str, &str, &str)] = &[
    (
        "start",
        include_str!("../../../../docs/first-app.md"),
        "the first app, from nothing to code that changes while it runs",
    ),
    (
        "ideas",
        include_str!("../../../../docs/ideas.md"),
        "processes, messages, failure, code that changes: for newcomers",
    ),
    (
        "erlang",
        include_str!("../../../../docs/erlang.md"),
        "what is the same as in Erlang/OTP, and what is not",
    ),
    (
        "sharing",
        include_str!("../../../../docs/sharing.md"),
        "names, groups, tables, configuration",
    ),
    (
        "files",
        include_str!("../../../../docs/files.md"),
        "folders, variables and arguments that a process is granted",
    ),
    (
        "testing",
        include_str!("../../../../docs/testing.md"),
        "tests of one actor, and of an app in virtual time",
    ),
    (
        "operations",
        include_str!("../../../../docs/operations.md"),
        "running a node, and what to do when something is wrong",
    ),
    (
        "cli",
        include_str!("../../../../docs/cli.md"),
        "all commands, events, the control socket",
    ),
    (
        "manifest",
        include_str!("../../../../docs/manifest.md"),
        "exuvia.toml: modules, builds, the supervision tree, limits",
    ),
    (
        "upgrade",
        include_str!("../../../../docs/upgrade.md"),
        "how state crosses to new code, and how to write code for it",
    ),
    (
        "rust",
        include_str!("../../../../guest-sdk/rust/README.md"),
        "the Rust SDK",
    ),
    (
        "abi",
        include_str!("../../../../guest-sdk/abi.md"),
        "the contract between host and guests, for any language",
    ),
    (
        "benchmarks",
        include_str!("../../../../docs/benchmarks.md"),
        "what it costs, and where the BEAM is better",
    ),
];

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), Fault> {
    let Some(name) = &arguments.page else {
        for (name, _, about) in PAGES {
            let name = output.paint(Tone::Strong, &format!("{name:<11}"));
            output.line(&format!("{name} {about}"))?;
        }
        return Ok(());
    };
    let Some((_, text, _)) = PAGES.iter().find(|(known, ..)| known == name) else {
        let known: Vec<&str> = PAGES.iter().map(|(name, ..)| *name).collect();
        return Err(Fault::usage(format!("there is no page `{name}`"))
            .help(format!("the pages are {}", known.join(", "))));
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Fault::NobodyReads),
        Err(error) => Err(Fault::failed(format!("could not write the page: {error}"))),
        Ok(()) => Ok(()),
    }
}
