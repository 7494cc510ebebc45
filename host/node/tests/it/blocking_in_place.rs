//! Guests that run on the schedulers' own stacks, because their version has never waited, and then
//! wait there: they block in place, and no other process notices.

use exuvia_node::abi::{Kind, receive};
use exuvia_node::{DeployOptions, Node};

use crate::actors::{loops, of};
use crate::guests::{STATE, ask, counter, deploy, eventually, exit_of, module, node_with, spawn};
use crate::puppet::{self, BUFFER, Begun, HEADER, Puppet, ROOM};

/// Entries that have to return before a version runs on the schedulers' stacks, and some more.
const ENOUGH: usize = 100;

/// A node with so many schedulers, and a puppet's version that has never waited.
fn proven(schedulers: usize) -> Node {
    let node = node_with(|config| config.schedulers = schedulers);
    deploy(&node, "puppet", &puppet::text(1));
    prove(&node);
    node
}

fn prove(node: &Node) {
    let puppet = Puppet::new(node);
    for _ in 0..ENOUGH {
        puppet.act("version", &[], b"");
    }
    puppet.kill();
}

/// It waits for a message of the tag.
fn waits_for(puppet: &Puppet, tag: i64) -> Begun {
    let mode = i64::from(receive::TAG);
    puppet.begin("receive", &[HEADER, BUFFER, ROOM, -1, mode, tag], b"")
}

fn blocked_threads(node: &Node) -> usize {
    node.scheduler().blocked_threads()
}

#[track_caller]
fn a_thread_was_blocked(node: &Node) {
    assert!(node.scheduler().blocked_in_place() > 0);
    no_thread_is_blocked(node);
}

#[track_caller]
fn no_thread_is_blocked(node: &Node) {
    eventually("no thread blocks in place", || blocked_threads(node) == 0);
}

#[test]
fn a_process_that_waits_on_a_schedulers_stack_delays_no_other() {
    let node = proven(1);
    let [first, second, third] = [(); 3].map(|()| Puppet::new(&node));
    let waiting = waits_for(&first, 7);
    // Else this tests nothing.
    assert_eq!(blocked_threads(&node), 1);
    for _ in 0..ENOUGH {
        assert_eq!(second.act("version", &[], b"").result, 1);
    }
    // It has been seen to wait: from now on on fibers.
    let another = waits_for(&third, 8);
    assert_eq!(blocked_threads(&node), 1);
    node.send(first.pid, 7, b"first".to_vec()).unwrap();
    node.send(third.pid, 8, b"third".to_vec()).unwrap();
    waiting.end().message(Kind::Message, b"first");
    another.end().message(Kind::Message, b"third");
    no_thread_is_blocked(&node);
    for puppet in [first, second, third] {
        assert_eq!(puppet.act("version", &[], b"").result, 1);
        puppet.receive(20, receive::ANY, 0);
    }
    node.halt();
}

#[test]
fn timeouts_and_replies_reach_a_process_that_blocks_in_place() {
    let node = proven(1);
    let server = Puppet::new(&node);
    let [sleeper, caller] = [(); 2].map(|()| Puppet::new(&node));
    sleeper.act("sleep", &[30], b"").ok();
    a_thread_was_blocked(&node);
    let before = node.scheduler().blocked_in_place();
    deploy(&node, "puppet", &puppet::text(2));
    // The next version is taken to run as the one before: as one that waits.
    caller.act("sleep", &[30], b"").ok();
    // A version of its own, proven by itself.
    deploy(&node, "caller", &puppet::text(3));
    let caller = Puppet::of(&node, spawn(&node, "caller", b""));
    for _ in 0..ENOUGH {
        caller.act("version", &[], b"");
    }
    let caller = Puppet::of(&node, spawn(&node, "caller", b""));
    let command = Puppet::command("version", &[], b"");
    // Its answers are longer than what it takes itself.
    let room = ROOM + 256;
    let (arguments, data) = Puppet::calls(server.pid, puppet::CMD, &command, room, 10_000);
    let answer = caller.act("call", &arguments, &data).ok();
    assert_eq!(answer.kind, Kind::Reply as u32);
    assert!(node.scheduler().blocked_in_place() > before);
    no_thread_is_blocked(&node);
    node.halt();
}

