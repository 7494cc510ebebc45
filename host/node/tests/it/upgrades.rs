//! How processes are upgraded: loops, state that is migrated, discarded or kept by
//! a failed process, versions between, idle processes.

use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use exuvia_node::abi::{Kind, Reason};
use exuvia_node::{
    CallFailed, DeployOptions, Event, Filter, Lingering, Loops, Node, Pid, SwapError, UpgradeState,
};

use crate::actors::{ADD, Actor, STATE, TELL, cast, counts, handles, loops, of, post};
use crate::guests::{ask, deploy, event, eventually, module, node, node_with, spawn};
use crate::puppet::{self, Puppet};

// ---- loops ---------------------------------------------------------------------

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
        // Nobody has written to it.
        eventually("it is upgraded", || {
            u64::from(of(&node, pid).upgrades) == version - 1
        });
        assert_eq!(ask(&node, pid), version * 1_000 + version + 1);
    }
    node.halt();
}

/// A node without background upgrades.
fn unswept(change: impl FnOnce(&mut exuvia_node::NodeConfig)) -> exuvia_node::Node {
    node_with(|config| {
        config.background_upgrade_after = Duration::from_secs(3_600);
        change(config);
    })
}

#[test]
fn a_loop_that_takes_upgrade_is_woken_for_a_rollback() {
    let node = unswept(|_| {});
    deploy(&node, "loops", &loops(true, "(i64.const 1)"));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    for _ in 0..2 {
        deploy(&node, "loops", &loops(true, "(i64.const 2)"));
        // It waits in new code.
        assert_eq!(ask(&node, pid), 2);
        eventually("it waits", || of(&node, pid).state == "receive");
        node.rollback().unwrap();
        // Nobody has written to it.
        eventually("it is back", || {
            of(&node, pid).module.as_deref() == Some("loops@1")
        });
    }
    assert_eq!(ask(&node, pid), 1);
    node.halt();
}

#[test]
fn a_loop_that_takes_upgrade_is_woken_for_an_automatic_rollback() {
    let node = unswept(|config| config.release_threshold = 1);
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

/// Whoever looks at a process keeps others from looking meanwhile; whoever wants
/// to wake it must not take that for an answer.
#[test]
fn a_loop_under_constant_inspection_is_woken_for_a_rollback() {
    let node = unswept(|_| {});
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
        // Also if nobody has woken it yet: new code is for what is sent now.
        assert_eq!(ask(&node, pid), 2);
        node.rollback().unwrap();
        // To look here would wake it: who is not at rest is asked in its turn.
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
    // Without consent it says who is left, and what would end them.
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
        let who = left.iter().find(|pid| **pid == down.sender).unwrap();
        down.notifications(Kind::Down, *who, Reason::KILLED.0);
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

// ---- ways over -------------------------------------------------------------------

#[test]
fn state_is_discarded_only_with_consent() {
    let none = Actor {
        state: Some(""),
        ..counts()
    };
    let (node, friend, actor) = cast(none);
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 1);
    let next = Actor {
        message: &[ADD, ADD, TELL].concat(),
        state: Some(""),
        ..counts()
    };
    let modules = || vec![module("actor", &next.text())];
    let refused = node.deploy(modules(), DeployOptions::default());
    let Err(SwapError::Verify(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains(&actor.to_string()), "{error}");
    let fresh = DeployOptions {
        fresh: true,
        ..DeployOptions::default()
    };
    node.deploy(modules(), fresh).unwrap();
    // It begins again: INIT with its first arguments, then what waits.
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 2);
    friend.wait().message(Kind::Message, &2u64.to_le_bytes());
    assert_eq!(of(&node, actor).module.as_deref(), Some("actor@2"));
    node.halt();
}

#[test]
fn an_upgrade_that_fails_after_the_commit_leaves_the_process_unchanged() {
    // Its state changes in a handler that began before the commit.
    let waits = "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 119)) (then
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))
        (call $set (i64.add (call $count) (i64.const 10)))))";
    let (node, friend, actor) = cast(handles(waits));
    post(&node, actor, b"wait");
    eventually("it waits", || of(&node, actor).state == "receive");
    let few = r#"
  (func (export "save") (result i32) (call $state_put (i32.const 16) (i32.const 24)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 16) (i32.const 24)))
    (if (i64.gt_u (call $count) (i64.const 5)) (then
      (drop (call $log (i32.const 1) (i32.const 1072) (i32.const 17))) (return (i32.const 1))))
    (i32.const 0))"#;
    let mut events = node.events();
    let next = Actor {
        message: ADD,
        state: Some(few),
        ..counts()
    };
    deploy(&node, "actor", &next.text());
    node.send(actor, 7, Vec::new()).unwrap();
    let wanted = actor.to_string();
    let reason = event(&mut events, "it is stuck", |event| match event {
        Event::UpgradeFailed { pid, reason, .. } if *pid == wanted => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("too many to count"), "{reason}");
    assert_eq!(ask(&node, actor), 10);
    let seen = of(&node, actor);
    assert_eq!(
        (seen.module.as_deref(), seen.upgrades),
        (Some("actor@1"), 0)
    );
    assert_eq!(
        (seen.upgrade, seen.upgrade_reason.as_deref()),
        (Some(UpgradeState::Failed), Some(reason.as_str()))
    );
    // A later release that takes its state is not refused for the past.
    let better = [ADD, ADD].concat();
    deploy(&node, "actor", &handles(&better).text());
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 12);
    assert_eq!(of(&node, actor).upgrade_reason, None);
    friend.has_nothing();
    node.halt();
}

