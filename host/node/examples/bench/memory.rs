//! Idle processes: what they cost in memory, and what it costs to wake one.

use std::time::Instant;

use exuvia_node::process::Slot;
use exuvia_node::{DeployOptions, Guest, GuestOwn, ModuleBytes, Node, Pid, SpawnOptions};

use crate::driver::{Round, ask_all};
use crate::setup::{config, module, page_tables, resident, rust_guest};
use crate::{Sample, Scale, guests};

/// Requests under way at one time while all processes are asked.
const WINDOW: usize = 64;
/// Activations that are measured.
const ACTIVATIONS: usize = 100_000;
/// `Get` as MessagePack.
const GET: &[u8] = b"\xa3Get";

pub(crate) fn hundred_thousand(scale: Scale) -> Vec<Sample> {
    idle(
        &format!("{} WAT", scale.label(100_000)),
        scale.of(100_000),
        wat(),
        b"",
    )
}

pub(crate) fn million(scale: Scale) -> Vec<Sample> {
    idle(
        &format!("{} WAT", scale.label(1_000_000)),
        scale.of(1_000_000),
        wat(),
        b"",
    )
}

pub(crate) fn million_rust(scale: Scale) -> Vec<Sample> {
    let Some(module) = rust_guest("counter") else {
        eprintln!("memory-1m-rust: skipped, `cargo xtask guests` builds the module");
        return Vec::new();
    };
    idle(
        &format!("{} Rust", scale.label(1_000_000)),
        scale.of(1_000_000),
        module,
        GET,
    )
}

fn wat() -> ModuleBytes {
    module("counter", guests::COUNTER)
}

/// Spawns, has each process answer one request, then reads the memory; then
/// wakes some of them at random.
fn idle(label: &str, count: u64, module: ModuleBytes, request: &[u8]) -> Vec<Sample> {
    let mut config = config(0);
    config.processes = config.processes.max(count as usize + 1_000);
    let node = Node::start(config).unwrap();
    node.deploy(vec![module], DeployOptions::default()).unwrap();
    let options = SpawnOptions::default();
    let before = (resident(), page_tables());
    let began = Instant::now();
    let pids: Vec<Pid> = (0..count)
        .map(|_| node.spawn("counter", b"", &options).unwrap())
        .collect();
    let born = began.elapsed();
    // The list of targets is the benchmark's, not the node's.
    let ours = pids.len() * size_of::<Pid>();
    let pids = ask(&node, pids, request, WINDOW);
    let after = (resident(), page_tables());
    let each = |bytes: u64| bytes as f64 / count as f64;
    let mut samples = vec![
        (
            format!("idle memory, {label}, B/process"),
            each(after.0.saturating_sub(before.0).saturating_sub(ours as u64)),
        ),
        (
            format!("idle page tables, {label}, B/process"),
            each(after.1.saturating_sub(before.1)),
        ),
        (
            format!("births from outside, {label}, thousand/s"),
            count as f64 / born.as_secs_f64() / 1e3,
        ),
    ];
    samples.push((
        "process record without its image, B".into(),
        (size_of::<GuestOwn>() + size_of::<Slot<Guest>>()) as f64,
    ));
    let image: Vec<u64> = node
        .processes(&exuvia_node::Filter {
            limit: 100,
            ..exuvia_node::Filter::default()
        })
        .iter()
        .map(|process| process.image)
        .filter(|image| *image > 0)
        .collect();
    if !image.is_empty() {
        let mean = image.iter().sum::<u64>() as f64 / image.len() as f64;
        samples.push((format!("image, {label}, B"), mean));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let chosen: Vec<Pid> = (0..ACTIVATIONS)
        .map(|_| pids[random.below(pids.len())])
        .collect();
    let same = vec![pids[0]; ACTIVATIONS];
    for (what, targets) in [("at random", chosen), ("the same, resident", same)] {
        for (how, window) in [("one at a time", 1), ("64 at a time", WINDOW)] {
            let began = Instant::now();
            ask(&node, targets.clone(), request, window);
            let each = began.elapsed().as_nanos() as f64 / targets.len() as f64;
            samples.push((format!("activation {what}, {how}, {label}, ns"), each));
        }
    }
    node.halt();
    samples
}

fn ask(node: &Node, targets: Vec<Pid>, request: &[u8], window: usize) -> Vec<Pid> {
    let all = targets.clone();
    ask_all(
        node,
        Round {
            targets,
            request: request.to_vec(),
            window,
            expected: None,
        },
    );
    all
}

/// A small generator (splitmix64): the same targets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
