//! `exuvia docs`: prints the manual of exactly this version, without a network.

use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};

use crate::environment;
use crate::error::CliError;
use crate::output::{Output, Tone};
use crate::page::{self, Style};

/// Print a page of the manual
///
/// Without a page, lists all pages. They describe this version and need no network. On a
/// terminal a page is formatted and shown in $PAGER, or else `less`; otherwise it is printed as
/// Markdown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia docs
  exuvia docs manifest
  exuvia docs operations > operations.md")]
pub(crate) struct Arguments {
    /// The page: its name, or the name of its file
    page: Option<String>,
    /// Print directly, without a pager
    #[arg(long)]
    no_pager: bool,
}

/// The pages: name, text and subject.
const PAGES: &[(&str, &str, &str)] = &[
    (
        "start",
        include_str!("../../../../docs/first-app.md"),
        "a first app, from nothing to an upgrade while it runs",
    ),
    (
        "ideas",
        include_str!("../../../../docs/ideas.md"),
        "an introduction: processes, messages, failures, upgrades",
    ),
    (
        "erlang",
        include_str!("../../../../docs/erlang.md"),
        "what is the same as in Erlang/OTP and what is different",
    ),
    (
        "languages",
        include_str!("../../../../docs/languages.md"),
        "which languages a process can be written in, and what each can do",
    ),
    (
        "sharing",
        include_str!("../../../../docs/sharing.md"),
        "names, groups, tables, configuration",
    ),
    (
        "http",
        include_str!("../../../../docs/http.md"),
        "HTTP, WebSockets and TCP: pages, sessions, and who gets a request",
    ),
    (
        "channels",
        include_str!("../../../../docs/channels.md"),
        "browsers that share topics: publish, presence, resuming, the JavaScript client",
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
        "how to run a node, and what to do when something is wrong",
    ),
    (
        "cli",
        include_str!("../../../../docs/cli.md"),
        "all commands, options and events",
    ),
    (
        "api",
        include_str!("../../../../docs/api.md"),
        "the control API: routes, streams, metrics, health, problems",
    ),
    (
        "manifest",
        include_str!("../../../../docs/manifest.md"),
        "exuvia.toml: modules, builds, the supervision tree, limits",
    ),
    (
        "upgrade",
        include_str!("../../../../docs/upgrade.md"),
        "how state is moved to new code, and how to write code for that",
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
        "compilers",
        include_str!("../../../../guest-sdk/compilers.md"),
        "for authors of compilers and libraries: what the contract does not say",
    ),
    (
        "io",
        include_str!("../../../../guest-sdk/io.md"),
        "what guests and the network send each other",
    ),
    (
        "benchmarks",
        include_str!("../../../../docs/benchmarks.md"),
        "what it costs, and where the BEAM is better",
    ),
];

/// Other names of pages: file names and titles, as the pages themselves use them.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("first-app", "start"),
    ("introduction", "ideas"),
    ("names", "sharing"),
    ("groups", "sharing"),
    ("tables", "sharing"),
    ("presence", "channels"),
    ("upgrading", "upgrade"),
    ("commands", "cli"),
    ("metrics", "api"),
    ("routes", "api"),
    ("toml", "manifest"),
    ("exuvia.toml", "manifest"),
    ("sdk", "rust"),
    ("readme", "rust"),
    ("benchmark", "benchmarks"),
];

/// The maximum width of text, however wide the terminal is: long lines are hard to follow.
const WIDEST: usize = 100;
/// The minimum width, even on a narrower terminal.
const NARROWEST: usize = 30;

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<(), CliError> {
    let Some(asked) = &arguments.page else {
        for (name, _, about) in PAGES {
            let name = output.paint(Tone::Strong, &format!("{name:<11}"));
            output.line(&format!("{name} {about}"))?;
        }
        return Ok(());
    };
    let text = find(asked)?;
    if !std::io::stdout().is_terminal() {
        return print(&page::without_comments(text));
    }
    let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    let style = Style {
        width: usize::from(columns).clamp(NARROWEST, WIDEST),
        colours: output.has_colours(),
    };
    let text = page::set(text, &style);
    let fits = text.lines().count() < usize::from(rows);
    if fits || arguments.no_pager || !paged(&text) {
        return print(&text);
    }
    Ok(())
}

