//! What a node does in a given time and memory: the figures of `docs/benchmarks.md`. Run it with
//! `cargo xtask bench`.
//!
//! This file has the list of benchmarks and the order of their runs; the other modules have the
//! benchmarks, and the evaluation of the figures.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that fails says where and stops"
)]

mod aims;
mod beam;
mod command;
mod compute;
mod count;
mod driver;
mod figures;
mod files;
mod growth;
mod guests;
mod http;
mod languages;
mod lateness;
mod lifecycle;
mod machine;
mod memory;
mod messages;
mod plain;
mod report;
mod runs;
mod setup;
mod soak;
mod start;
mod swaps;
mod time;
mod waiting;
#[path = "../../../bench/guest/src/work.rs"]
mod work;

use std::process::ExitCode;

use beam::Beam;
use command::{Action, Options};
use figures::{Figure, MARK, Sample, gather};
use machine::Machine;
use report::Saved;
use runs::Ours;

/// As in the `exuvia` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of runs per benchmark: the table shows their median, minimum and maximum.
const RUNS: usize = 5;
/// The number of runs with `--quick`.
const QUICK_RUNS: usize = 3;

/// The size of a run.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
}

impl Scale {
    /// Returns `full`, or a tenth of it with `--quick`.
    pub(crate) fn of(self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }

    /// Returns the number of processes or timers for a figure's name: with `--quick` there are
    /// fewer.
    pub(crate) fn label(self, full: u64) -> String {
        thousands(self.of(full))
    }
}

