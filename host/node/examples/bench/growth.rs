//! How the cost of one grows with the number of all: `cargo xtask bench scale`.
//!
//! A dimension is measured at sizes ten times apart. If nothing depends on the number of all, the
//! cost of one is the same at every size, and doubling the number doubles the whole cost. The last
//! columns show by how much the whole cost grew with each doubling of the number, and whether that
//! was worse than double.

use std::sync::Arc;
use std::time::Instant;

use exuvia_node::{DeployOptions, ModuleBytes, Node, Pid};

use crate::command::Options;
use crate::driver::{Collector, Expected, ask_all};
use crate::figures::{Figure, Sample, gather};
use crate::machine::Machine;
use crate::memory::{self, Random, wat_counter};
use crate::report::short;
use crate::runs::Ours;
use crate::setup::{config, deploy, fields, module, resident, spawn, wait_until};
use crate::{Scale, guests, thousands};

/// The frames of the node: so few that even the smallest number of processes does not fit into
/// them, since resident and paged-out processes differ in kind.
const FRAMES: usize = 256;
const RUNS: usize = 3;
/// What doubling may cost above double: with larger numbers caches and page tables hold a smaller
/// part, small numbers find memory that is allocated already, and the medians of a busy machine
/// vary. Judged from the least number to the greatest, and only if the ranges of their runs do not
/// overlap.
const TOLERANCE: f64 = 1.2;
/// The number of operations that are measured at each size.
const SAMPLES: u64 = 50_000;

struct Dimension {
    name: &'static str,
    sizes: &'static [u64],
    /// Sizes for `--large` only.
    large: &'static [u64],
    run: fn(u64, Scale) -> Vec<Sample>,
}

const DIMENSIONS: &[Dimension] = &[
    Dimension {
        name: "processes",
        sizes: &[1_000, 10_000, 100_000, 1_000_000],
        large: &[10_000_000],
        run: processes,
    },
    Dimension {
        name: "messages",
        sizes: &[1_000, 10_000, 100_000, 1_000_000],
        large: &[10_000_000],
        run: messages,
    },
    // Compiling a module takes milliseconds, and each one has mappings of its own.
    Dimension {
        name: "modules",
        sizes: &[10, 100, 1_000],
        large: &[10_000],
        run: modules,
    },
    // Each deployment waits 20 ms to see whether another process is upgraded.
    Dimension {
        name: "releases",
        sizes: &[10, 100, 1_000],
        large: &[10_000],
        run: releases,
    },
];

/// Returns the names that `--list` shows.
pub(crate) fn names() -> impl Iterator<Item = String> {
    (DIMENSIONS.iter()).map(|dimension| format!("scale {}", dimension.name))
}

/// Runs a dimension at one size once.
///
/// # Errors
///
/// If there is no such dimension.
pub(crate) fn run(name: &str, size: u64, scale: Scale) -> Result<Vec<Sample>, String> {
    let dimension = (DIMENSIONS.iter())
        .find(|dimension| dimension.name == name)
        .ok_or_else(|| format!("there is no `scale {name}`; --list shows all"))?;
    Ok((dimension.run)(size, scale))
}

