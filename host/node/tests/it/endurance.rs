//! A long life leaves nothing behind: no version, no frame, no mapping, no
//! file, no memory. `EXUVIA_TEST_LONG=1` asks for 10,000 swaps, a million
//! processes and ten million messages. `cargo xtask bench --soak` does more of
//! each, all at the same time.
//!
//! Mappings, files and memory are those of the whole operating system's
//! process, so each test has one of its own.

use std::fs;
use std::time::Duration;

use exuvia_node::Node;

use crate::child::child;
use crate::guests::{STATE, ask, counter, deploy, eventually, imports, node_with, spawn};

/// Growth that is no leak, over two thirds of a test: about a byte for each
/// message, a dozen for each process or a page for each swap in the long form.
const MEMORY_KIB: u64 = 8 << 10;
/// A leaked module, frame or stack has mappings of its own.
const MAPPINGS: usize = 32;
/// What `node_with` sets, and what one takes at most.
const FRAMES: usize = 64;
const FRAME_MAPPINGS: usize = 6;

pub(crate) fn long() -> bool {
    std::env::var_os("EXUVIA_TEST_LONG").is_some_and(|value| value == "1")
}

/// What a process of the operating system holds.
#[derive(Debug)]
struct Held {
    memory_kib: u64,
    mappings: usize,
    files: usize,
    frames: usize,
}

fn held(node: &Node) -> Held {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.unwrap().trim().trim_end_matches(" kB");
    Held {
        memory_kib: memory.parse().unwrap(),
        mappings: fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count(),
        files: fs::read_dir("/proc/self/fd").unwrap().count(),
        frames: node.info().frames,
    }
}

/// Does something so often; `settle` waits until it should have left nothing.
fn stays_flat(node: &Node, times: u64, mut act: impl FnMut(u64), settle: impl Fn()) {
    let settle = || {
        settle();
        // There may be some more for a moment.
        eventually("frames are dropped", || node.info().frames <= FRAMES);
    };
    let third = times / 3;
    (0..third).for_each(&mut act);
    settle();
    let before = held(node);
    (third..times).for_each(&mut act);
    settle();
    let after = held(node);
    // Frames come and go below their limit, each with its mappings.
    let more_frames = after.frames.saturating_sub(before.frames);
    let is_flat = after.memory_kib <= before.memory_kib + MEMORY_KIB
        && after.mappings <= before.mappings + MAPPINGS + more_frames * FRAME_MAPPINGS
        && after.files <= before.files;
    assert!(is_flat, "after a third {before:?}, after all {after:?}");
}

#[test]
fn swaps_leak_nothing() {
    if !child("endurance::swaps_leak_nothing", ":") {
        return;
    }
    let node = node_with(|config| config.background_upgrade_after = Duration::from_millis(5));
    // No two alike, so that each is compiled and has a version of its own.
    let answers = |number: u64| counter("", &format!("(i64.const {number})"), STATE);
    deploy(&node, "m", &answers(1_000_000));
    let pids: Vec<_> = (0..20).map(|_| spawn(&node, "m", b"")).collect();
    let swaps = if long() { 10_000 } else { 300 };
    stays_flat(
        &node,
        swaps,
        |number| {
            deploy(&node, "m", &answers(number));
            for pid in &pids {
                assert_eq!(ask(&node, *pid), number);
            }
        },
        || {
            // Besides the current one, those of two releases to go back to.
            eventually("old versions are unloaded", || {
                node.info().modules[0].loaded.len() <= 3
            });
        },
    );
    node.halt();
}

#[test]
fn processes_leak_nothing() {
    const AT_ONCE: u64 = 1_000;
    if !child("endurance::processes_leak_nothing", ":") {
        return;
    }
    let node = node_with(|_| {});
    let child = format!(
        r#"(module {} (memory (export "memory") 1) (global (export "exuvia_abi") i32 (i32.const 1))
        (func (export "run") (result i32) (i64.store (i32.const 4096) (i64.const 7)) (i32.const 2)))"#,
        imports()
    );
    deploy(&node, "child", &child);
    let spawner = format!(
        r#"(module {} (memory (export "memory") 1) (global (export "exuvia_abi") i32 (i32.const 1))
        (data (i32.const 240) "child")
        (func $all (local $n i32) (loop $more
          (if (call $spawn (i32.const 240) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 192) (i32.const 0))
            (then (unreachable)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $n) (i32.const {AT_ONCE})))))
        (func (export "run") (result i32)
          (loop $next
            (i32.store (i32.const 64) (i32.const 48))
            (if (call $receive (i32.const 64) (i32.const 512) (i32.const 4096) (i64.const 0) (i32.const 0) (i64.const 0))
              (then (return (i32.const 0))))
            (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
              (call $all)
              (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 0) (i32.const 0)))))
            (br $next))
          unreachable))"#,
        imports()
    );
    deploy(&node, "spawner", &spawner);
    let parent = spawn(&node, "spawner", b"");
    let alive = node.info().processes;
    let ended = || eventually("the children end", || node.info().processes <= alive);
    let rounds = if long() { 1_000 } else { 200 };
    let round = |_| {
        ask(&node, parent);
        ended();
    };
    stays_flat(&node, rounds, round, ended);
    node.halt();
}

#[test]
fn messages_leak_nothing() {
    const AT_ONCE: u64 = 10_000;
    if !child("endurance::messages_leak_nothing", ":") {
        return;
    }
    let node = node_with(|_| {});
    // Adds the number in each message to its count.
    let add = "(call $set (i64.add (call $count) (i64.load (i32.const 512))))";
    deploy(&node, "sum", &counter(add, "(call $count)", ""));
    let pids: Vec<_> = (0..10).map(|_| spawn(&node, "sum", b"")).collect();
    let mut sums = vec![0; pids.len()];
    let rounds = if long() { 1_000 } else { 60 };
    let round = |round: u64| {
        for number in 0..AT_ONCE {
            let place = number as usize % pids.len();
            // Small ones and large ones: they are kept in different ways.
            let mut payload = vec![0; if number % 7 == 0 { 2_000 } else { 8 }];
            payload[..8].copy_from_slice(&(round + number).to_le_bytes());
            sums[place] += round + number;
            node.send(pids[place], 0, payload).unwrap();
        }
        for (pid, sum) in pids.iter().zip(&sums) {
            assert_eq!(ask(&node, *pid), *sum);
        }
    };
    // An answer comes behind all messages, so nothing is left to wait for.
    stays_flat(&node, rounds, round, || {});
    node.halt();
}
