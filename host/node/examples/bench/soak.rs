//! A long run under load: swaps, spawns and messages at the same time, for some minutes, with
//! constant memory, mappings and files. `host/node/tests/it/endurance.rs` is the short form of it
//! that runs as a test.
//!
//! The work is done in rounds. After each round the node becomes idle, and what it holds is
//! compared with what it held after the first rounds, which fill its pools.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, Node, Pid};
use serde_json::json;

use crate::command::Options;
use crate::driver::{Collector, Expected, Round, ask_all};
use crate::machine::Machine;
use crate::setup::{config, deploy, fields, module, resident, spawn, wait_until};
use crate::{Scale, guests, thousands};

const ROUNDS: u64 = 10;
/// Rounds that may still grow the pools.
const WARM_UP: u64 = 2;
const SWAPS: u64 = 10_000;
const SPAWNS: u64 = 10_000_000;
const MESSAGES: u64 = 100_000_000;

/// Processes that are swapped, and asked after each swap.
const SWAPPED: usize = 20;
/// Children that are spawned at one time.
const BATCH: u64 = 10_000;
/// Half of the messages are exchanged between pairs, half are sent from many to one.
const PAIRS: u64 = 10;
const SOURCES: u64 = 100;

/// Growth that is not a leak: less than 4 bytes for each process, 4 KiB for each swap, or half a
/// byte for each message.
const MEMORY: u64 = 32 << 20;
/// A leaked module, frame or stack has mappings of its own.
const MAPPINGS: u64 = 64;
/// The maximum that a pooled frame takes: its mappings, and the touched pages of its store, its
/// stack and its memory.
const FRAME_MAPPINGS: u64 = 6;
const FRAME_MEMORY: u64 = 64 << 10;
const FILES: u64 = 0;

/// What this operating system process holds.
#[derive(Clone, Copy)]
struct Held {
    memory: u64,
    mappings: u64,
    files: u64,
    frames: u64,
}

impl Held {
    fn by(node: &Node) -> Held {
        Held {
            memory: resident(),
            mappings: fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .count() as u64,
            files: fs::read_dir("/proc/self/fd").unwrap().count() as u64,
            frames: node.info().frames as u64,
        }
    }

    /// Returns the exceeded bounds, for display.
    fn beyond(self, before: Held) -> Vec<String> {
        // The number of frames varies below its limit.
        let frames = self.frames.saturating_sub(before.frames);
        [
            (
                "memory, bytes",
                self.memory,
                before.memory,
                MEMORY + frames * FRAME_MEMORY,
            ),
            (
                "mappings",
                self.mappings,
                before.mappings,
                MAPPINGS + frames * FRAME_MAPPINGS,
            ),
            ("files", self.files, before.files, FILES),
        ]
        .into_iter()
        .filter(|(_, now, before, most)| *now > before + most)
        .map(|(what, now, before, most)| {
            format!(
                "{what}: {now}, {} more than at first; {most} would be no leak",
                now - before
            )
        })
        .collect()
    }
}

/// Runs the soak; returns whether all bounds hold.
pub(crate) fn run(options: &Options) -> bool {
    let scale = Scale {
        quick: options.quick,
    };
    let share = |whole| scale.of(whole) / ROUNDS;
    let (swaps, spawns, messages) = (share(SWAPS), share(SPAWNS), share(MESSAGES));
    if !options.json {
        println!("{}\n", Machine::this());
        println!("| swaps | spawns | messages | s | memory, MiB | mappings | files | frames |");
        println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    }
    let mut load = Load::start();
    let began = Instant::now();
    let mut before = Held::by(&load.node);
    let mut rounds = Vec::new();
    let mut broken = Vec::new();
    for round in 1..=ROUNDS {
        load.round(swaps, spawns, messages);
        let held = Held::by(&load.node);
        let took = began.elapsed().as_secs();
        let done = [swaps, spawns, messages].map(|share| share * round);
        rounds.push(json!({
            "swaps": done[0], "spawns": done[1], "messages": done[2], "seconds": took,
            "memory": held.memory, "mappings": held.mappings, "files": held.files,
            "frames": held.frames,
        }));
        if !options.json {
            println!(
                "| {} | {} | {} | {took} | {:.1} | {} | {} | {} |",
                thousands(done[0]),
                thousands(done[1]),
                thousands(done[2]),
                held.memory as f64 / f64::from(1 << 20),
                held.mappings,
                held.files,
                held.frames
            );
        }
        if round <= WARM_UP {
            before = held;
        } else {
            broken = held.beyond(before);
        }
        if !broken.is_empty() {
            break;
        }
    }
    load.node.halt();
    if options.json {
        let report = json!({ "machine": Machine::this(), "rounds": rounds, "broken": broken });
        println!("{report:#}");
    }
    for line in &broken {
        eprintln!("error: the soak has grown {line}");
    }
    broken.is_empty()
}

