//! What a node does in a given time and memory: the figures of
//! `docs/benchmarks.md`. Run it with `cargo xtask bench`.
//!
//! Every run of every benchmark gets a process of its own (this program starts
//! itself with `--run NAME`), so that memory is measured from a clean start and
//! no run warms the next one up. This file owns the command line, the runs and
//! the table; the modules beside it own the benchmarks.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that fails says where and stops"
)]

mod compute;
mod driver;
mod guests;
mod lifecycle;
mod memory;
mod messages;
mod setup;
mod swaps;
mod time;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

/// As in the `exuvia` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs per benchmark: the table shows their median, least and greatest.
const RUNS: usize = 5;
/// With `--quick`.
const QUICK_RUNS: usize = 3;

/// One run's size.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    quick: bool,
}

impl Scale {
    /// `full`, or a tenth of it with `--quick`.
    pub(crate) fn of(self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }

    /// What processes and timers are named by: with `--quick` there are fewer.
    pub(crate) fn label(self, full: u64) -> String {
        thousands(self.of(full))
    }
}

/// A measured value: the figure's name and the number.
pub(crate) type Sample = (String, f64);

/// A benchmark: its name, and one run of it.
type Benchmark = (&'static str, fn(Scale) -> Vec<Sample>);

const BENCHMARKS: &[Benchmark] = &[
    ("ping-pong-1", |scale| messages::ping_pong(scale, 1)),
    ("ping-pong-2", |scale| messages::ping_pong(scale, 2)),
    ("ring-1", |scale| messages::ring(scale, 1)),
    ("ring-2", |scale| messages::ring(scale, 2)),
    ("fan-in-1", |scale| messages::fan_in(scale, 1)),
    ("fan-in-2", |scale| messages::fan_in(scale, 2)),
    ("call-1", |scale| messages::call(scale, 1)),
    ("call-2", |scale| messages::call(scale, 2)),
    ("spawn-1", |scale| lifecycle::spawn(scale, 1)),
    ("spawn-2", |scale| lifecycle::spawn(scale, 2)),
    ("memory-100k", memory::hundred_thousand),
    ("memory-1m", memory::million),
    ("memory-1m-rust", memory::million_rust),
    ("swap-10k-migrated", |scale| {
        swaps::ten_thousand(scale, false)
    }),
    ("swap-10k-carried", |scale| swaps::ten_thousand(scale, true)),
    ("swap-pause-ready", |scale| swaps::pause(scale, false)),
    ("swap-pause-compiled", |scale| swaps::pause(scale, true)),
    ("fib", compute::fib),
    ("timers", time::timers),
    ("fairness-1", |scale| time::fairness(scale, 1)),
    ("fairness-2", |scale| time::fairness(scale, 2)),
    ("load", compute::load),
];

/// Figures with an aim: a part of the name, the most (or least) it may be.
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

const AIMS: &[(&str, Aim)] = &[
    (
        "ping-pong 16 B, 1 scheduler, ns/message",
        Aim::AtMost(270.0),
    ),
    (
        "spawn+run+exit, one after another, 1 scheduler, thousand/s",
        Aim::AtLeast(500.0),
    ),
    (
        "spawn+run+exit, batch of 100,000, 1 scheduler, thousand/s",
        Aim::AtLeast(500.0),
    ),
    ("idle memory, 1,000,000 WAT, B/process", Aim::AtMost(1024.0)),
    (
        "idle memory, 1,000,000 Rust, B/process",
        Aim::AtMost(1024.0),
    ),
    ("10,000 on new code, migrated, ms", Aim::AtMost(20.0)),
    ("10,000 on new code, carried, ms", Aim::AtMost(20.0)),
    (
        "pause of a busy process, ready code, p99, us",
        Aim::AtMost(1000.0),
    ),
    (
        "pause of a busy process, compiled now, p99, us",
        Aim::AtMost(1000.0),
    ),
    ("fib(32), node / plain wasmtime, ratio", Aim::AtMost(1.25)),
];

/// Marks a line of a run that holds a sample.
const MARK: &str = "sample\t";

struct Options {
    json: bool,
    quick: bool,
    run: bool,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    let mut options = Options {
        json: false,
        quick: false,
        run: false,
        filters: Vec::new(),
    };
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--run" => options.run = true,
            "--list" => {
                for (name, _) in BENCHMARKS {
                    println!("{name}");
                }
                return ExitCode::SUCCESS;
            }
            // What `cargo bench` and its kin pass.
            "--bench" => {}
            flag if flag.starts_with('-') => {
                eprintln!("error: there is no option `{flag}`; there are --json, --quick, --list");
                return ExitCode::from(2);
            }
            filter => options.filters.push(filter.to_owned()),
        }
    }
    let chosen: Vec<&Benchmark> = BENCHMARKS
        .iter()
        .filter(|(name, _)| {
            options.filters.is_empty()
                || options.filters.iter().any(|filter| {
                    if options.run {
                        name == filter
                    } else {
                        name.contains(filter.as_str())
                    }
                })
        })
        .collect();
    if chosen.is_empty() {
        eprintln!("error: no benchmark has such a name; --list shows them");
        return ExitCode::from(2);
    }
    if options.run {
        let scale = Scale {
            quick: options.quick,
        };
        for (_, benchmark) in chosen {
            for (name, value) in benchmark(scale) {
                println!("{MARK}{name}\t{value}");
            }
        }
        return ExitCode::SUCCESS;
    }
    if run_all(&chosen, &options) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs what was chosen and prints the table; answers whether all runs succeeded.