/// A benchmark: its name, and one run of it.
type Benchmark = (&'static str, fn(Scale) -> Vec<Sample>);

const BENCHMARKS: &[Benchmark] = &[
    ("ping-pong-1", |scale| messages::ping_pong(scale, 1, false)),
    ("ping-pong-2", |scale| messages::ping_pong(scale, 2, false)),
    ("ping-pong-apart-2", |scale| {
        messages::ping_pong(scale, 2, true)
    }),
    ("ring-1", |scale| messages::ring(scale, 1)),
    ("ring-2", |scale| messages::ring(scale, 2)),
    ("all-to-all-1", |scale| messages::all_to_all(scale, 1)),
    ("all-to-all-2", |scale| messages::all_to_all(scale, 2)),
    ("fan-in-1", |scale| messages::fan_in(scale, 1)),
    ("fan-in-2", |scale| messages::fan_in(scale, 2)),
    ("call-1", |scale| messages::call(scale, 1)),
    ("call-2", |scale| messages::call(scale, 2)),
    ("long-mailbox", messages::long_mailbox),
    ("spawn-1", |scale| lifecycle::spawn(scale, 1)),
    ("spawn-2", |scale| lifecycle::spawn(scale, 2)),
    ("memory-100k", |scale| memory::wat(scale, 100_000)),
    ("memory-100k-rust", |scale| memory::rust(scale, 100_000)),
    ("memory-1m", |scale| memory::wat(scale, 1_000_000)),
    ("memory-1m-rust", |scale| memory::rust(scale, 1_000_000)),
    ("activation-1m-1", |scale| memory::wake_wat(scale, 1)),
    ("activation-1m-4", |scale| memory::wake_wat(scale, 4)),
    ("activation-1m-rust-1", |scale| memory::wake_rust(scale, 1)),
    ("activation-1m-rust-4", |scale| memory::wake_rust(scale, 4)),
    ("swap-10k-migrated", |scale| {
        swaps::ten_thousand(scale, false)
    }),
    ("swap-10k-reused", |scale| swaps::ten_thousand(scale, true)),
    ("swap-1m-migrated", |scale| swaps::million(scale, false)),
    ("swap-1m-reused", |scale| swaps::million(scale, true)),
    ("swap-pause-ready", |scale| swaps::pause(scale, false)),
    ("swap-pause-compiled", |scale| swaps::pause(scale, true)),
    ("compute", compute::run),
    ("timers", time::timers),
    ("fairness-1", |scale| time::fairness(scale, 1)),
    ("fairness-2", |scale| time::fairness(scale, 2)),
    ("wait-for-room", waiting::for_room),
    ("wait-for-a-frame", waiting::for_a_frame),
    ("late-alone", lateness::alone),
    ("late-flood", lateness::backlog),
    ("late-links", lateness::links),
    ("late-group", lateness::group),
    ("late-unload", lateness::unload),
    ("late-high", lateness::high),
    ("files", files::reads),
    ("files-fairness", files::fairness),
    ("http", http::requests),
    ("http-swaps", http::swaps),
    ("http-out", http::outside),
    ("http-sockets", http::sockets),
    ("http-idle", http::idle),
    ("languages", languages::run),
    ("cold-start", start::cold),
    ("load", start::load),
];

/// Benchmarks for `--large`: they take minutes and gigabytes, so each runs once.
const LARGE: &[Benchmark] = &[
    ("memory-1m-javascript", |scale| {
        memory::language(scale, 1_000_000, "javascript", "JavaScript")
    }),
    ("memory-1m-python", |scale| {
        memory::language(scale, 1_000_000, "python", "Python")
    }),
    ("memory-10m", |scale| memory::wat(scale, 10_000_000)),
    ("memory-10m-rust", |scale| memory::rust(scale, 10_000_000)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{}", command::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match command::parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    match act(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Executes the command; returns whether everything succeeded.
///
/// # Errors
///
/// What is wrong with the command.
fn act(options: &Options) -> Result<bool, String> {
    let scale = Scale {
        quick: options.quick,
    };
    match &options.action {
        Action::List => {
            let large = LARGE.iter().map(|(name, _)| format!("{name} (--large)"));
            let names = BENCHMARKS.iter().map(|(name, _)| (*name).to_owned());
            for name in names.chain(large).chain(growth::names()) {
                println!("{name}");
            }
            Ok(true)
        }
        Action::Run { name, size } => {
            let samples = match size {
                Some(size) => growth::run(name, *size, scale)?,
                None => {
                    let mut all = BENCHMARKS.iter().chain(LARGE);
                    let (_, run) = all
                        .find(|(benchmark, _)| benchmark == name)
                        .ok_or_else(no_such)?;
                    run(scale)
                }
            };
            for (name, value) in samples {
                println!("{MARK}{name}\t{value}");
            }
            Ok(true)
        }
        Action::Count { name, operations } => count::run(name, *operations).map(|()| true),
        Action::FirstAnswer { module, cache } => {
            start::first_answer(module, cache.clone());
            Ok(true)
        }
        Action::Growth => growth::table(options),
        Action::Soak => Ok(soak::run(options)),
        Action::Table => table(options),
    }
}

fn no_such() -> String {
    "no benchmark has such a name; --list shows them".to_owned()
}

/// Runs the chosen benchmarks and prints the table; returns whether all runs succeeded.
fn table(options: &Options) -> Result<bool, String> {
    let large: &[Benchmark] = if options.large { LARGE } else { &[] };
    let names: Vec<&str> = (BENCHMARKS.iter().chain(large))
        .map(|(name, _)| *name)
        .filter(|name| {
            let filters = &options.filters;
            filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()))
        })
        .filter(|name| !options.against_beam || Beam::has(name))
        .collect();
    if names.is_empty() {
        return Err(match options.against_beam {
            true => "no benchmark of that name has a twin in Erlang".to_owned(),
            false => no_such(),
        });
    }
    // Read before the runs, which take long.
    let saved = options.compare.as_deref().map(Saved::read).transpose()?;
    let beam = match options.against_beam {
        true => Some(Beam::prepare()?),
        false => None,
    };
    let machine = Machine::this();
    if !options.json {
        println!("{machine}");
        if let Some(beam) = &beam {
            println!("{}", beam.release);
        }
        let head = if beam.is_some() {
            report::BEAM_HEAD
        } else {
            report::HEAD
        };
        println!("\n{head}");
    }
    let (mut all, mut all_of_beam, mut sound) = (Vec::new(), Vec::new(), true);
    for name in names {
        let (ours, theirs, whole) = in_turns(name, options, beam.as_ref());
        sound &= whole;
        if !options.json {
            let lines = match &beam {
                Some(_) => report::against_beam(&ours, &theirs),
                None => ours.iter().map(report::row).collect(),
            };
            lines.iter().for_each(|line| println!("{line}"));
        }
        all.extend(ours);
        all_of_beam.extend(theirs);
    }
    let json = report::to_json(&machine, &all, beam.as_ref().map(|_| &all_of_beam[..]));
    if options.json {
        println!("{json:#}");
    } else if let Some(saved) = &saved {
        println!();
        for line in report::compare(&machine, &all, saved) {
            println!("{line}");
        }
    }
    if let Some(path) = &options.save {
        std::fs::write(path, format!("{json:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(sound)
}

/// Runs a benchmark several times, and its twin if the BEAM is asked for, in turns: the speed of a
/// machine changes within minutes. Returns the figures of both, and whether every run succeeded.
fn in_turns(
    name: &str,
    options: &Options,
    beam: Option<&Beam>,
) -> (Vec<Figure>, Vec<Figure>, bool) {
    let quick = options.quick;
    let runs = match quick {
        _ if LARGE.iter().any(|(large, _)| *large == name) => 1,
        true => QUICK_RUNS,
        false => RUNS,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut all_runs = || -> Result<(), String> {
        for _ in 0..runs {
            ours.extend(
                Ours {
                    name,
                    size: None,
                    quick,
                }
                .run()?,
            );
            if let Some(beam) = beam {
                theirs.extend(
                    beam.run(name, quick)
                        .map_err(|error| format!("BEAM: {error}"))?,
                );
            }
        }
        Ok(())
    };
    let outcome = all_runs();
    if let Err(error) = &outcome {
        eprintln!("error: {name}: {error}");
    }
    (gather(ours), gather(theirs), outcome.is_ok())
}

/// Returns a number with commas: 1,000,000 for a million.
pub(crate) fn thousands(number: u64) -> String {
    if number < 1_000 {
        return number.to_string();
    }
    format!("{},{:03}", thousands(number / 1_000), number % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000_050), "1,000,050");
    }

    /// `--run` takes the first benchmark of a name.
    #[test]
    fn names_are_unique() {
        let all: Vec<_> = BENCHMARKS
            .iter()
            .chain(LARGE)
            .map(|(name, _)| name)
            .collect();
        for (index, name) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(name), "{name}");
        }
    }

    #[test]
    fn every_twin_has_one_of_ours() {
        assert!(BENCHMARKS.iter().any(|(name, _)| Beam::has(name)));
        assert!(
            beam::TWINS
                .iter()
                .all(|twin| BENCHMARKS.iter().any(|(name, _)| name == twin))
        );
    }
}
