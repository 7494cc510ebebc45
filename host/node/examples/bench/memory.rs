//! Idle processes: their memory, and the cost of waking one.

use std::sync::Arc;
use std::time::Instant;

use exuvia_node::process::Slot;
use exuvia_node::{
    DeployOptions, Filter, Guest, GuestProcess, Limits, ModuleBytes, Node, Pid, SpawnOptions,
};
use serde::Serialize;

use crate::driver::{Expected, Round, ask_all, ask_together};
use crate::figures::Sample;
use crate::languages::{self, languages};
use crate::messages::plural;
use crate::setup::{config, module, page_tables, resident, rust_guest};
use crate::{Scale, guests, thousands};

/// Outstanding requests while all processes are asked.
const WINDOW: usize = 64;
/// The number of activations that are measured.
const ACTIVATIONS: u64 = 100_000;
const MILLION: u64 = 1_000_000;

/// A guest that counts: how to start it with a number, how to ask for it, and the expected answer.
/// Each process gets a number of its own, so that an answer from the memory of another process is
/// detected.
pub(crate) struct Counter {
    pub(crate) label: &'static str,
    pub(crate) module: ModuleBytes,
    pub(crate) arguments: fn(usize) -> Vec<u8>,
    pub(crate) request: &'static [u8],
    pub(crate) answer: fn(usize) -> Vec<u8>,
    /// The limit of a process's memory, bytes.
    pub(crate) memory: u64,
}

/// Returns the small counter that is written in WAT.
pub(crate) fn wat_counter() -> Counter {
    Counter {
        label: "WAT",
        module: module("counter", guests::COUNTER),
        arguments: |number| (number as u64).to_le_bytes().to_vec(),
        request: b"",
        answer: |number| (number as u64).to_le_bytes().to_vec(),
        memory: Limits::default().memory,
    }
}

/// The arguments and the reply of the Rust counter, as in its source.
#[derive(Serialize)]
struct Args {
    start: u64,
}

#[derive(Serialize)]
struct Answer {
    version: u32,
    count: u64,
}

/// Returns the counter that is written in Rust with the SDK, serde and MessagePack.
pub(crate) fn rust_counter() -> Option<Counter> {
    Some(Counter {
        label: "Rust",
        module: rust_guest("counter")?,
        arguments: |number| {
            let start = number as u64;
            rmp_serde::to_vec_named(&Args { start }).unwrap()
        },
        // `Get` in MessagePack.
        request: b"\xa3Get",
        answer: |number| {
            let count = number as u64;
            rmp_serde::to_vec_named(&Answer { version: 1, count }).unwrap()
        },
        memory: Limits::default().memory,
    })
}

/// Returns the guest of the conformance suite in a language that is built.
fn counter_of(folder: &str, label: &'static str) -> Option<Counter> {
    let (_, at) = languages().into_iter().find(|(name, _)| name == folder)?;
    Some(Counter {
        label,
        module: ModuleBytes {
            name: "counter".into(),
            ..languages::module(&at, "one")
        },
        arguments: |number| {
            let start = number as u64;
            rmp_serde::to_vec_named(&Args { start }).unwrap()
        },
        request: b"\xa3Get",
        answer: |number| rmp_serde::to_vec(&(number as u64)).unwrap(),
        memory: languages::MEMORY,
    })
}

/// Idle processes in a language with a runtime.
pub(crate) fn language(scale: Scale, count: u64, folder: &str, label: &'static str) -> Vec<Sample> {
    let Some(counter) = counter_of(folder, label) else {
        eprintln!("no guest in {label} to measure: `cargo xtask languages` builds it");
        return Vec::new();
    };
    idle(scale.of(count), &counter)
}

pub(crate) fn wat(scale: Scale, count: u64) -> Vec<Sample> {
    idle(scale.of(count), &wat_counter())
}

pub(crate) fn rust(scale: Scale, count: u64) -> Vec<Sample> {
    with_rust(|counter| idle(scale.of(count), counter))
}

pub(crate) fn wake_wat(scale: Scale, schedulers: usize) -> Vec<Sample> {
    wake(scale, schedulers, &wat_counter())
}

pub(crate) fn wake_rust(scale: Scale, schedulers: usize) -> Vec<Sample> {
    with_rust(|counter| wake(scale, schedulers, counter))
}

fn with_rust(measure: impl FnOnce(&Counter) -> Vec<Sample>) -> Vec<Sample> {
    let Some(counter) = rust_counter() else {
        eprintln!("no Rust guest to measure: `cargo xtask guests` builds it");
        return Vec::new();
    };
    measure(&counter)
}

