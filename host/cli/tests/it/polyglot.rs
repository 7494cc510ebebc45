//! `examples/polyglot`, built and run as its README says.

use std::path::Path;
use std::process::Command;

use crate::app::exuvia;
use crate::templates::{ALL, has_tools};
use crate::terminal::Terminal;

/// The stations, as `tour.py` names their languages.
const LANGUAGES: [&str; 7] = [
    "c",
    "zig",
    "assemblyscript",
    "go",
    "javascript",
    "python",
    "rust",
];

#[test]
fn each_station_is_rewritten_in_every_language_and_no_token_is_lost() {
    if let Some(lang) = LANGUAGES.iter().find(|lang| !has_tools(lang)) {
        assert!(std::env::var_os(ALL).is_none(), "no tools for {lang}");
        eprintln!("skipped: {lang} has no tools here: `exuvia doctor` says which");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/polyglot");
    for lang in LANGUAGES {
        for version in ["1", "2"] {
            let mut build = Command::new("./build.sh");
            let output = build.args([lang, version]).current_dir(&folder).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{lang} {version}: {output:?}");
        }
    }
    // A node that somebody runs there is not disturbed.
    let around = tempfile::tempdir().unwrap();
    let socket = around.path().join("node.sock");
    let mut run = exuvia(&folder);
    run.env("XDG_CACHE_HOME", around.path());
    run.args(["run", "--no-store", "--socket"]).arg(&socket);
    let mut terminal = Terminal::start(&run, 160, 40);
    terminal.shows("started");
    let mut tour = Command::new("./tour.py");
    tour.env("EXUVIA", env!("CARGO_BIN_EXE_exuvia"));
    tour.env("EXUVIA_SOCKET", &socket).current_dir(&folder);
    let tour = tour.output().unwrap();
    let printed = String::from_utf8_lossy(&tour.stdout);
    assert!(tour.status.success(), "{tour:?}");
    assert!(
        printed.contains("56 swaps; 50 tokens, 50 arrived"),
        "{printed}"
    );
    assert!(printed.ends_with("nothing was lost\n"), "{printed}");
    println!("{printed}");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}
