//! A node that is short of memory or of addresses is slower, and says so. What
//! single shortages do stands in the engine's tests.

use exuvia_node::{MemoryLayout, Node};

use crate::actors::loops;
use crate::child::child;
use crate::guests::{ask, counter, deploy, eventually, node, node_with, spawn};

/// Counts its requests; each of them writes 1 MiB and clears it again.
fn spendthrift() -> String {
    counter(
        "",
        "(block (result i64)
           (if (i32.lt_u (memory.size) (i32.const 17)) (then
             (drop (memory.grow (i32.sub (i32.const 17) (memory.size))))))
           (memory.fill (i32.const 0x10000) (i32.const 7) (i32.const 0x100000))
           (memory.fill (i32.const 0x10000) (i32.const 0) (i32.const 0x100000))
           (call $set (i64.add (call $count) (i64.const 1)))
           (call $count))",
        "",
    )
}

/// Several rounds, so that each is paged out and in.
fn all_count(node: &Node, processes: usize, rounds: u64) {
    let pids: Vec<_> = (0..processes).map(|_| spawn(node, "m", b"")).collect();
    for round in 1..=rounds {
        for pid in &pids {
            assert_eq!(ask(node, *pid), round);
        }
    }
}

#[test]
fn memory_of_large_messages_does_not_stay_in_frames() {
    const MOST: u64 = 4 << 20;
    let node = node_with(|config| config.frame_memory = MOST);
    deploy(&node, "m", &spendthrift());
    // 64 frames would keep 64 MiB.
    all_count(&node, 100, 3);
    eventually("frames have no more than they may", || {
        node.info().frame_bytes <= MOST
    });
    let info = node.info();
    assert_eq!(info.frame_memory, MOST);
    assert!(info.frames_released > 0, "{info:?}");
    all_count(&node, 10, 2);
    node.halt();
}

#[test]
fn paging_counters_are_reported() {
    let node = node_with(|config| {
        config.frames = 4;
        config.schedulers = 1;
    });
    deploy(&node, "m", &counter("", "(call $count)", ""));
    let pids: Vec<_> = (0..400).map(|_| spawn(&node, "m", b"")).collect();
    for pid in pids.iter().chain(&pids) {
        assert_eq!(ask(&node, *pid), 0);
    }
    let cold = node.info();
    // One in 64 is timed.
    assert!(cold.page_ins >= 64 && cold.page_outs >= 64, "{cold:?}");
    assert!(cold.page_in_ns > 0 && cold.page_out_ns > 0, "{cold:?}");
    assert!(cold.frame_bytes > 0 && cold.frame_failures == 0, "{cold:?}");
    assert!(
        cold.frames >= cold.frames_blocked + cold.frames_free,
        "{cold:?}"
    );
    for _ in 0..2_000 {
        assert_eq!(ask(&node, pids[0]), 0);
    }
    let warm = node.info();
    assert!(warm.frame_hits >= cold.frame_hits + 1_900, "{warm:?}");
    assert!(
        warm.hit_rate > cold.hit_rate && warm.hit_rate < 1.0,
        "{warm:?}"
    );
    node.halt();
}

/// Each of them keeps a frame and a stack. With two mappings for a stack and four for a memory, the
/// default limit of the system would allow 6,800. `EXUVIA_TEST_LONG=1` asks for 100,000.
#[test]
fn more_processes_wait_in_the_middle_of_a_handler_than_there_are_mappings_for() {
    let test =
        "pressure::more_processes_wait_in_the_middle_of_a_handler_than_there_are_mappings_for";
    if !child(test, ":") {
        return;
    }
    let long = std::env::var_os("EXUVIA_TEST_LONG").is_some_and(|value| value == "1");
    let (frames, processes) = match long {
        true => (120_000, 100_000),
        false => (12_000, 9_000),
    };
    let node = node_with(|config| {
        config.frames = frames;
        config.processes = 2 * frames;
        config.memory_layout = MemoryLayout::Packed;
    });
    deploy(&node, "loops", &loops(false, "(call $count)"));
    let pids: Vec<_> = (0..processes).map(|_| spawn(&node, "loops", b"")).collect();
    for (round, pid) in pids
        .iter()
        .map(|pid| (2, pid))
        .chain(pids.iter().map(|pid| (3, pid)))
    {
        assert_eq!(ask(&node, *pid), round, "{pid}");
    }
    let info = node.info();
    assert!(info.frames_blocked >= processes, "{info:?}");
    assert_eq!(info.frame_failures, 0, "{info:?}");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mappings = maps.lines().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let is_memory = |line: &&str| line.starts_with("VmRSS:") || line.starts_with("VmPTE:");
    let memory: Vec<&str> = status.lines().filter(is_memory).collect();
    println!("{processes} processes wait; {mappings} mappings; {memory:?}; {info:?}");
    assert!(mappings < 30_000, "{mappings} mappings");
    node.halt();
}

#[test]
fn by_default_frames_get_a_share_of_the_memory() {
    let node = node();
    let memory = node.info().frame_memory;
    let installed = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = installed.lines().next().unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((1..=kib * 1024 / 4).contains(&memory), "{memory}");
    node.halt();
}

/// A whole node, with real schedulers and what it takes for itself by default, in 24 GiB
/// of addresses, of which each frame has 4 GiB: five frames or less.
#[test]
fn a_node_with_little_address_space_serves_all_processes() {
    let test = "pressure::a_node_with_little_address_space_serves_all_processes";
    if !child(test, "ulimit -S -v 25165824") {
        return;
    }
    for frames in [0, 64] {
        let node = node_with(|config| {
            config.frames = frames;
            config.memory_layout = MemoryLayout::Wide;
        });
        deploy(&node, "m", &spendthrift());
        all_count(&node, 200, 3);
        let info = node.info();
        assert!((1..6).contains(&info.frames), "{info:?}");
        assert_eq!(info.frame_failures > 0, frames > 0, "{info:?}");
        node.halt();
    }
}
