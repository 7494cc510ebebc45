//! Demonstrates the main task: counters under a supervisor answer sequenced requests as fast as
//! clients can send them, while the file of their module is replaced again and again and the
//! watcher swaps it. A table shows the effect on processes and messages; the exit code is not 0 if
//! any of it is wrong.
//!
//! `cargo xtask demo` builds the guests and runs it. Options: `--clients N` (64), `--window N`
//! outstanding requests for each counter (4), `--json`.
#![allow(
    clippy::print_stdout,
    reason = "what the demo is for is what it prints"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "it stands outside of the node and times it with the system's clock"
)]

mod clients;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use exuvia_dev::{WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{App, BootOptions};

use clients::{Clients, Settings};

/// As in the `exuvia` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("demo: something is wrong, see the rows marked with !");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, String> {
    let options = Options::parse()?;
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let module = folder.path().join("counter.wasm");
    let versions = examples.join("target/versions");
    steps::put(&versions, "v1", &module)?;
    let text = std::fs::read_to_string(examples.join("counter/exuvia.toml"))
        .map_err(|error| format!("examples/counter/exuvia.toml: {error}"))?;
    let text = text.replace(
        "../target/wasm32-unknown-unknown/release/counter.wasm",
        "counter.wasm",
    );
    let manifest =
        Manifest::parse(&text, "exuvia.toml", folder.path()).map_err(|error| error.to_string())?;
    let app = App::boot(manifest, BootOptions::default()).map_err(|error| error.to_string())?;
    let watcher =
        Watcher::watch(&app, &WatchLimits::default()).map_err(|error| error.to_string())?;
    let clients = Clients::start(app.node(), options.settings)?;
    if !options.json {
        let info = app.node().info();
        println!(
            "{} processes of {}, {} schedulers, {} clients with {} requests under way for each counter",
            clients.counters(),
            info.modules[0].name,
            info.schedulers,
            options.settings.clients,
            options.settings.window,
        );
    }
    let mut rows = Vec::new();
    let mut outcome = Ok(());
    for step in steps::STEPS {
        match steps::run(&app, &clients, &versions, &module, step) {
            Ok(row) => {
                let failed = !row.wrong.is_empty();
                rows.push(row);
                if failed {
                    break;
                }
            }
            Err(error) => {
                outcome = Err(format!("step {}: {error}", step.version));
                break;
            }
        }
    }
    let total = clients.stop(app.node());
    drop(watcher);
    let stopped = app.stop(Duration::from_secs(10));
    if options.json {
        println!("{}", steps::json(&rows, &total));
    } else {
        println!("{}", steps::table(&rows));
        println!(
            "total: {} requests, {} answers, lost {}, doubled {}, out of order {}; the tree ended {}",
            total.sent,
            total.answered,
            total.lost(),
            total.doubled,
            total.disorder,
            if stopped.orderly {
                "in order"
            } else {
                "by force"
            },
        );
        for fault in &total.faults {
            println!("fault: {fault}");
        }
    }
    outcome?;
    Ok(rows.len() == steps::STEPS.len()
        && rows.iter().all(|row| row.wrong.is_empty())
        && total.is_clean()
        && stopped.orderly)
}

struct Options {
    settings: Settings,
    json: bool,
}

impl Options {
    fn parse() -> Result<Options, String> {
        let mut options = Options {
            settings: Settings {
                clients: 64,
                window: 4,
            },
            json: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                arguments
                    .next()
                    .and_then(|text| text.parse::<usize>().ok())
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("`{argument}` wants a positive number"))
            };
            match argument.as_str() {
                "--clients" => options.settings.clients = number()?,
                "--window" => options.settings.window = number()?,
                "--json" => options.json = true,
                _ => {
                    return Err(format!(
                        "unknown argument `{argument}`; known are --clients N, --window N, --json"
                    ));
                }
            }
        }
        Ok(options)
    }
}
