//! Swaps: what becomes of state, messages and processes when code changes.

use exuvia_node::{DeployOptions, SwapError};

use crate::guests::{STATE, ask, counter, deploy, module, node, spawn};

/// A counter that adds `step`, with save and load.
fn adds(step: u64) -> String {
    counter(
        &format!("(call $set (i64.add (call $count) (i64.const {step})))"),
        "(call $count)",
        STATE,
    )
}

/// The same with a layout fingerprint and no `save`.
fn adds_with_layout(step: u64, layout: &str) -> String {
    counter(
        &format!("(call $set (i64.add (call $count) (i64.const {step})))"),
        "(call $count)",
        &format!(r#"(@custom "exuvia.layout" "{layout}")"#),
    )
}

#[test]
fn state_is_migrated_and_the_new_code_runs() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pids: Vec<_> = (0..100).map(|_| spawn(&node, "counter", b"")).collect();
    for pid in &pids {
        for _ in 0..5 {
            node.send(*pid, 0, Vec::new()).unwrap();
        }
        assert_eq!(ask(&node, *pid), 5);
    }
    let report = node
        .deploy(
            vec![module("counter", &adds(100))],
            DeployOptions::default(),
        )
        .unwrap();
    assert_eq!((report.processes, report.verified), (100, 100));
    for pid in &pids {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), 105);
    }
    assert_eq!(node.info().modules[0].processes, 100);
    node.halt();
}

#[test]
fn equal_layouts_are_carried_and_others_are_not() {
    let node = node();
    deploy(&node, "counter", &adds_with_layout(1, "a"));
    let pid = spawn(&node, "counter", b"");
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 1);
    deploy(&node, "counter", &adds_with_layout(10, "a"));
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 11);
    let refused = node.deploy(
        vec![module("counter", &adds_with_layout(10, "b"))],
        DeployOptions::default(),
    );
    let Err(SwapError::Verify(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        error.to_string().contains("layout fingerprints differ"),
        "{error}"
    );
    assert_eq!(ask(&node, pid), 11);
    node.halt();
}

#[test]
fn new_code_that_traps_gives_state_and_message_back() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pid = spawn(&node, "counter", b"");
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 1);
    let mut events = node.events();
    deploy(
        &node,
        "counter",
        &counter("(unreachable)", "(call $count)", STATE),
    );
    node.send(pid, 0, Vec::new()).unwrap();
    // Old code has handled the message.
    assert_eq!(ask(&node, pid), 2);
    let mut returned = false;
    while let Ok(event) = events.try_recv() {
        returned |= matches!(event, exuvia_node::Event::Returned { .. });
    }
    assert!(returned);
    node.halt();
}

#[test]
fn a_release_that_fails_too_often_goes_back() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pids: Vec<_> = (0..20).map(|_| spawn(&node, "counter", b"")).collect();
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 0);
    }
    deploy(
        &node,
        "counter",
        &counter("(unreachable)", "(i64.const 77)", STATE),
    );
    for pid in &pids {
        node.send(*pid, 0, Vec::new()).unwrap();
    }
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 1);
    }
    let info = node.info();
    assert_eq!((info.release, info.modules[0].version), (3, 1));
    node.halt();
}

#[test]
fn to_and_fro_twice() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pid = spawn(&node, "counter", b"");
    let mut expected = 0;
    for _ in 0..2 {
        for step in [2, 3, 2, 1] {
            deploy(&node, "counter", &adds(step));
            for _ in 0..5 {
                node.send(pid, 0, Vec::new()).unwrap();
                expected += step;
                assert_eq!(ask(&node, pid), expected);
            }
        }
    }
    node.halt();
}

#[test]
fn rollback_brings_the_old_code_back_with_the_state() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pid = spawn(&node, "counter", b"");
    deploy(&node, "counter", &adds(10));
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 10);
    node.rollback().unwrap();
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 11);
    assert!(matches!(node.rollback(), Err(SwapError::Commit(_))));
    node.halt();
}

#[test]
fn a_refused_swap_leaves_no_remains() {
    let node = node();
    deploy(&node, "counter", &adds(1));
    let pid = spawn(&node, "counter", b"");
    assert_eq!(ask(&node, pid), 0);
    for _ in 0..3 {
        let broken = counter("", "(i64.const 1)", "");
        assert!(
            node.deploy(vec![module("counter", &broken)], DeployOptions::default())
                .is_err()
        );
    }
    assert_eq!(node.info().modules[0].loaded.len(), 1);
    deploy(&node, "counter", &adds(2));
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 2);
    node.halt();
}
