//! `cargo xtask`: the commands that people and CI use to set up, build, test and check the
//! project.
//!
//! This file only parses the command line. The crate depends on two small crates and `exuvia-abi`, since it is
//! compiled before anything else on a new machine. Nothing here runs in production.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool talks to its user")]

mod abi;
mod bench;
mod checks;
mod guests;
mod languages;
mod setup;
mod shell;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Name, arguments and one line of help for each command, in the order of `cargo xtask help`.
const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "setup",
        "",
        "install the Wasm target and cargo-nextest, if they are missing",
    ),
    ("guests", "", "build every guest package to Wasm"),
    (
        "languages",
        "[NAME..]",
        "build the guest of each language for the conformance suite, and run the SDKs' own tests",
    ),
    (
        "test",
        "[--long]",
        "all tests; --long runs their long forms too (EXUVIA_TEST_LONG=1)",
    ),
    (
        "loom",
        "[--long]",
        "the model-checked concurrency tests only",
    ),
    ("demo", "[ARGS...]", "build all, then run the demo"),
    (
        "bench",
        "[ARGS...]",
        "the benchmarks, `scale` and `--soak`: --help shows all options",
    ),
    (
        "abi",
        "",
        "write guest-sdk/abi.json and the table of abi.md from the table of host calls",
    ),
    (
        "tidy",
        "",
        "the house rules: crate table, file headers, sizes, unsafe",
    ),
    ("fmt", "", "check the formatting of host and guests"),
    ("lint", "", "clippy on host and guests, warnings are errors"),
    ("docs", "", "build the documentation, warnings are errors"),
    ("ci", "", "test, fmt, lint and docs, as CI runs them"),
    ("help", "", "this list"),
];

/// The exit code for an invalid command line, as in most Unix tools.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let command = match command {
        "-h" | "--help" => "help",
        other => other,
    };
    if !COMMANDS.iter().any(|(name, ..)| *name == command) {
        eprintln!("error: there is no command `{command}`; `cargo xtask help` lists them");
        return ExitCode::from(USAGE);
    }
    if let Err(message) = check_arguments(command, rest) {
        eprintln!("error: {message}");
        return ExitCode::from(USAGE);
    }
    match dispatch(command, rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check_arguments(command: &str, rest: &[String]) -> Result<()> {
    let allowed: &[&str] = match command {
        "demo" | "bench" | "help" | "languages" => return Ok(()),
        "test" | "loom" => &["--long"],
        _ => &[],
    };
    match rest.iter().find(|arg| !allowed.contains(&arg.as_str())) {
        Some(arg) => bail!("`{command}` does not take `{arg}`"),
        None => Ok(()),
    }
}

fn dispatch(command: &str, rest: &[String]) -> Result<()> {
    let long = rest.iter().any(|arg| arg == "--long");
    match command {
        "setup" => setup::all(),
        "guests" => guests::build(),
        "languages" => languages::build(rest),
        "test" => checks::test(long),
        "loom" => checks::loom(long),
        "demo" => checks::demo(rest),
        "bench" => bench::run(rest),
        "abi" => abi::write(),
        "tidy" => tidy::run(),
        "fmt" => checks::fmt(),
        "lint" => checks::lint(),
        "docs" => checks::docs(),
        "ci" => checks::ci(),
        _ => {
            print_help();
            Ok(())
        }
    }
}

fn print_help() {
    println!("usage: cargo xtask <command>\n");
    for (name, args, line) in COMMANDS {
        let left = format!("{name} {args}");
        println!("  {left:<18}{line}");
    }
    println!(
        "\n`test` runs those of engine and node with both layouts of memories: the second time with"
    );
    println!("EXUVIA_TEST_LAYOUT=wide.");
    println!(
        "\n`setup` installs the Wasm targets wasm32-unknown-unknown, of most guests here, and"
    );
    println!("wasm32-wasip1, of those that use files and of what `exuvia new` makes.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_and_loom_take_long() {
        let long = ["--long".to_owned()];
        assert!(check_arguments("test", &long).is_ok());
        assert!(check_arguments("loom", &long).is_ok());
        assert!(check_arguments("fmt", &long).is_err());
    }

    #[test]
    fn the_demo_takes_any_argument() {
        assert!(check_arguments("demo", &["--port".to_owned(), "0".to_owned()]).is_ok());
    }
}