#[test]
fn a_process_that_blocks_in_place_can_be_killed_and_its_frame_is_reusable() {
    let node = node_with(|config| {
        config.schedulers = 1;
        // So few that a lost one is missed.
        config.frames = 4;
    });
    for version in 1..=8 {
        // Each version is taken to run on the stacks, as the one before, until it waits.
        let name = format!("puppet-{version}");
        deploy(&node, &name, &puppet::text(version));
        let [prover, waiter, other] = [(); 3].map(|()| Puppet::of(&node, spawn(&node, &name, b"")));
        for _ in 0..ENOUGH {
            prover.act("version", &[], b"");
        }
        prover.kill();
        let waiting = waits_for(&waiter, 7);
        assert_eq!(blocked_threads(&node), 1);
        waiter.kill();
        assert!(waiting.try_end().is_err());
        no_thread_is_blocked(&node);
        assert_eq!(other.act("version", &[], b"").result, i64::from(version));
        other.kill();
    }
    node.halt();
}

/// Threads of this process of the operating system that are a scheduler's.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        // One that has ended meanwhile has no name.
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    };
    tasks
        .map(name)
        .filter(|name| name.starts_with("exuvia-sched"))
        .count()
}

/// Whether it is halted or only dropped.
#[test]
fn no_thread_outlives_its_node() {
    for halts in [true, false] {
        let node = proven(2);
        let puppet = Puppet::new(&node);
        let mode = i64::from(receive::TAG);
        puppet.tell("receive", &[HEADER, BUFFER, ROOM, -1, mode, 7], b"");
        eventually("it waits blocked_threads", || blocked_threads(&node) == 1);
        assert!(threads() > 2);
        if halts {
            node.halt();
        }
        drop((puppet, node));
        eventually("all threads end", || threads() == 0);
    }
}

/// Whose slices are over steps blocked_threads as well, time and again.
#[test]
fn an_endless_computation_leaves_turns_to_other_processes() {
    let node = proven(1);
    let [spinner, other] = [(); 2].map(|()| Puppet::new(&node));
    spinner.tell("spin", &[], b"");
    eventually("it spins", || spinner.state() == "preempted");
    eventually("it does so blocked_threads", || blocked_threads(&node) == 1);
    for _ in 0..ENOUGH {
        assert_eq!(other.act("version", &[], b"").result, 1);
    }
    spinner.kill();
    no_thread_is_blocked(&node);
    assert_eq!(other.act("version", &[], b"").result, 1);
    node.halt();
}

#[test]
fn a_trap_after_the_wait_ends_that_process_alone() {
    let node = node_with(|config| config.schedulers = 1);
    let mut events = node.events();
    let fails = counter(
        "(drop (call $sleep (i64.const 20))) (unreachable)",
        "(call $count)",
        STATE,
    );
    deploy(&node, "fails", &fails);
    let [one, other] = [(); 2].map(|()| spawn(&node, "fails", b""));
    for _ in 0..ENOUGH {
        ask(&node, other);
    }
    node.send(one, 0, Vec::new()).unwrap();
    let (reason, text) = exit_of(&mut events, one);
    assert!(text.contains("unreachable"), "{reason}: {text}");
    a_thread_was_blocked(&node);
    assert_eq!(ask(&node, other), 0);
    node.halt();
}

