//! Waiting: a process that waits for another, or for a frame, takes nothing from the others.

use std::time::Duration;

use exuvia_node::abi::{Code, Priority, receive};
use exuvia_node::{Limits, Node, Pid, SpawnOptions};

use crate::guests::{ask, counter, deploy, eventually, node_with, spawn};
use crate::puppet::{self, Puppet, ROOM};

const PATIENCE: Duration = Duration::from_secs(60);

/// One scheduler, few frames, and processes that may be urgent.
fn node() -> Node {
    node_with(|config| {
        config.schedulers = 1;
        config.frames = 4;
        config.limits.priority = Priority::High;
    })
}

fn urgent(on_request: &str) -> String {
    let guest = counter(
        "",
        &format!("(drop (call $priority (i32.const 3))) {on_request}"),
        "",
    );
    let import = r#"(import "exuvia" "set_priority" (func $priority (param i32) (result i32)))
  (memory"#;
    guest.replacen("(memory", import, 1)
}

fn spawn_urgent(node: &Node, module: &str) -> Pid {
    let limits = Limits {
        priority: Priority::High,
        ..Limits::default()
    };
    let options = SpawnOptions {
        limits: Some(limits),
        ..SpawnOptions::default()
    };
    node.spawn(module, b"", &options).unwrap()
}

/// It sends so much that it has to wait for its receiver, which is less urgent.
#[test]
fn a_sender_of_high_priority_in_backpressure_lets_its_receiver_run() {
    let node = node();
    let backlog = r#"(loop $l
      (drop (call $reply (i32.const 512) (i64.const 77) (i32.const 0) (i32.const 0) (i32.const 8)))
      (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
      (br_if $l (i32.lt_u (i32.load (i32.const 40)) (i32.const 50000))))
    (i64.const 5)"#;
    deploy(&node, "flood", &urgent(backlog));
    deploy(&node, "receiver", &counter("", "(i64.const 6)", ""));
    let (sender, receiver) = (spawn_urgent(&node, "flood"), spawn(&node, "receiver", b""));
    assert_eq!(ask(&node, receiver), 6);
    let payload = receiver.to_bytes().to_vec();
    let reply = node.call(sender, 0, payload, PATIENCE).unwrap();
    assert_eq!(reply.payload, 5u64.to_le_bytes());
    assert_eq!(ask(&node, receiver), 6);
    node.halt();
}

/// The processes that have all frames are in the middle of handlers, and less urgent than the one
/// that wants a frame.
#[test]
fn a_process_of_high_priority_that_waits_for_a_frame_lets_frame_holders_run() {
    let node = node();
    let work = r#"(i32.store (i32.const 40) (i32.const 0))
    (loop $l
      (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
      (br_if $l (i32.lt_u (i32.load (i32.const 40)) (i32.const 20000000))))"#;
    deploy(&node, "busy", &counter(work, "(i64.const 7)", ""));
    deploy(&node, "urgent", &urgent("(i64.const 5)"));
    let late = spawn_urgent(&node, "urgent");
    assert_eq!(ask(&node, late), 5);
    let busy: Vec<Pid> = (0..12).map(|_| spawn(&node, "busy", b"")).collect();
    for pid in &busy {
        node.send(*pid, 0, Vec::new()).unwrap();
    }
    eventually("frames are in use", || node.info().frames >= 6);
    let reply = node.call(late, 0, Vec::new(), PATIENCE).unwrap();
    assert_eq!(reply.payload, 5u64.to_le_bytes());
    for pid in busy {
        let reply = node.call(pid, 0, Vec::new(), PATIENCE).unwrap();
        assert_eq!(reply.payload, 7u64.to_le_bytes());
    }
    node.halt();
}

/// One module has as many processes in endless handlers as it can get frames for.
#[test]
fn endless_handlers_leave_frames_to_other_modules() {
    let node = node_with(|config| {
        config.schedulers = 1;
        config.frames = 16;
    });
    deploy(
        &node,
        "endless",
        &counter("(loop $l (br $l))", "(i64.const 7)", ""),
    );
    deploy(&node, "other", &counter("", "(i64.const 6)", ""));
    let early = spawn(&node, "other", b"");
    for _ in 0..64 {
        let pid = spawn(&node, "endless", b"");
        node.send(pid, 0, Vec::new()).unwrap();
    }
    // 16 are kept, and as many more may be in the middle of handlers: 28 of these 32.
    eventually("it has as many frames as it gets", || {
        node.info().frames_made >= 28
    });
    // One that has been asked before, and new ones.
    assert_eq!(ask(&node, early), 6);
    for _ in 0..8 {
        let pid = spawn(&node, "other", b"");
        assert_eq!(ask(&node, pid), 6);
    }
    assert_eq!(ask(&node, early), 6);
    node.halt();
}

#[test]
fn beyond_the_limit_on_frames_a_wait_returns_limit() {
    let node = node_with(|config| config.frames = 4);
    deploy(&node, "puppet", &puppet::text(1));
    let blocked: Vec<_> = (0..2)
        .map(|_| Puppet::new(&node))
        .map(|puppet| (puppet.begin("sleep", &[1_000_000], b""), puppet))
        .collect();
    let a = Puppet::new(&node);
    a.act("sleep", &[1_000_000], b"").is(Code::Limit);
    a.receive(-1, receive::ANY, 0).is(Code::Limit);
    a.call(blocked[0].1.pid, 1, b"", ROOM, -1).is(Code::Limit);
    // What does not wait needs no frame of its own.
    a.act("sleep", &[0], b"").ok();
    a.call(a.pid, 1, b"", ROOM, 0).is(Code::BadArgument);
    a.call(blocked[0].1.pid, 1, b"", ROOM, 0).is(Code::Timeout);
    // Processes that do not wait are not hindered.
    let many: Vec<_> = (0..20).map(|_| Puppet::new(&node)).collect();
    for puppet in &many {
        assert_eq!(puppet.act("version", &[], b"").result, 1);
    }
    for (begun, puppet) in blocked {
        node.kill(puppet.pid);
        let _ = begun.try_end();
    }
    a.receive(1, receive::ANY, 0).is(Code::Timeout);
    node.halt();
}
