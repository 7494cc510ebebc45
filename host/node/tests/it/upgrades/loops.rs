//! Loops: those that take `UPGRADE` are woken, others are exempt or killed.

use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use exuvia_node::abi::{Kind, Reason};
use exuvia_node::{
    DeployOptions, Event, Filter, Lingering, Loops, Node, Pid, SwapError, UpgradeState,
};

use crate::actors::{Actor, cast, counts, loops, of, post};
use crate::guests::{ask, deploy, event, eventually, module, node, node_with, spawn};
use crate::puppet::{self, Puppet};

/// Whether it stays on its version until it exits.
fn exempt(node: &Node, pid: Pid) -> bool {
    of(node, pid).upgrade == Some(UpgradeState::Exempt)
}

#[test]
fn a_loop_that_takes_upgrade_is_woken_and_upgraded() {
    let node = node();
    deploy(&node, "loops", &loops(true, "(call $count)"));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 2);
    for version in 2..5u64 {
        let answer = format!("(i64.add (call $count) (i64.const {}))", version * 1_000);
        let report = node
            .deploy(
                vec![module("loops", &loops(true, &answer))],
                DeployOptions::default(),
            )
            .unwrap();
        assert_eq!(report.processes, 1);
        // It has got no message.
        eventually("it is upgraded", || {
            u64::from(of(&node, pid).upgrades) == version - 1
        });
        assert_eq!(ask(&node, pid), version * 1_000 + version + 1);
    }
    node.halt();
}

/// A node without background upgrades.
fn without_background_upgrades(
    change: impl FnOnce(&mut exuvia_node::NodeConfig),
) -> exuvia_node::Node {
    node_with(|config| {
        config.background_upgrade_after = Duration::from_secs(3_600);
        change(config);
    })
}

#[test]
fn a_loop_that_takes_upgrade_is_woken_for_a_rollback() {
    let node = without_background_upgrades(|_| {});
    deploy(&node, "loops", &loops(true, "(i64.const 1)"));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    for _ in 0..2 {
        deploy(&node, "loops", &loops(true, "(i64.const 2)"));
        // It waits in new code.
        assert_eq!(ask(&node, pid), 2);
        eventually("it waits", || of(&node, pid).state == "receive");
        node.rollback().unwrap();
        // It has got no message.
        eventually("it is back", || {
            of(&node, pid).module.as_deref() == Some("loops@1")
        });
    }
    assert_eq!(ask(&node, pid), 1);
    node.halt();
}

#[test]
fn a_loop_that_takes_upgrade_is_woken_for_an_automatic_rollback() {
    let node = without_background_upgrades(|config| config.release_threshold = 1);
    deploy(&node, "loops", &loops(true, "(i64.const 1)"));
    let (first, second) = (spawn(&node, "loops", b""), spawn(&node, "loops", b""));
    for pid in [first, second] {
        assert_eq!(ask(&node, pid), 1);
    }
    // The fourth message fails it, the third is its first in new code.
    let answer = "(if (result i64) (i64.eq (call $count) (i64.const 4)) (then (unreachable)) (else (i64.const 2)))";
    deploy(&node, "loops", &loops(true, answer));
    for pid in [first, second] {
        assert_eq!(ask(&node, pid), 2);
        eventually("it waits", || of(&node, pid).state == "receive");
    }
    // New code fails the one; the other is woken by the way back.
    let _ = node.call(first, 0, Vec::new(), Duration::from_secs(20));
    eventually("the other is back", || {
        of(&node, second).module.as_deref() == Some("loops@1")
    });
    assert_eq!(ask(&node, second), 1);
    node.halt();
}

/// While a process is inspected, no other thread can inspect it: that must not keep the background
/// upgrader from waking it.
#[test]
fn a_loop_under_constant_inspection_is_woken_for_a_rollback() {
    let node = without_background_upgrades(|_| {});
    deploy(&node, "loops", &loops(true, "(i64.const 1)"));
    let pid = spawn(&node, "loops", b"");
    let mut events = node.events();
    let inspector = {
        let node = node.clone();
        let (end, ended) = channel::<()>();
        let inspect = move || {
            while ended.try_recv() == Err(TryRecvError::Empty) {
                node.processes(&Filter::default());
            }
        };
        (end, thread::spawn(inspect))
    };
    for _ in 0..50 {
        deploy(&node, "loops", &loops(true, "(i64.const 2)"));
        // Even if it has not been woken yet: new code handles what is sent now.
        assert_eq!(ask(&node, pid), 2);
        node.rollback().unwrap();
        // An inspection would wake it: a process that is not at rest is examined in its turn.
        event(&mut events, "it is back", |event| match event {
            Event::UpgradeCompleted(report) if report.rollback => Some(()),
            _ => None,
        });
    }
    let (end, inspector) = inspector;
    drop(end);
    inspector.join().unwrap();
    node.halt();
}