/// New code that loops where the old one returned: it is verified on what waits blocked_threads, and crossed.
#[test]
fn state_is_copied_and_upgraded_from_a_waiting_stack() {
    let node = node_with(|config| config.schedulers = 1);
    let handles = counter(
        "(call $set (i64.add (call $count) (i64.const 1)))",
        "(call $count)",
        STATE,
    );
    deploy(&node, "actor", &handles);
    let pid = spawn(&node, "actor", b"");
    for sent in 1..=ENOUGH {
        node.send(pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, pid), u64::try_from(sent).unwrap());
    }
    let begun = u64::try_from(ENOUGH).unwrap();
    let mut asked = 0;
    for version in 1..=4 {
        let answer = format!(
            "(i64.add (call $count) (i64.const {}))",
            version * 1_000_000
        );
        let to = loops(true, &answer);
        let report = node
            .deploy(vec![module("actor", &to)], DeployOptions::default())
            .unwrap();
        // It was copied, and what was copied has been brought into the new code.
        assert_eq!((report.processes, report.verified), (1, 1));
        eventually("it is upgraded", || of(&node, pid).upgrades == version);
        for _ in 0..3 {
            asked += 1;
            // The start counts as well once it loops.
            let count = ask(&node, pid) - u64::from(version) * 1_000_000;
            assert_eq!(count, begun + asked);
        }
        if version == 1 {
            eventually("it waits blocked_threads", || blocked_threads(&node) == 1);
        }
    }
    node.halt();
    no_thread_is_blocked(&node);
}

#[test]
fn a_node_stops_while_guests_block_in_place() {
    let node = node_with(|config| config.schedulers = 2);
    let mut waiting = Vec::new();
    for version in 1..=6 {
        let name = format!("puppet-{version}");
        deploy(&node, &name, &puppet::text(version));
        let puppet = Puppet::of(&node, spawn(&node, &name, b""));
        for _ in 0..ENOUGH {
            puppet.act("version", &[], b"");
        }
        let waiter = Puppet::of(&node, spawn(&node, &name, b""));
        waiting.push(waits_for(&waiter, 7));
    }
    assert_eq!(blocked_threads(&node), 6);
    node.halt();
    // The threads end with their guests.
    no_thread_is_blocked(&node);
    drop(waiting);
}

/// Version after version starts out on the stacks; handlers wait now and then, some are killed while
/// they do, and no answer is lost.
#[test]
fn blocking_versions_are_swapped_under_load() {
    const ROUNDS: u32 = 24;
    let node = node_with(|config| {
        config.schedulers = 3;
        config.frames = 16;
    });
    let handles = |version: u32, waits: bool| {
        let wait = if waits {
            "(drop (call $sleep (i64.const 1)))"
        } else {
            ""
        };
        counter(
            &format!("{wait} (call $set (i64.add (call $count) (i64.const 1)))"),
            &format!("{wait} (i64.add (call $count) (i64.const {version}000000))"),
            STATE,
        )
    };
    deploy(&node, "actor", &handles(0, false));
    let mut pids: Vec<_> = (0..40).map(|_| spawn(&node, "actor", b"")).collect();
    let mut counts = vec![0; pids.len()];
    for round in 1..=ROUNDS {
        // Every third waits; the next is not taken for proven, and proves itself.
        deploy(&node, "actor", &handles(round, round % 3 == 0));
        for step in 0..4 {
            for (pid, count) in pids.iter().zip(&mut counts) {
                node.send(*pid, 0, Vec::new()).unwrap();
                *count += 1;
                if step == 2 {
                    let answer = ask(&node, *pid);
                    assert_eq!(answer, *count + u64::from(round) * 1_000_000);
                }
            }
        }
        let victim = round as usize % pids.len();
        node.kill(pids[victim]);
        pids[victim] = spawn(&node, "actor", b"");
        counts[victim] = 0;
    }
    a_thread_was_blocked(&node);
    for (pid, count) in pids.iter().zip(&counts) {
        assert_eq!(ask(&node, *pid), *count + u64::from(ROUNDS) * 1_000_000);
    }
    node.halt();
}
