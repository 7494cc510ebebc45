//! The commands that check the project (tests, formatting, lints, documentation), and the demo.
//!
//! wasmtime takes minutes to compile, so all of them share one profile and always name the
//! whole workspace: with `-p`, cargo may choose other features of shared dependencies and
//! recompile them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::instructions;
use crate::guests::{self, Workspace};
use crate::languages;
use crate::setup::{self, TARGET};
use crate::{shell, tidy};

/// The environment variable that enables the long forms of tests.
const LONG: &str = "EXUVIA_TEST_LONG";

/// The environment variable that says how the memories of processes lie in tests.
const LAYOUT: &str = "EXUVIA_TEST_LAYOUT";
/// The crates whose tests read it. They run with both layouts.
const LAID_OUT: [&str; 2] = ["host/engine", "host/node"];

/// The number of times loom may preempt a thread. Two finds nearly all real bugs in seconds;
/// three takes minutes.
const LOOM_SHORT: &str = "2";
const LOOM_LONG: &str = "3";

/// Programs without which a test of the command line is skipped, and that test.
const WANTED: [(&str, &str); 3] = [
    ("chromium", BROWSERS),
    ("chromedriver", BROWSERS),
    ("node", "channels::the_client_in_javascript"),
];
const BROWSERS: &str =
    "live::two_people_draw_and_chat_while_the_code_changes_and_connections_are_cut";

pub(crate) fn test(long: bool) -> Result<()> {
    // The cheapest check goes first.
    tidy::run()?;
    guests::build()?;
    languages::build(&[])?;
    let root = shell::root();
    let mode = |command: &mut Command| {
        if long {
            command.env(LONG, "1");
        }
        shell::run(command)
    };
    // Before the host's tests, so that the output ends with the most important summary.
    let sdk = root.join(guests::SDK);
    if sdk.join("Cargo.toml").is_file() {
        let target_dir = sdk.join("target");
        mode(
            shell::cargo(&sdk)
                .args(["test", "--workspace", "--target-dir"])
                .arg(target_dir),
        )?;
    }
    loom(long)?;
    if setup::has_nextest() {
        mode(shell::cargo(&root).args(["test", "--doc", "--workspace"]))?;
        mode(shell::cargo(&root).args(["nextest", "run", "--workspace"]))?;
    } else {
        println!(
            "test: cargo-nextest is missing (`cargo xtask setup` installs it), using `cargo test`"
        );
        mode(shell::cargo(&root).args(["test", "--workspace"]))?;
    }
    with_wide_memories()?;
    // The tests say it themselves, but their runner hides what a test prints that has not failed.
    for (program, test) in WANTED {
        if !shell::succeeds(Command::new(program).arg("--version")) {
            println!("test: SKIPPED {test}: {program} is missing");
        }
    }
    Ok(())
}

/// Runs the tests of [`LAID_OUT`] again, with wide memories.
fn with_wide_memories() -> Result<()> {
    let root = shell::root();
    let built = shell::output(shell::cargo(&root).args([
        "test",
        "--workspace",
        "--test",
        "it",
        "--no-run",
        "--message-format",
        "json",
    ]))?;
    for folder in LAID_OUT.map(|folder| root.join(folder)) {
        let program = executable(&built, &folder.join("Cargo.toml"))?;
        shell::run(
            Command::new(program)
                .current_dir(&folder)
                .env(LAYOUT, "wide"),
        )?;
    }
    Ok(())
}

/// Returns the program that cargo says it has built for a package.
fn executable(messages: &str, manifest: &Path) -> Result<PathBuf> {
    let manifest = manifest.to_string_lossy();
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| {
            message["manifest_path"] == *manifest && message["target"]["name"] == "it"
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo names no test program of {manifest}"))
}

/// Model-checks every host crate that has `tests/loom.rs`.
pub(crate) fn loom(long: bool) -> Result<()> {
    let root = shell::root();
    let packages = loom_packages(&root)?;
    if packages.is_empty() {
        println!("loom: no crate has tests/loom.rs");
        return Ok(());
    }
    let mut command = shell::cargo(&root);
    command.args([
        "test",
        "--release",
        "--target-dir",
        "target/loom",
        "--test",
        "loom",
    ]);
    for package in &packages {
        command.args(["-p", package]);
    }
    // A target folder of its own: the flag would make cargo recompile everything else.
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    if std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        command.env(
            "LOOM_MAX_PREEMPTIONS",
            if long { LOOM_LONG } else { LOOM_SHORT },
        );
    }
    if long {
        command.env(LONG, "1");
    }
    shell::run(&mut command)
}