#[test]
fn a_loop_without_the_flag_blocks_the_commit() {
    let node = node();
    deploy(&node, "loops", &loops(false, "(call $count)"));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 2);
    let next = vec![module("loops", &loops(false, "(i64.const 77)"))];
    let Err(SwapError::Loops { count, first }) = node.deploy(next, DeployOptions::default()) else {
        panic!("it was not refused");
    };
    assert_eq!((count, first), (1, pid));
    assert_eq!(ask(&node, pid), 3);
    assert_eq!(
        (node.info().release, node.info().modules[0].loaded.len()),
        (1, 1)
    );
    node.halt();
}

#[test]
fn an_exempt_loop_stays_on_its_version_until_it_ends() {
    let node = node();
    deploy(&node, "loops", &loops(false, "(call $count)"));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 2);
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    node.deploy(
        vec![module("loops", &loops(false, "(i64.const 77)"))],
        leave,
    )
    .unwrap();
    assert_eq!(ask(&node, pid), 3);
    let seen = of(&node, pid);
    assert_eq!(
        (seen.module.as_deref(), seen.upgrade_reason),
        (Some("loops@1"), None)
    );
    assert_eq!(seen.state, "receive");
    let born = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, born), 77);
    // It refuses no later commit either.
    node.kill(born);
    eventually("it ends", || !node.system().is_alive(born));
    deploy(&node, "loops", &loops(false, "(i64.const 78)"));
    assert_eq!(ask(&node, pid), 4);
    post(&node, pid, b"end");
    eventually("it ends", || !node.system().is_alive(pid));
    let loaded = &node.info().modules[0].loaded;
    assert!(
        loaded.iter().all(|version| version.processes == 0),
        "{loaded:?}"
    );
    node.halt();
}

#[test]
fn a_loop_can_be_killed_for_the_commit() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "loops", &loops(false, "(call $count)"));
    let watch = Puppet::new(&node);
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 2);
    watch.on("monitor", pid).ok();
    let kill = DeployOptions {
        loops: Loops::Kill,
        ..DeployOptions::default()
    };
    node.deploy(vec![module("loops", &loops(false, "(i64.const 77)"))], kill)
        .unwrap();
    watch
        .wait()
        .notifications(Kind::Down, pid, Reason::KILLED.0);
    assert_eq!(ask(&node, spawn(&node, "loops", b"")), 77);
    node.halt();
}

#[test]
fn deploying_the_same_bytes_reports_exempt_processes_and_can_kill_them() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "actor", &counts().text());
    deploy(&node, "loops", &loops(false, "(call $count)"));
    let watch = Puppet::new(&node);
    let left: Vec<_> = (0..2).map(|_| spawn(&node, "loops", b"")).collect();
    for pid in &left {
        assert_eq!(ask(&node, *pid), 2);
    }
    let options = |loops| DeployOptions {
        loops,
        ..DeployOptions::default()
    };
    let exempt_on_first = || Lingering {
        module: "loops@1".into(),
        processes: 2,
    };
    let second = |loops_flag, fresh| {
        let options = DeployOptions {
            fresh,
            ..options(loops_flag)
        };
        let next = loops(false, "(i64.const 77)");
        node.deploy(vec![module("loops", &next)], options).unwrap()
    };
    assert_eq!(second(Loops::Leave, false).exempt, 2);
    let new = spawn(&node, "loops", b"");
    let other = spawn(&node, "actor", b"");
    assert_eq!((ask(&node, new), ask(&node, other)), (77, 0));
    assert_eq!(
        [left[0], left[1], new, other].map(|pid| exempt(&node, pid)),
        [true, true, false, false]
    );
    // Without consent the report has the processes that are left.
    for (flag, fresh) in [
        (Loops::Refuse, false),
        (Loops::Refuse, true),
        (Loops::Leave, false),
    ] {
        let report = second(flag, fresh);
        assert_eq!((report.modules.len(), report.release), (0, 4));
        assert_eq!((report.exempt, report.killed), (2, 0));
        assert_eq!(report.exempt_on, [exempt_on_first()]);
    }
    // A deployment of something else has nothing to do with them.
    let report = node.deploy(
        vec![module("actor", &counts().text())],
        options(Loops::Kill),
    );
    let report = report.unwrap();
    assert_eq!((report.modules.len(), report.release), (0, 4));
    assert_eq!(report.exempt_on, []);
    watch.on("monitor", left[0]).ok();
    watch.on("monitor", left[1]).ok();
    let report = second(Loops::Kill, false);
    assert_eq!((report.modules.len(), report.release), (0, 4));
    assert_eq!((report.exempt, report.killed), (0, 2));
    assert_eq!(report.exempt_on, [exempt_on_first()]);
    for _ in 0..2 {
        let down = watch.wait();
        let pid = left.iter().find(|pid| **pid == down.sender).unwrap();
        down.notifications(Kind::Down, *pid, Reason::KILLED.0);
    }
    assert_eq!((ask(&node, new), ask(&node, other)), (77, 0));
    let report = second(Loops::Kill, false);
    assert_eq!((report.modules.len(), report.release), (0, 4));
    assert_eq!((report.exempt, report.killed), (0, 0));
    node.halt();
}

