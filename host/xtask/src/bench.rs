//! The benchmarks: builds the example `bench` of the node crate and runs it. Those of the
//! development loop (`bench dev`) are in `dev`, and what is counted instead of timed (`bench
//! instructions`) is in `instructions`.
//!
//! This is the only command that uses the release profile, since figures are taken with what a
//! user runs; the first build therefore compiles wasmtime once more. `docs/benchmarks.md` says
//! what is measured. Rust guests are measured if `cargo xtask guests` has built them.

mod dev;
pub(crate) mod instructions;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Builds the benchmarks and runs them with `args`. Prints nothing itself, since standard
/// output belongs to the table or the JSON.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|first| first == "dev") {
        return dev::run(&args[1..]);
    }
    if args.first().is_some_and(|first| first == "instructions") {
        return instructions::run(&args[1..]);
    }
    let root = shell::root();
    let mut bench = Command::new(build(
        &root,
        &["--release", "-p", "exuvia-node"],
        "release",
    )?);
    status(bench.args(args).current_dir(&root), "the benchmarks")
}

/// Builds the benchmarks. Returns the program, which cargo puts into this folder of its target.
fn build(root: &Path, options: &[&str], folder: &str) -> Result<PathBuf> {
    let target = root.join("target");
    let mut build = shell::cargo(root);
    build.arg("build").args(options);
    build
        .args(["--example", "bench", "--target-dir"])
        .arg(&target);
    status(&mut build, "the build of the benchmarks")?;
    Ok(target.join(folder).join("examples/bench"))
}

fn status(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}