fn loom_packages(root: &Path) -> Result<Vec<String>> {
    let host = root.join("host");
    let mut packages = Vec::new();
    for entry in
        std::fs::read_dir(&host).with_context(|| format!("cannot list {}", host.display()))?
    {
        let entry = entry?;
        if entry.path().join("tests/loom.rs").is_file() {
            packages.push(format!("exuvia-{}", entry.file_name().to_string_lossy()));
        }
    }
    packages.sort();
    Ok(packages)
}

pub(crate) fn demo(args: &[String]) -> Result<()> {
    guests::build()?;
    let root = shell::root();
    // Not `cargo run -p`, for the reason in the file header.
    shell::run(
        shell::cargo(&root)
            .args(["build", "--workspace", "--example", "demo", "--target-dir"])
            .arg(root.join("target")),
    )?;
    shell::run(
        Command::new(root.join("target/debug/examples/demo"))
            .args(args)
            .current_dir(&root),
    )
}

pub(crate) fn fmt() -> Result<()> {
    for folder in all_folders()? {
        shell::run(shell::cargo(&folder).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

pub(crate) fn lint() -> Result<()> {
    setup::wasm_targets()?;
    let root = shell::root();
    shell::run(shell::cargo(&root).args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    for Workspace { folder, target_dir } in guests::workspaces(&root)? {
        let clippy = |args: &[&str]| {
            shell::run(
                shell::cargo(&folder)
                    .args(["clippy", "--workspace", "--target-dir"])
                    .arg(&target_dir)
                    .args(args)
                    .args(["--", "-D", "warnings"]),
            )
        };
        clippy(&["--release", "--target", TARGET])?;
        if folder == root.join(guests::SDK) {
            // The SDK's tests, and the in-memory host that they use instead of the real one,
            // are not Wasm.
            clippy(&["--all-targets"])?;
        }
    }
    shell::run(shell::cargo(&root.join(guests::COMPONENT)).args([
        "clippy",
        "--target-dir",
        "target",
        "--release",
        "--target",
        setup::WASI,
        "--",
        "-D",
        "warnings",
    ]))
}

pub(crate) fn docs() -> Result<()> {
    shell::run(
        shell::cargo(&shell::root())
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--lib",
                "--bins",
                "--example",
                "demo",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

pub(crate) fn ci() -> Result<()> {
    test(false)?;
    fmt()?;
    lint()?;
    docs()?;
    instructions::run(&["--dev".to_owned(), "--check".to_owned()])
}

/// Returns the folders of the host workspace and of the guest workspaces.
fn all_folders() -> Result<Vec<std::path::PathBuf>> {
    let root = shell::root();
    let mut folders = vec![root.clone(), root.join(guests::COMPONENT)];
    folders.extend(
        guests::workspaces(&root)?
            .into_iter()
            .map(|workspace| workspace.folder),
    );
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_package_is_the_one_that_cargo_names() {
        let built = r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"it"},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"a"},"executable":"/target/a"}
{"reason":"compiler-artifact","manifest_path":"/b/Cargo.toml","target":{"name":"it"},"executable":"/target/it-1"}
{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"name":"it"},"executable":"/target/it-2"}
no message
{"reason":"build-finished","success":true}"#;
        let found = executable(built, Path::new("/a/Cargo.toml")).unwrap();
        assert_eq!(found, Path::new("/target/it-2"));
        let error = executable(built, Path::new("/c/Cargo.toml")).unwrap_err();
        assert!(error.to_string().contains("/c/Cargo.toml"), "{error}");
    }
}