#[test]
fn the_next_swap_with_kill_ends_processes_that_were_exempt() {
    let node = node();
    let answers = |n: u32| vec![module("loops", &loops(false, &format!("(i64.const {n})")))];
    let options = |loops| DeployOptions {
        loops,
        ..DeployOptions::default()
    };
    node.deploy(answers(1), DeployOptions::default()).unwrap();
    let first = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, first), 1);
    node.deploy(answers(2), options(Loops::Leave)).unwrap();
    let second = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, second), 2);
    let report = node.deploy(answers(3), options(Loops::Kill)).unwrap();
    assert_eq!(report.killed, 2);
    for pid in [first, second] {
        eventually("it ends", || !node.system().is_alive(pid));
    }
    node.halt();
}

#[test]
fn a_loop_that_appears_after_the_commit_is_exempt() {
    // It waits within a handler at the swap. Then it waits for anything, and
    // for the tag 7 again, and never returns.
    let stays = "(loop $stays
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 0) (i64.const 0)))
        (br $stays))";
    let (node, _friend, actor) = cast(Actor {
        message: stays,
        ..counts()
    });
    post(&node, actor, b"");
    eventually("it waits", || of(&node, actor).state == "receive");
    let mut events = node.events();
    let next = |loops| {
        let options = DeployOptions {
            loops,
            ..DeployOptions::default()
        };
        let modules = vec![module("actor", &counts().text())];
        node.deploy(modules, options).unwrap()
    };
    assert_eq!(next(Loops::Refuse).exempt, 0);
    assert!(!exempt(&node, actor));
    node.send(actor, 7, Vec::new()).unwrap();
    eventually("it loops", || exempt(&node, actor));
    // It may stay: the release waits for it no more.
    assert_eq!(next(Loops::Leave).exempt, 1);
    let report = event(&mut events, "it settles", |event| match event {
        Event::UpgradeCompleted(report) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(report.exempt, 1, "{report:?}");
    // It was left, whatever it does now.
    post(&node, actor, b"");
    eventually("it has taken it", || of(&node, actor).mailbox == 0);
    assert!(exempt(&node, actor));
    node.halt();
}

#[test]
fn an_exempt_process_is_current_again_when_its_version_is() {
    let node = node();
    let answers = |n: u32| vec![module("loops", &loops(false, &format!("(i64.const {n})")))];
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    node.deploy(answers(1), DeployOptions::default()).unwrap();
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    node.deploy(answers(2), leave).unwrap();
    assert!(exempt(&node, pid));
    node.rollback().unwrap();
    assert!(!exempt(&node, pid));
    let kill = DeployOptions {
        loops: Loops::Kill,
        ..DeployOptions::default()
    };
    let report = node.deploy(answers(1), kill).unwrap();
    assert_eq!((report.modules.len(), report.release), (0, 3));
    assert_eq!((report.exempt, report.killed), (0, 0));
    assert_eq!(ask(&node, pid), 1);
    node.halt();
}