/// The node and its processes.
struct Load {
    node: Node,
    swapped: Arc<[Pid]>,
    spawner: Pid,
    sink: Pid,
    sources: Vec<Pid>,
    pairs: Vec<(Pid, Pid)>,
    /// The number of swaps so far; each swapped process was asked as often.
    swaps: u64,
}

impl Load {
    fn start() -> Load {
        let mut config = config(0);
        // All idle processes are upgraded to each release, so that old versions can be unloaded.
        config.background_upgrade_after = Duration::from_millis(5);
        let node = Node::start(config).unwrap();
        deploy(&node, "swapped", &guests::counted(0));
        deploy(&node, "child", guests::CHILD);
        deploy(&node, "spawner", &guests::spawner());
        deploy(&node, "source", &guests::source());
        deploy(&node, "sink", &guests::sink());
        deploy(&node, "ping", &guests::ping_pong());
        Load {
            swapped: (0..SWAPPED).map(|_| spawn(&node, "swapped")).collect(),
            spawner: spawn(&node, "spawner"),
            sink: spawn(&node, "sink"),
            sources: (0..SOURCES).map(|_| spawn(&node, "source")).collect(),
            pairs: (0..PAIRS)
                .map(|_| (spawn(&node, "ping"), spawn(&node, "ping")))
                .collect(),
            swaps: 0,
            node,
        }
    }

    /// Does all three kinds of work at the same time, until the node is idle.
    fn round(&mut self, swaps: u64, spawns: u64, messages: u64) {
        let alive = self.node.info().processes;
        let from = self.swaps;
        self.swaps += swaps;
        let load = &*self;
        std::thread::scope(|scope| {
            scope.spawn(|| (from + 1..=from + swaps).for_each(|version| load.swap(version)));
            scope.spawn(|| load.spawns(spawns));
            scope.spawn(|| load.fan_in(messages / 2));
            load.ping_pong(messages - messages / 2);
        });
        wait_until("all children and helpers have ended", || {
            self.node.info().processes <= alive
        });
        wait_until("old versions are unloaded", || {
            // In addition to the current version, those of two releases for a rollback.
            (self.node.info().modules.iter()).all(|module| module.loaded.len() <= 3)
        });
    }

    /// Deploys new code that was never loaded; then every process must answer from it, and must
    /// have lost no state.
    fn swap(&self, version: u64) {
        let new = module("swapped", &guests::counted(version));
        self.node
            .deploy(vec![new], DeployOptions::default())
            .unwrap();
        let answer = [version.to_le_bytes(), version.to_le_bytes()].concat();
        ask_all(
            &self.node,
            Round {
                targets: self.swapped.clone(),
                request: Vec::new(),
                window: SWAPPED,
                expected: Expected::Same(answer),
            },
        );
    }

    fn spawns(&self, count: u64) {
        let collector = Collector::start(&self.node);
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            let command = fields(&[Pid::NONE, collector.pid], &[batch]);
            self.node.send(self.spawner, 2, command).unwrap();
            collector.next();
            left -= batch;
        }
        self.node.kill(collector.pid);
    }

    /// The sink reports when it has taken the last message: if one were lost, the wait would time
    /// out.
    fn fan_in(&self, messages: u64) {
        let collector = Collector::start(&self.node);
        let each = (messages / SOURCES).max(1);
        let all = fields(&[Pid::NONE, collector.pid], &[each * SOURCES]);
        self.node.send(self.sink, 1, all).unwrap();
        for source in &self.sources {
            let command = fields(&[self.sink, Pid::NONE], &[each]);
            self.node.send(*source, 1, command).unwrap();
        }
        collector.next();
        self.node.kill(collector.pid);
    }

    fn ping_pong(&self, messages: u64) {
        let collector = Collector::start(&self.node);
        let rounds = (messages / PAIRS / 2).max(1);
        for (ping, pong) in &self.pairs {
            let command = fields(&[*pong, collector.pid], &[rounds, 16]);
            self.node.send(*ping, 1, command).unwrap();
        }
        collector.wait_for(self.pairs.len());
        self.node.kill(collector.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Held = Held {
        memory: 100 << 20,
        mappings: 500,
        files: 10,
        frames: 20,
    };

    #[test]
    fn small_growth_is_within_the_bounds() {
        let after = Held {
            memory: BEFORE.memory + MEMORY + 2 * FRAME_MEMORY,
            mappings: 500 + MAPPINGS + 2 * FRAME_MAPPINGS,
            files: 9,
            frames: 22,
        };
        assert!(after.beyond(BEFORE).is_empty());
    }

    #[test]
    fn every_exceeded_bound_is_reported() {
        let after = Held {
            memory: BEFORE.memory + MEMORY + 1,
            mappings: 500 + MAPPINGS + 1,
            files: 11,
            frames: 20,
        };
        let lines = after.beyond(BEFORE);
        assert_eq!(lines.len(), 3);
        assert!(lines[2].starts_with("files: 11, 1 more"), "{}", lines[2]);
    }
}