/// Returns a page by any of its names.
fn find(asked: &str) -> Result<&'static str, CliError> {
    // Accept names as links write them: `../docs/upgrade.md#one-part`.
    let path = asked.split('#').next().unwrap_or(asked).to_lowercase();
    let file = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(&path);
    let name = file.strip_suffix(".md").unwrap_or(file);
    let name = OTHER_NAMES
        .iter()
        .find(|(other, _)| *other == name || *other == file)
        .map_or(name, |(_, page)| page);
    if let Some((_, text, _)) = PAGES.iter().find(|(known, ..)| *known == name) {
        return Ok(text);
    }
    let known: Vec<&str> = PAGES.iter().map(|(name, ..)| *name).collect();
    let all = format!("the pages are {}", known.join(", "));
    let others = OTHER_NAMES.iter().map(|(other, _)| *other);
    let fault = CliError::usage(format!("there is no page `{asked}`"));
    Err(match nearest(name, known.iter().copied().chain(others)) {
        Some(near) => fault.help(format!("did you mean `{near}`? {all}")),
        None => fault.help(all),
    })
}

/// Shows text in the user's pager; returns false if there is none.
fn paged(text: &str) -> bool {
    let pager = environment("PAGER").map(|pager| pager.to_string_lossy().into_owned());
    let mut command = Command::new("sh");
    // F, R and X: exit by itself if all fits, show colours, and keep the screen.
    command
        .arg("-c")
        .arg(pager.as_deref().unwrap_or("less"))
        .env("LESS", environment("LESS").unwrap_or_else(|| "FRX".into()))
        .stdin(Stdio::piped());
    if pager.is_none()
        && !Command::new("less")
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    {
        return false;
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A user who has read enough quits the pager early.
        let _ = stdin.write_all(text.as_bytes());
    }
    child.wait().is_ok_and(|status| status.code() != Some(127))
}

fn print(text: &str) -> Result<(), CliError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(CliError::ReaderGone),
        Err(error) => Err(CliError::failed(format!(
            "could not write the page: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// Returns the known name that is most similar to this one, if any is similar enough.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = 1 + name.chars().count() / 3;
    known
        .map(|other| (distance(name, other), other))
        .filter(|(distance, other)| *distance <= most || other.starts_with(name))
        .min()
        .map(|(_, other)| other)
}

/// Returns the edit distance: letters to insert, delete or change to turn one name into the
/// other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, letter) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = number + 1;
        for (at, wanted) in other.iter().enumerate() {
            let change = before + usize::from(letter != *wanted);
            before = row[at + 1];
            row[at + 1] = change.min(row[at] + 1).min(before + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::{OTHER_NAMES, PAGES, find, nearest};

    #[test]
    fn pages_are_found_by_the_names_that_links_use() {
        for (name, title) in [
            ("manifest", "# "),
            ("manifest.md#node", "# "),
            ("../docs/upgrade.md#the-three-ways-of-state", "# "),
            ("first-app.md", "# "),
            ("Operations", "# "),
            ("../guest-sdk/rust/README.md", "# "),
        ] {
            assert!(find(name).unwrap().starts_with(title), "{name}");
        }
        // Every file that a page links to is a page too.
        for (page, text, _) in PAGES {
            for part in text.split("](").skip(1) {
                let link = part.split(')').next().unwrap_or_default();
                let file = link.split('#').next().unwrap_or_default();
                if file.ends_with(".md") && !file.contains("://") && !file.contains("notes/") {
                    assert!(find(file).is_ok(), "{page} links to {file}");
                }
            }
        }
        for (other, page) in OTHER_NAMES {
            assert!(PAGES.iter().any(|(name, ..)| name == page), "{other}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["manifest", "upgrade", "cli", "benchmarks"];
        for (name, near) in [
            ("manifset", Some("manifest")),
            ("upgrades", Some("upgrade")),
            ("bench", Some("benchmarks")),
            ("nothing", None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), near, "{name}");
        }
    }
}
