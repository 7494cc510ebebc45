//! Observing processes: inspections, traces and samples.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use exuvia_node::abi::Kind;
use exuvia_node::process::{Envelope, Payload};
use exuvia_node::{Direction, Node, Pid, Sort, TargetError, Traced};

use crate::guests::{STATE, ask, counter, deploy, eventually, node, node_with, spawn};

/// Counts its messages, answers the count, and keeps it.
fn counting() -> String {
    let count = "(call $set (i64.add (call $count) (i64.const 1)))";
    counter(count, "(call $count)", STATE)
}

fn next(trace: &Receiver<Traced>) -> Traced {
    trace.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn bytes(count: u64) -> Option<Vec<u8>> {
    Some(count.to_le_bytes().to_vec())
}

#[test]
fn state_can_be_read_wherever_it_is_without_a_change() {
    // One frame: of two processes one is paged out.
    let node = node_with(|config| config.frames = 16);
    deploy(&node, "counter", &counting());
    let pids: Vec<Pid> = (0..64).map(|_| spawn(&node, "counter", &[])).collect();
    for (number, pid) in pids.iter().enumerate() {
        for _ in 0..number % 5 {
            node.send(*pid, 0, Vec::new()).unwrap();
        }
        assert_eq!(ask(&node, *pid), number as u64 % 5);
    }
    let mut states = std::collections::BTreeSet::new();
    for (number, pid) in pids.iter().enumerate() {
        let (inspection, state) = node.inspect(*pid).unwrap();
        assert_eq!(state, bytes(number as u64 % 5), "{inspection:?}");
        states.insert(inspection.process.state.clone());
        assert_eq!(inspection.schema, Some(0));
        assert_eq!(ask(&node, *pid), number as u64 % 5);
    }
    assert!(states.contains("paged out"), "{states:?}");
}

#[test]
fn unreadable_state_is_reported() {
    let node = node();
    deploy(&node, "stateless", &counter("", "(call $count)", ""));
    let pid = spawn(&node, "stateless", &[]);
    ask(&node, pid);
    let (inspection, state) = node.inspect(pid).unwrap();
    assert_eq!(state, None);
    let why = inspection.no_state.unwrap();
    assert!(why.contains("exports no `save`"), "{why}");
    // In the middle of a handler.
    deploy(
        &node,
        "sleeper",
        &counter(
            "(drop (call $sleep (i64.const 60000)))",
            "(call $count)",
            STATE,
        ),
    );
    let sleeper = spawn(&node, "sleeper", &[]);
    ask(&node, sleeper);
    node.send(sleeper, 0, Vec::new()).unwrap();
    node.send(sleeper, 7, vec![1, 2, 3]).unwrap();
    eventually("it sleeps, and one message waits", || {
        let (inspection, state) = node.inspect(sleeper).unwrap();
        let waits = inspection.messages.len() == 1 && inspection.messages[0].tag == 7;
        waits && state.is_none() && inspection.no_state.unwrap().contains("in the middle")
    });
    node.kill(sleeper);
    eventually("it is gone", || {
        matches!(node.inspect(sleeper), Err(TargetError::NoProcess(_)))
    });
}

#[test]
fn a_trace_has_received_and_sent_messages_and_ends_at_its_limit() {
    let node = node();
    deploy(&node, "counter", &counting());
    let pid = spawn(&node, "counter", &[]);
    ask(&node, pid);
    let trace = node.trace(pid, 4).unwrap();
    node.send(pid, 9, b"hello".to_vec()).unwrap();
    let told = next(&trace);
    assert_eq!(told.direction, Direction::Received);
    assert_eq!((told.kind, told.tag, told.bytes), (Kind::Message, 9, 5));
    assert_eq!(told.payload, b"hello");
    ask(&node, pid);
    let (request, reply) = (next(&trace), next(&trace));
    assert_eq!(
        (request.kind, request.direction),
        (Kind::Request, Direction::Received)
    );
    assert_eq!(
        (reply.kind, reply.direction),
        (Kind::Reply, Direction::Sent)
    );
    assert_eq!(
        (reply.peer, reply.reference),
        (request.peer, request.reference)
    );
    assert_eq!(reply.payload, 1_u64.to_le_bytes());
    // A long one is cut, its length is not.
    node.send(pid, 0, vec![7; 1000]).unwrap();
    let last = next(&trace);
    assert_eq!((last.bytes, last.payload.len()), (1000, 256));
    node.send(pid, 0, Vec::new()).unwrap();
    assert!(
        trace.recv_timeout(Duration::from_secs(30)).is_err(),
        "it has ended"
    );

    ask(&node, pid);
    // The second ends the first, and the process's end the second.
    let first = node.trace(pid, 100).unwrap();
    let second = node.trace(pid, 100).unwrap();
    node.send(pid, 1, Vec::new()).unwrap();
    assert_eq!(next(&second).tag, 1);
    assert!(first.try_recv().is_err());
    node.kill(pid);
    assert!(second.recv_timeout(Duration::from_secs(30)).is_err());
    assert!(matches!(node.trace(pid, 1), Err(TargetError::NoProcess(_))));
}

#[test]
fn a_slow_reader_of_a_trace_gets_the_number_of_lost_lines() {
    let node = node();
    deploy(&node, "counter", &counting());
    let pid = spawn(&node, "counter", &[]);
    let trace = node.trace(pid, 1_000_000).unwrap();
    for _ in 0..5_000 {
        node.send(pid, 0, Vec::new()).unwrap();
    }
    assert_eq!(ask(&node, pid), 5_000);
    let mut seen: u64 = 0;
    while trace.try_recv().is_ok() {
        seen += 1;
    }
    assert!(seen >= 1_000, "{seen}");
    node.send(pid, 3, Vec::new()).unwrap();
    let next = next(&trace);
    assert!(next.missed > 0, "{next:?}");
    // INIT is not missed: it was taken before, or is one of them.
    assert!(seen + next.missed >= 5_000, "{seen} and {}", next.missed);
}

#[test]
fn samples_show_which_processes_ran_and_how_much() {
    let node = node();
    let spins = "(loop $on (br $on))";
    deploy(&node, "counter", &counting());
    deploy(&node, "spinner", &counter(spins, "(call $count)", STATE));
    let idle: Vec<Pid> = (0..100).map(|_| spawn(&node, "counter", &[])).collect();
    let spinner = spawn(&node, "spinner", &[]);
    for pid in &idle {
        ask(&node, *pid);
    }
    ask(&node, spinner);
    let first = node.top(Sort::Reductions, 10);
    assert!(
        first.interval_ms == 0.0 && first.top.len() == 10,
        "{first:?}"
    );
    assert!(first.top.iter().all(|it| it.rate == 0.0));
    // The calls are over, and no process has run.
    eventually("a sample in which no process has run", || {
        node.top(Sort::Reductions, 10).ran == 0
    });
    // A process that never rests is first, though it cannot be inspected at rest.
    node.send(spinner, 0, Vec::new()).unwrap();
    eventually("the busy one is first", || {
        let top = node.top(Sort::Reductions, 3);
        let it = &top.top[0];
        let known = it.process.module.as_deref() == Some("spinner@1");
        it.process.pid == spinner.to_string() && known && it.rate > 1_000_000.0 && top.ran <= 3
    });
    // Messages that wait.
    let system = node.system();
    let waiting = Envelope::message(Pid::NONE, 0, Payload::empty());
    for _ in 0..7 {
        system.send(spinner, waiting.clone()).unwrap();
    }
    eventually("the one with messages is first", || {
        let top = node.top(Sort::Mailbox, 1);
        top.top[0].process.pid == spinner.to_string() && top.top[0].process.mailbox >= 7
    });
    node.kill(spinner);
    eventually("it is gone", || {
        let top = node.top(Sort::Mailbox, 200);
        top.top
            .iter()
            .all(|it| it.process.pid != spinner.to_string())
    });
    inspection_is_cheap(&node);
}

/// A sample in which no process has run wakes none.
fn inspection_is_cheap(node: &Node) {
    eventually("all is quiet", || node.top(Sort::Reductions, 1).ran == 0);
    let before: u64 = node.scheduler().metrics().total().slices;
    for _ in 0..10 {
        assert_eq!(node.top(Sort::Reductions, 1).ran, 0);
    }
    assert_eq!(node.scheduler().metrics().total().slices, before);
}

/// A continuation that does not end keeps its process on old code, and with it the
/// release from completing: `ps` shows it.
#[test]
fn processes_that_keep_a_release_loaded_are_listed() {
    let waits = |more: &str| {
        format!(
            r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (drop (call $receive (i32.const 64) (i32.const 512) (i32.const 512) (i64.const 0) (i32.const 0) (i64.const 0)))
    (i32.const 1))
  (func (export "save") (result i32) (i32.const 1))
  (func (export "load") (param i32 i32) (result i32) (i32.const 1))
  {more})"#
        )
    };
    let node = node();
    deploy(&node, "w", &waits(""));
    let pid = spawn(&node, "w", &[]);
    let state = || node.inspect(pid).unwrap().0.process.state;
    eventually("it waits", || state() == "waiting");
    deploy(&node, "w", &waits("(func $next)"));
    assert_eq!(state(), "waiting, holds up the release");
    node.send(pid, 0, Vec::new()).unwrap();
    eventually("it has taken its message", || {
        node.inspect(pid).unwrap().0.process.mailbox == 0
    });
    assert_eq!(state(), "waiting, holds up the release");
    node.halt();
}