fn run_all(chosen: &[&Benchmark], options: &Options) -> bool {
    let runs = if options.quick { QUICK_RUNS } else { RUNS };
    let mut all = Vec::new();
    let mut sound = true;
    if !options.json {
        println!("{}", setup::machine());
        println!();
        println!("| figure | median | min | max | aim |");
        println!("| --- | ---: | ---: | ---: | --- |");
    }
    for (name, _) in chosen {
        let mut order = Vec::new();
        let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for _ in 0..runs {
            match one_run(name, options.quick) {
                Ok(run) => {
                    for (figure, value) in run {
                        if !samples.contains_key(&figure) {
                            order.push(figure.clone());
                        }
                        samples.entry(figure).or_default().push(value);
                    }
                }
                Err(error) => {
                    eprintln!("error: {name}: {error}");
                    sound = false;
                    break;
                }
            }
        }
        for figure in order {
            let mut values = samples.remove(&figure).unwrap_or_default();
            values.sort_by(f64::total_cmp);
            let median = values[values.len() / 2];
            let (min, max) = (values[0], values[values.len() - 1]);
            let aim = aim(&figure, median);
            if options.json {
                all.push(json!({
                    "figure": figure, "median": median, "min": min, "max": max,
                    "runs": values, "met": aim.as_ref().map(|(_, met)| met),
                }));
            } else {
                let aim = match aim {
                    Some((aim, true)) => format!("{aim}: met"),
                    Some((aim, false)) => format!("{aim}: **missed**"),
                    None => String::new(),
                };
                println!(
                    "| {figure} | {} | {} | {} | {aim} |",
                    short(median),
                    short(min),
                    short(max)
                );
            }
        }
    }
    if options.json {
        let report: Value = json!({ "machine": setup::machine(), "runs": runs, "figures": all });
        println!("{report:#}");
    }
    sound
}

/// One run of one benchmark, in a process of its own.
fn one_run(name: &str, quick: bool) -> Result<Vec<Sample>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--run", name]);
    if quick {
        command.arg("--quick");
    }
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("the run failed: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            let (figure, value) = line.strip_prefix(MARK)?.rsplit_once('\t')?;
            Some((figure.to_owned(), value.parse().ok()?))
        })
        .collect())
}

fn aim(figure: &str, median: f64) -> Option<(String, bool)> {
    AIMS.iter()
        .find(|(name, _)| *name == figure)
        .map(|(_, aim)| match aim {
            Aim::AtMost(most) => (format!("<= {most}"), median <= *most),
            Aim::AtLeast(least) => (format!(">= {least}"), median >= *least),
        })
}

/// 1,000,000 for a million.
fn thousands(number: u64) -> String {
    if number < 1_000 {
        return number.to_string();
    }
    format!("{},{:03}", thousands(number / 1_000), number % 1_000)
}

/// Three digits or so.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
