//! What the node reports of a release: one line at the commit and one when all processes are
//! upgraded, each only once.

use std::time::Duration;

use exuvia_node::{DeployOptions, Event, Loops, Node, NodeConfig, Pid, UpgradeReport};
use tokio::sync::broadcast;

use crate::actors::{Actor, X, counts, loops, of, post};
use crate::guests::{ask, deploy, event, eventually, module, node_with, spawn};

/// Sleepers cross when they wake, and never else.
fn no_upgrader(config: &mut NodeConfig) {
    config.background_upgrade_after = Duration::from_secs(3_600);
}

fn quick_upgrader(config: &mut NodeConfig) {
    config.background_upgrade_after = Duration::from_millis(20);
}

/// An actor that answers `number`.
fn answers(number: u64) -> String {
    let request = format!("(i64.const {number})");
    Actor {
        request: &request,
        ..counts()
    }
    .text()
}

/// Processes of `answers(1)` that have run.
fn spawn_many(node: &Node, count: usize) -> Vec<Pid> {
    deploy(node, "actor", &answers(1));
    let pids: Vec<_> = (0..count).map(|_| spawn(node, "actor", b"")).collect();
    for pid in &pids {
        assert_eq!(ask(node, *pid), 1);
    }
    pids
}

#[track_caller]
fn completed(events: &mut broadcast::Receiver<Event>) -> UpgradeReport {
    event(events, "the upgrade has completed", |event| match event {
        Event::UpgradeCompleted(report) => Some(report.clone()),
        _ => None,
    })
}

/// What was said of releases so far, in a word each.
fn said(events: &mut broadcast::Receiver<Event>) -> Vec<String> {
    let mut words = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Swap(report) => words.push(format!("swap {}", report.release)),
            Event::UpgradeCompleted(report) => words.push(match report.superseded_by {
                None => format!("completed {}", report.release),
                Some(by) => format!("superseded {} by {by}", report.release),
            }),
            Event::RolledBack { from, release, .. } => words.push(format!("back {from} {release}")),
            _ => {}
        }
    }
    words
}

#[test]
fn idle_processes_are_reported_when_the_background_upgrader_has_upgraded_them() {
    let node = node_with(quick_upgrader);
    spawn_many(&node, 10);
    let mut events = node.events();
    deploy(&node, "actor", &answers(2));
    let swap = event(&mut events, "the commit", |event| match event {
        Event::Swap(report) => Some(report.clone()),
        Event::UpgradeCompleted(_) => panic!("completed before the commit"),
        _ => None,
    });
    // It is of the commit: no process has been upgraded.
    assert_eq!((swap.processes, swap.verified), (10, 10));
    assert!(swap.upgraded.is_empty(), "{swap:?}");
    assert_eq!((swap.modules[0].from, swap.modules[0].to), (Some(1), 2));
    assert_eq!(swap.verified_by_path, [("migrated", 10)]);
    let why = "one of the modules has no layout fingerprint";
    assert_eq!(swap.not_reused.as_deref(), Some(why));
    assert_eq!(swap.pause_us, [0.0; 3]);
    let report = completed(&mut events);
    assert_eq!((report.release, report.superseded_by), (2, None));
    assert_eq!(report.upgraded, [("migrated", 10)]);
    assert_eq!(
        (
            report.background,
            report.failed,
            report.reverted,
            report.exempt
        ),
        (10, 0, 0, 0)
    );
    assert!(report.pause_us[0] > 0.0, "{report:?}");
    assert_eq!((report.modules[0].from, report.modules[0].to), (Some(1), 2));
    node.halt();
}

#[test]
fn a_process_with_messages_is_upgraded_in_its_own_turn() {
    let node = node_with(no_upgrader);
    let pids = spawn_many(&node, 10);
    let mut events = node.events();
    deploy(&node, "actor", &answers(2));
    for pid in &pids[1..] {
        assert_eq!(ask(&node, *pid), 2);
    }
    // One is left, and so nothing is said yet.
    assert_eq!(said(&mut events), ["swap 2"]);
    assert_eq!(ask(&node, pids[0]), 2);
    let report = completed(&mut events);
    assert_eq!(report.upgraded, [("migrated", 10)]);
    assert_eq!(report.background, 0);
    assert!(report.running_ms.is_some());
    node.halt();
}

#[test]
fn each_release_has_exactly_two_lines() {
    let node = node_with(quick_upgrader);
    let pids = spawn_many(&node, 5);
    let mut events = node.events();
    let mut expected = Vec::new();
    let mut heard = Vec::new();
    for release in 2..6u64 {
        deploy(&node, "actor", &answers(release));
        expected.extend([format!("swap {release}"), format!("completed {release}")]);
        eventually("it settles", || {
            heard.extend(said(&mut events));
            heard.len() >= expected.len()
        });
        assert_eq!(ask(&node, pids[0]), release);
    }
    node.rollback().unwrap();
    expected.extend(["swap 6".to_owned(), "completed 6".to_owned()]);
    eventually("the rollback completes", || {
        heard.extend(said(&mut events));
        heard.len() >= expected.len()
    });
    assert_eq!(heard, expected);
    node.halt();
}