/// `load` that takes one schema only, and adds to the count what it is told.
fn takes(schema: u32, from: u32, adds: u64) -> String {
    format!(
        r#"
  (global (export "exuvia_schema") i32 (i32.const {schema}))
  (func (export "save") (result i32) (call $state_put (i32.const 16) (i32.const 24)))
  (func (export "load") (param i32 i32) (result i32)
    (if (i32.ne (local.get 0) (i32.const {from})) (then (return (i32.const 1))))
    (drop (call $state_get (i32.const 16) (i32.const 24)))
    (call $set (i64.add (call $count) (i64.const {adds})))
    (i32.const 0))"#
    )
}

fn sleepers(config: &mut exuvia_node::NodeConfig) {
    config.background_upgrade_after = Duration::from_secs(3_600);
}

#[test]
fn an_idle_process_is_upgraded_over_two_versions_in_one_step() {
    let node = node_with(sleepers);
    let with = |state: &str| {
        Actor {
            state: Some(state),
            ..counts()
        }
        .text()
    };
    deploy(&node, "actor", &with(&takes(1, 1, 0)));
    let actor = spawn(&node, "actor", b"");
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 1);
    deploy(&node, "actor", &with(&takes(2, 1, 100)));
    deploy(&node, "actor", &with(&takes(3, 1, 1_000)));
    assert_eq!(ask(&node, actor), 1_001);
    let seen = of(&node, actor);
    assert_eq!(
        (seen.module.as_deref(), seen.upgrades),
        (Some("actor@3"), 1)
    );
    node.halt();
}

#[test]
fn an_idle_process_is_upgraded_through_the_schema_between() {
    let node = node_with(sleepers);
    let with = |state: &str| {
        Actor {
            state: Some(state),
            ..counts()
        }
        .text()
    };
    deploy(&node, "actor", &with(&takes(1, 1, 0)));
    let actor = spawn(&node, "actor", b"");
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 1);
    deploy(&node, "actor", &with(&takes(2, 1, 100)));
    // It takes nothing but the second's schema.
    deploy(&node, "actor", &with(&takes(3, 2, 1_000)));
    assert_eq!(ask(&node, actor), 1_101);
    assert_eq!(of(&node, actor).upgrades, 1);
    node.halt();
}

#[test]
fn the_background_upgrader_upgrades_idle_processes_and_old_versions_are_unloaded() {
    let node = node_with(|config| config.background_upgrade_after = Duration::from_millis(20));
    deploy(&node, "actor", &counts().text());
    let pids: Vec<_> = (0..100).map(|_| spawn(&node, "actor", b"")).collect();
    for pid in &pids {
        assert_eq!(ask(&node, *pid), 0);
    }
    for version in 2..=5u32 {
        let answer = format!("(i64.const {version})");
        deploy(
            &node,
            "actor",
            &Actor {
                request: &answer,
                ..counts()
            }
            .text(),
        );
        eventually("all are upgraded", || {
            node.info().modules[0].processes == 100
        });
    }
    // Two to go back to, and the current one.
    eventually("old versions are unloaded", || {
        let loaded = &node.info().modules[0].loaded;
        loaded.iter().map(|version| version.version).eq([3, 4, 5])
    });
    assert_eq!(ask(&node, pids[0]), 5);
    node.rollback().unwrap();
    assert_eq!(ask(&node, pids[1]), 4);
    node.halt();
}

#[test]
fn a_process_that_waits_for_a_reply_survives_the_swap_of_both_ends() {
    let (node, friend, actor) = cast(counts());
    // It asks its friend in the middle of a handler, and counts the answer.
    let asks = "(i32.store (i32.const 128) (i32.const 48))
      (drop (call $call (i32.const 24) (i32.const 9) (i32.const 16) (i32.const 8) (i32.const 128) (i32.const 200) (i32.const 8) (i64.const -1)))
      (call $set (i64.add (call $count) (i64.load (i32.const 200))))";
    deploy(&node, "actor", &handles(asks).text());
    post(&node, actor, b"");
    let asked = friend.wait().message(Kind::Request, &0u64.to_le_bytes());
    // Four later messages wait behind it.
    for _ in 0..4 {
        post(&node, actor, b"");
    }
    deploy(
        &node,
        "actor",
        &counts().text().replace("too many", "TOO MANY"),
    );
    deploy(&node, "puppet", &puppet::text(2));
    friend
        .reply(asked.sender, asked.message, 0, &50u64.to_le_bytes())
        .ok();
    assert_eq!(ask(&node, actor), 54);
    assert_eq!(friend.act("version", &[], b"").result, 2);
    node.halt();
}

#[test]
fn only_allowed_host_calls_work_during_an_upgrade() {
    let (node, _, actor) = cast(counts());
    let sends = STATE.replace(
        "(drop (call $state_get",
        "(drop (call $send (i32.const 24) (i32.const 5) (i32.const 16) (i32.const 8))) (drop (call $state_get",
    );
    let refused = node.deploy(
        vec![module(
            "actor",
            &Actor {
                state: Some(&sends),
                ..counts()
            }
            .text(),
        )],
        DeployOptions::default(),
    );
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("`send` is not available while `load` runs"),
        "{error}"
    );
    let endless = STATE.replace("(i32.const 0))", "(loop $l (br $l)) (i32.const 0))");
    let refused = node.deploy(
        vec![module(
            "actor",
            &Actor {
                state: Some(&endless),
                ..counts()
            }
            .text(),
        )],
        DeployOptions::default(),
    );
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("within 20000000 reductions"), "{error}");
    assert_eq!(ask(&node, actor), 0);
    assert!(matches!(
        node.call(Pid::NONE, 0, Vec::new(), Duration::from_secs(1)),
        Err(CallFailed::Send(_))
    ));
    node.halt();
}