/// Spawns processes, has each reply to one request, then reads the memory.
fn idle(count: u64, counter: &Counter) -> Vec<Sample> {
    let node = start(0, 0, count, counter);
    let before = (resident(), page_tables());
    let began = Instant::now();
    let pids = spawns(&node, count, counter);
    let born = began.elapsed();
    // The list of targets belongs to the benchmark, not to the node.
    let ours = (pids.len() * size_of::<Pid>()) as u64;
    answers(&node, &pids, counter);
    let after = (resident(), page_tables());
    let each = |bytes: u64| bytes as f64 / count as f64;
    let label = format!("{} {}", thousands(count), counter.label);
    let mut samples = vec![
        (
            format!("idle memory, {label}, B/process"),
            each(after.0.saturating_sub(before.0).saturating_sub(ours)),
        ),
        (
            format!("idle page tables, {label}, B/process"),
            each(after.1.saturating_sub(before.1)),
        ),
        (
            format!("spawns from outside, {label}, thousand/s"),
            count as f64 / born.as_secs_f64() / 1e3,
        ),
        (
            format!("answers that are right, {label}"),
            pids.len() as f64,
        ),
        (
            "process record without its image, B".into(),
            (size_of::<GuestProcess>() + size_of::<Slot<Guest>>()) as f64,
        ),
    ];
    let image: Vec<u64> = node
        .processes(&Filter {
            limit: 100,
            ..Filter::default()
        })
        .iter()
        .map(|process| process.image)
        .filter(|image| *image > 0)
        .collect();
    if !image.is_empty() {
        let mean = image.iter().sum::<u64>() as f64 / image.len() as f64;
        samples.push((format!("image, {label}, B"), mean));
    }
    node.halt();
    samples
}

/// Wakes processes of a million: at random, nearly all of them paged out; then always the same
/// ones, which are resident.
fn wake(scale: Scale, schedulers: usize, counter: &Counter) -> Vec<Sample> {
    let count = scale.of(MILLION);
    let node = start(schedulers, 0, count, counter);
    let pids = spawns(&node, count, counter);
    answers(&node, &pids, counter);
    let label = format!(
        "{} {}, {schedulers} scheduler{}",
        thousands(count),
        counter.label,
        plural(schedulers)
    );
    let mut random = Random::new();
    let activations = scale.of(ACTIVATIONS) as usize;
    let mut samples = Vec::new();
    for (what, same) in [("at random", false), ("the same, resident", true)] {
        // One driver per scheduler, or the drivers would be the bottleneck.
        for (how, drivers, window) in [
            ("one at a time", 1, 1),
            ("many at a time", schedulers, WINDOW),
        ] {
            let rounds = (0..drivers).map(|driver| {
                let targets = (0..activations / drivers)
                    .map(|_| match same {
                        true => pids[driver],
                        false => pids[random.below(pids.len())],
                    })
                    .collect();
                round(targets, counter, window, Expected::Any)
            });
            let rounds: Vec<Round> = rounds.collect();
            let began = Instant::now();
            ask_together(&node, rounds);
            let each = began.elapsed().as_nanos() as f64 / activations as f64;
            samples.push((format!("activation {what}, {how}, {label}, ns"), each));
        }
    }
    node.halt();
    samples
}

/// Starts a node for `count` processes and deploys the module; 0 schedulers or frames: the default
/// number.
pub(crate) fn start(schedulers: usize, frames: usize, count: u64, counter: &Counter) -> Node {
    let mut config = config(schedulers);
    config.frames = frames;
    config.limits.memory = counter.memory;
    config.processes = config.processes.max(count as usize + 1_000);
    let node = Node::start(config).unwrap();
    node.deploy(vec![counter.module.clone()], DeployOptions::default())
        .unwrap();
    node
}

pub(crate) fn spawns(node: &Node, count: u64, counter: &Counter) -> Arc<[Pid]> {
    let options = SpawnOptions::default();
    (0..count as usize)
        .map(|number| {
            let arguments = (counter.arguments)(number);
            node.spawn("counter", &arguments, &options).unwrap()
        })
        .collect()
}

/// Has every process reply, and checks every reply.
pub(crate) fn answers(node: &Node, pids: &Arc<[Pid]>, counter: &Counter) {
    let expected = Expected::Each(counter.answer);
    ask_all(node, round(pids.clone(), counter, WINDOW, expected));
}

pub(crate) fn round(
    targets: Arc<[Pid]>,
    counter: &Counter,
    window: usize,
    expected: Expected,
) -> Round {
    Round {
        targets,
        request: counter.request.to_vec(),
        window,
        expected,
    }
}

/// A small generator (splitmix64) that yields the same targets in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
