//! The scenarios of `guest-sdk/conformance` against the guest of every language: what its README says, each
//! behaviour a scenario, each language a test that runs them all.

mod components;
mod contracts;
mod exceptions;
mod guest;
mod scenarios;

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use exuvia_node::Pid;
use rmpv::Value;

use self::guest::Guest;
use self::scenarios::SCENARIOS;
use crate::layout::is_wide;

/// Every language, with the name of its SDK's folder.
const LANGUAGES: [(&str, &str); 8] = [
    ("Rust", "rust"),
    ("C", "c"),
    ("Zig", "zig"),
    ("AssemblyScript", "assemblyscript"),
    ("Go", "go"),
    ("JavaScript", "javascript"),
    ("Python", "python"),
    ("Component (CPython)", "component"),
];
/// Set to run all languages: one whose guest is not built is an error then.
const ALL: &str = "EXUVIA_TEST_LANGUAGES";

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the folder of a language's built modules, if they are there.
#[track_caller]
fn built(folder: &str) -> Option<PathBuf> {
    let at = checkout().join("target/languages").join(folder);
    if at.join("one.wasm").is_file() {
        return Some(at);
    }
    let why = format!(
        "{} is not there: `cargo xtask languages` builds it",
        at.display()
    );
    assert!(std::env::var_os(ALL).is_none(), "{why}");
    eprintln!("skipped: {why}");
    None
}

/// What a language cannot do, by scenario, each with the reason.
fn cannot(folder: &str) -> Vec<(String, String)> {
    let at = checkout()
        .join("guest-sdk")
        .join(folder)
        .join("conformance/cannot.txt");
    let text = std::fs::read_to_string(at).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let (scenario, why) = line
                .split_once(": ")
                .expect("a scenario, a colon and the reason");
            (scenario.to_owned(), why.to_owned())
        })
        .collect()
}

/// Runs all scenarios, and fails with all that failed.
fn speaks(folder: &str) {
    // It takes minutes, and what lies where is tested by all other tests.
    if is_wide() {
        return;
    }
    let Some(at) = built(folder) else { return };
    let exempt = cannot(folder);
    let mut failed = String::new();
    for (name, scenario) in SCENARIOS {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let guest = Guest::new(&at);
            scenario(&guest);
            guest.node.halt();
        }));
        let is_exempt = exempt.iter().any(|(scenario, _)| scenario == name);
        match (outcome, is_exempt) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                writeln!(
                    failed,
                    "  {name}: it can, but `cannot.txt` says that it cannot"
                )
                .unwrap();
            }
            (Err(panic), false) => {
                let why = (panic.downcast_ref::<String>().map(String::as_str))
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                writeln!(failed, "  {name}: {}", why.unwrap_or("it failed")).unwrap();
            }
        }
    }
    let unknown = exempt
        .iter()
        .find(|(name, _)| SCENARIOS.iter().all(|(known, _)| known != name));
    assert!(
        unknown.is_none(),
        "`cannot.txt` names no scenario: {unknown:?}"
    );
    assert!(failed.is_empty(), "{folder}:\n{failed}");
}

macro_rules! languages {
    ($($test:ident $folder:literal;)*) => {$(
        #[test]
        fn $test() {
            speaks($folder);
        }
    )*};
}

languages! {
    rust_does_what_every_language_does "rust";
    c_does_what_every_language_does "c";
    zig_does_what_every_language_does "zig";
    assemblyscript_does_what_every_language_does "assemblyscript";
    go_does_what_every_language_does "go";
    javascript_does_what_every_language_does "javascript";
    python_does_what_every_language_does "python";
    a_component_does_what_every_language_does "component";
}

/// One process in every language, one after the other: a version is replaced by its rewrite.
#[test]
fn a_process_goes_round_all_languages_and_back() {
    let here: Vec<PathBuf> = LANGUAGES
        .iter()
        .filter_map(|(_, folder)| built(folder))
        .collect();
    let [first, others @ ..] = &here[..] else {
        return;
    };
    let guest = Guest::new(first);
    let all: Vec<Pid> = (0..100).map(|_| guest.start()).collect();
    let one = all[0];
    guest.ask(one, "Register", &[("name", "traveller".into())]);
    for (pid, count) in all.iter().zip(0..) {
        guest.add(*pid, count);
    }
    let mut notes = Vec::new();
    let round = others.iter().chain([first]);
    for (at, folder) in round.enumerate() {
        // A timer that is set in one language, and messages that wait, are handled in the next one.
        let delay = i64::try_from(200 + at).unwrap();
        let delays = Value::Array(vec![delay.into()]);
        guest.ask(one, "Timers", &[("delays_ms", delays)]);
        notes.push(format!("timer {delay}"));
        guest.node.suspend(one).unwrap();
        for pid in &all {
            guest.add(*pid, 1);
        }
        // One that runs cannot be verified.
        for pid in &all[1..] {
            guest.count(*pid);
        }
        // In the middle of a turn they could not be verified.
        for pid in &all[1..] {
            guest.image(*pid);
        }
        let report = guest.deploy_from(folder, "one").unwrap();
        assert_eq!(
            report.verified, 100,
            "each was verified on a copy: {report:?}"
        );
        guest.node.resume(one).unwrap();
        let added = i64::try_from(at).unwrap() + 1;
        for (pid, count) in all.iter().zip(0..) {
            assert_eq!(guest.count(*pid), count + added, "{}", folder.display());
        }
    }
    assert_eq!(guest.notes_when(one, notes.len()), notes);
    assert_eq!(guest.node.find("traveller").unwrap(), one);
    assert_eq!(
        usize::try_from(guest.info(one).upgrades).unwrap(),
        here.len()
    );
    guest.node.halt();
}

/// The table of the docs.
fn table() -> String {
    let mut table = String::from("| |");
    for (name, _) in LANGUAGES {
        write!(table, " {name} |").unwrap();
    }
    table.push_str("\n| --- |");
    table.push_str(&" --- |".repeat(LANGUAGES.len()));
    let mut notes = Vec::new();
    for (scenario, _) in SCENARIOS {
        write!(table, "\n| {scenario} |").unwrap();
        for (_, folder) in LANGUAGES {
            let exempt = cannot(folder);
            match exempt.iter().find(|(name, _)| name == scenario) {
                None => table.push_str(" yes |"),
                Some((_, why)) => {
                    if !notes.contains(why) {
                        notes.push(why.clone());
                    }
                    let number = notes.iter().position(|note| note == why).unwrap_or(0) + 1;
                    write!(table, " no ({number}) |").unwrap();
                }
            }
        }
    }
    table.push('\n');
    for (at, note) in notes.iter().enumerate() {
        write!(table, "\n{}. {note}", at + 1).unwrap();
    }
    table
}

/// `EXUVIA_BLESS=1` writes it.
#[test]
fn the_table_of_the_docs_is_that_of_the_tests() {
    const BEGIN: &str = "<!-- conformance: begin -->\n";
    const END: &str = "\n<!-- conformance: end -->";
    let at = checkout().join("docs/languages.md");
    let page = std::fs::read_to_string(&at).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the table");
    let (written, after) = rest.split_once(END).expect("the table has an end");
    let table = table();
    if std::env::var_os("EXUVIA_BLESS").is_some() {
        std::fs::write(at, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    assert!(
        written == table,
        "run this test with EXUVIA_BLESS=1; it is\n{table}"
    );
}