/// Measures and prints everything; returns whether no figure grew worse than double.
///
/// # Errors
///
/// If no dimension was chosen.
pub(crate) fn table(options: &Options) -> Result<bool, String> {
    let chosen: Vec<&Dimension> = (DIMENSIONS.iter())
        .filter(|dimension| {
            let filters = &options.filters;
            filters.is_empty()
                || filters
                    .iter()
                    .any(|part| dimension.name.contains(part.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        return Err("`scale` has no such part; --list shows all".to_owned());
    }
    let mut sound = true;
    let mut json = Vec::new();
    if !options.json {
        println!("{}", Machine::this());
    }
    for dimension in chosen {
        let mut sizes = dimension.sizes.to_vec();
        if options.quick {
            // The greatest size takes as long as all others together.
            sizes.pop();
        }
        if options.large {
            sizes.extend(dimension.large);
        }
        let (rows, whole) = measure(dimension, &sizes, options.quick);
        sound &= whole && rows.iter().all(|row| !row.is_worse());
        if options.json {
            json.extend(rows.iter().map(Row::to_json));
        } else {
            print(&sizes, &rows);
        }
    }
    if options.json {
        println!(
            "{:#}",
            serde_json::json!({ "machine": Machine::this(), "figures": json })
        );
    }
    Ok(sound)
}

/// A figure at each size; sizes whose runs failed are missing.
struct Row {
    name: String,
    sizes: Vec<(u64, Figure)>,
}

impl Row {
    /// Returns the factor by which each doubling of the number multiplied the whole cost, from the
    /// least number to the greatest.
    fn doubling(&self) -> Option<f64> {
        let [(few, before), .., (many, after)] = &self.sizes[..] else {
            return None;
        };
        if before.median() <= 0.0 {
            // The memory was allocated already: there is no cost to compare with.
            return None;
        }
        let doublings = (*many as f64 / *few as f64).log2();
        Some(2.0 * (after.median() / before.median()).powf(1.0 / doublings))
    }

    fn is_worse(&self) -> bool {
        let [(_, before), .., (_, after)] = &self.sizes[..] else {
            return false;
        };
        let is_much = |factor| factor > 2.0 * TOLERANCE;
        self.doubling().is_some_and(is_much) && !after.overlaps(before)
    }

    fn to_json(&self) -> serde_json::Value {
        let sizes = self.sizes.iter().map(|(size, figure)| {
            let mut value = figure.to_json();
            value["size"] = (*size).into();
            value
        });
        serde_json::json!({
            "figure": self.name, "sizes": sizes.collect::<Vec<_>>(),
            "doubling": self.doubling(), "worse": self.is_worse(),
        })
    }
}

fn measure(dimension: &Dimension, sizes: &[u64], quick: bool) -> (Vec<Row>, bool) {
    let mut rows: Vec<Row> = Vec::new();
    let mut whole = true;
    for &size in sizes {
        let runs = if dimension.large.contains(&size) {
            1
        } else {
            RUNS
        };
        let mut samples = Vec::new();
        for _ in 0..runs {
            let name = dimension.name;
            match (Ours {
                name,
                size: Some(size),
                quick,
            })
            .run()
            {
                Ok(run) => samples.extend(run),
                Err(error) => {
                    eprintln!("error: {name} at {}: {error}", thousands(size));
                    whole = false;
                    break;
                }
            }
        }
        for figure in gather(samples) {
            match rows.iter_mut().find(|row| row.name == figure.name) {
                Some(row) => row.sizes.push((size, figure)),
                None => rows.push(Row {
                    name: figure.name.clone(),
                    sizes: vec![(size, figure)],
                }),
            }
        }
    }
    (rows, whole)
}

fn print(sizes: &[u64], rows: &[Row]) {
    let heads: Vec<String> = sizes.iter().map(|size| thousands(*size)).collect();
    println!("\n| figure | {} | doubling costs | |", heads.join(" | "));
    println!("| --- |{} ---: | --- |", " ---: |".repeat(sizes.len()));
    for row in rows {
        let cells: Vec<String> = (sizes.iter())
            .map(|size| {
                (row.sizes.iter())
                    .find(|(found, _)| found == size)
                    .map_or_else(String::new, |(_, figure)| short(figure.median()))
            })
            .collect();
        let doubling = row
            .doubling()
            .map_or_else(String::new, |factor| format!("{factor:.2} times"));
        let verdict = if row.is_worse() {
            "**worse than double**"
        } else {
            ""
        };
        println!(
            "| {} | {} | {doubling} | {verdict} |",
            row.name,
            cells.join(" | ")
        );
    }
}

/// Measures the spawn, memory, waking and termination of `size` processes.
fn processes(size: u64, scale: Scale) -> Vec<Sample> {
    let counter = wat_counter();
    let node = memory::start(0, FRAMES, size, &counter);
    let per = |began: Instant, number: u64| began.elapsed().as_nanos() as f64 / number as f64;
    let before = resident();
    let began = Instant::now();
    let pids = memory::spawns(&node, size, &counter);
    let spec = per(began, size);
    let began = Instant::now();
    memory::answers(&node, &pids, &counter);
    let first = per(began, size);
    let bytes = resident().saturating_sub(before) as f64 / size as f64;
    let mut random = Random::new();
    let woken = scale.of(SAMPLES);
    let chosen: Arc<[Pid]> = (0..woken).map(|_| pids[random.below(pids.len())]).collect();
    let began = Instant::now();
    ask_all(&node, memory::round(chosen, &counter, 64, Expected::Any));
    let wake = per(began, woken);
    let began = Instant::now();
    for pid in pids.iter() {
        node.kill(*pid);
    }
    wait_until("all have ended", || node.info().processes < 64);
    let end = per(began, size);
    node.halt();
    vec![
        ("processes: spawn, ns each".into(), spec),
        ("processes: first answer, ns each".into(), first),
        ("processes: memory, B each".into(), bytes),
        ("processes: waking one at random, ns".into(), wake),
        ("processes: kill, ns each".into(), end),
    ]
}

/// Measures `size` messages in one mailbox. The scheduler is held while they are sent.
fn messages(size: u64, _: Scale) -> Vec<Sample> {
    let mut config = config(1);
    config.limits.mailbox_messages = u32::MAX;
    let node = Node::start(config).unwrap();
    deploy(&node, "sink", &guests::sink());
    let collector = Collector::start(&node);
    let sink = spawn(&node, "sink");
    node.send(sink, 1, fields(&[Pid::NONE, collector.pid], &[size]))
        .unwrap();
    let before = resident();
    let held = node.scheduler().hold(0).unwrap();
    let began = Instant::now();
    for number in 0..size {
        let payload = [number.to_le_bytes(), size.to_le_bytes()].concat();
        node.send(sink, 2, payload).unwrap();
    }
    let sent = began.elapsed().as_nanos() as f64 / size as f64;
    let bytes = resident().saturating_sub(before) as f64 / size as f64;
    let began = Instant::now();
    drop(held);
    collector.next();
    let taken = began.elapsed().as_nanos() as f64 / size as f64;
    node.halt();
    vec![
        ("messages: send to one mailbox, ns each".into(), sent),
        ("messages: memory while they wait, B each".into(), bytes),
        ("messages: take, ns each".into(), taken),
    ]
}

fn numbered(number: u64) -> ModuleBytes {
    module(
        &format!("m{number}"),
        &guests::versioned(number as u32, true),
    )
}

/// Measures `size` modules in one release, and ten more.
fn modules(size: u64, _: Scale) -> Vec<Sample> {
    const MORE: u64 = 10;
    let mut config = config(0);
    config.frames = FRAMES;
    let node = Node::start(config).unwrap();
    let all: Vec<ModuleBytes> = (0..size).map(numbered).collect();
    let before = resident();
    let began = Instant::now();
    node.deploy(all, DeployOptions::default()).unwrap();
    let load = began.elapsed().as_secs_f64() * 1e6 / size as f64;
    let bytes = resident().saturating_sub(before) as f64 / size as f64;
    let more: Vec<ModuleBytes> = (size..size + MORE).map(numbered).collect();
    let began = Instant::now();
    for module in more {
        node.deploy(vec![module], DeployOptions::default()).unwrap();
    }
    let one_more = began.elapsed().as_secs_f64() * 1e6 / MORE as f64;
    node.halt();
    vec![
        ("modules: load, us each".into(), load),
        ("modules: memory, B each".into(), bytes),
        ("modules: one more beside them, us".into(), one_more),
    ]
}

/// Measures `size` swaps, one after another, between two loaded versions of a process that replies
/// after each.
fn releases(size: u64, _: Scale) -> Vec<Sample> {
    let mut config = config(1);
    config.frames = FRAMES;
    let node = Node::start(config).unwrap();
    let versions = [1, 2].map(|version| module("m", &guests::versioned(version, true)));
    for version in &versions {
        node.deploy(vec![version.clone()], DeployOptions::default())
            .unwrap();
    }
    let pids: Arc<[Pid]> = Arc::new([spawn(&node, "m")]);
    let swap = |number: u64| {
        let version = versions[number as usize % 2].clone();
        node.deploy(vec![version], DeployOptions::default())
            .unwrap();
        let answer = number % 2 + 1;
        let round = crate::driver::Round {
            targets: pids.clone(),
            request: Vec::new(),
            window: 1,
            expected: Expected::Same(answer.to_le_bytes().to_vec()),
        };
        ask_all(&node, round);
    };
    let before = resident();
    let began = Instant::now();
    (0..size).for_each(swap);
    let each = began.elapsed().as_secs_f64() * 1e6 / size as f64;
    let bytes = resident().saturating_sub(before) as f64 / size as f64;
    node.halt();
    vec![
        ("releases: swap and answer, us each".into(), each),
        ("releases: memory, B each".into(), bytes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(medians: &[&[f64]]) -> Row {
        let figures = medians
            .iter()
            .map(|runs| Figure::new("a", runs.to_vec()).unwrap());
        Row {
            name: "a".into(),
            sizes: (3..).map(|power| 10_u64.pow(power)).zip(figures).collect(),
        }
    }

    #[test]
    fn a_linear_cost_doubles_with_the_number() {
        let row = row(&[&[5.0], &[9.0], &[5.0]]);
        assert!((row.doubling().unwrap() - 2.0).abs() < 1e-9);
        assert!(!row.is_worse());
    }

    #[test]
    fn a_superlinear_cost_is_reported() {
        // Ten times the cost of one for ten times the number: each doubling costs four times as
        // much.
        let row = row(&[&[5.0], &[50.0]]);
        assert!((row.doubling().unwrap() - 4.0).abs() < 1e-9);
        assert!(row.is_worse());
    }

    #[test]
    fn overlapping_ranges_are_not_worse() {
        assert!(!row(&[&[1.0, 5.0, 60.0], &[50.0]]).is_worse());
    }

    #[test]
    fn one_size_shows_no_growth() {
        assert_eq!(row(&[&[1.0]]).doubling(), None);
    }
}