#[test]
fn a_superseded_release_is_reported_as_such() {
    let node = node_with(no_upgrader);
    let pids = spawn_many(&node, 10);
    let mut events = node.events();
    deploy(&node, "actor", &answers(2));
    for pid in &pids[..3] {
        assert_eq!(ask(&node, *pid), 2);
    }
    deploy(&node, "actor", &answers(3));
    let report = completed(&mut events);
    assert_eq!((report.release, report.superseded_by), (2, Some(3)));
    assert_eq!(
        (report.processes, report.upgraded.as_slice()),
        (10, &[("migrated", 3)][..])
    );
    assert_eq!((report.modules[0].from, report.modules[0].to), (Some(1), 2));
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 3);
    }
    // From two versions into the third.
    let report = completed(&mut events);
    assert_eq!((report.release, report.superseded_by), (3, None));
    assert_eq!(report.upgraded, [("migrated", 10)]);
    assert_eq!(said(&mut events), Vec::<String>::new());
    node.halt();
}

#[test]
fn reverted_and_exempt_processes_are_not_waited_for() {
    let node = node_with(no_upgrader);
    let pids = spawn_many(&node, 2);
    deploy(&node, "loops", &loops(false, "(i64.const 1)"));
    let stays = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, stays), 1);
    let mut events = node.events();
    let bad = Actor {
        message: X,
        request: "(i64.const 2)",
        ..counts()
    };
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    let report = node
        .deploy(
            vec![
                module("actor", &bad.text()),
                module("loops", &loops(false, "(i64.const 2)")),
            ],
            leave,
        )
        .unwrap();
    assert_eq!(
        (report.processes, report.verified, report.exempt),
        (3, 2, 1)
    );
    assert_eq!(report.verified_by_path, [("migrated", 2)]);
    post(&node, pids[0], b"x");
    assert_eq!(ask(&node, pids[0]), 1, "it is back in old code");
    assert_eq!(ask(&node, pids[1]), 2);
    let report = completed(&mut events);
    assert_eq!(
        (report.processes, report.upgraded.as_slice()),
        (3, &[("migrated", 2)][..])
    );
    assert_eq!((report.failed, report.reverted, report.exempt), (0, 1, 1));
    assert_eq!(ask(&node, stays), 1);
    // The next release waits for it again, until it ends.
    deploy(&node, "actor", &answers(3));
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 3);
    }
    node.kill(stays);
    let report = completed(&mut events);
    assert_eq!(
        (report.release, report.upgraded.as_slice()),
        (4, &[("migrated", 2)][..])
    );
    node.halt();
}

#[test]
fn a_process_that_ends_before_its_upgrade_is_not_waited_for() {
    let node = node_with(no_upgrader);
    let pids = spawn_many(&node, 3);
    let mut events = node.events();
    deploy(&node, "actor", &answers(2));
    assert_eq!(ask(&node, pids[0]), 2);
    for pid in &pids[1..] {
        node.kill(*pid);
    }
    let report = completed(&mut events);
    assert_eq!(
        (report.processes, report.upgraded.as_slice()),
        (3, &[("migrated", 1)][..])
    );
    node.halt();
}

#[test]
fn a_swap_without_processes_has_one_line() {
    let node = node_with(quick_upgrader);
    spawn_many(&node, 1);
    let mut events = node.events();
    deploy(&node, "other", &answers(1));
    deploy(&node, "other", &answers(2));
    deploy(&node, "actor", &answers(2));
    completed(&mut events);
    let mut again = node.events();
    deploy(&node, "other", &answers(3));
    deploy(&node, "actor", &answers(3));
    assert_eq!(completed(&mut events).release, 6);
    assert_eq!(said(&mut again), ["swap 5", "swap 6", "completed 6"]);
    node.halt();
}

#[test]
fn an_automatic_rollback_is_completed_in_the_background() {
    let node = node_with(no_upgrader);
    let pids = spawn_many(&node, 10);
    let mut events = node.events();
    let bad = Actor {
        message: X,
        request: "(i64.const 2)",
        ..counts()
    };
    deploy(&node, "actor", &bad.text());
    // Five cross and rest there; three fail.
    for pid in &pids[5..] {
        assert_eq!(ask(&node, *pid), 2);
    }
    for pid in &pids[..3] {
        post(&node, *pid, b"x");
    }
    let mut heard = Vec::new();
    eventually("it is superseded", || {
        heard.extend(said(&mut events));
        heard.len() >= 3
    });
    assert_eq!(heard, ["swap 2", "back 2 3", "superseded 2 by 3"]);
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 1);
    }
    let report = completed(&mut events);
    assert_eq!((report.release, report.rollback), (3, true));
    assert_eq!(
        (report.processes, report.upgraded.as_slice()),
        (5, &[("migrated", 5)][..])
    );
    node.halt();
}

#[test]
fn the_background_upgrader_rolls_idle_processes_back_too() {
    let node = node_with(quick_upgrader);
    let pids = spawn_many(&node, 8);
    let bad = Actor {
        message: X,
        request: "(i64.const 2)",
        ..counts()
    };
    let mut events = node.events();
    deploy(&node, "actor", &bad.text());
    // The background upgrader has done its work for this release.
    assert_eq!(completed(&mut events).background, 8);
    for pid in &pids[..3] {
        post(&node, *pid, b"x");
    }
    // The others get no message.
    let report = completed(&mut events);
    assert_eq!(
        (
            report.release,
            report.rollback,
            report.processes,
            report.background
        ),
        (3, true, 5, 5)
    );
    for pid in &pids {
        assert_eq!(of(&node, *pid).module.as_deref(), Some("actor@1"));
    }
    node.halt();
}
