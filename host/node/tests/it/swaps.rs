//! Swaps: what becomes of state, messages and processes when code changes.

use std::time::Duration;

use exuvia_node::{
    DeployOptions, Event, Loops, Node, NodeConfig, Outdated, Pid, SpawnOptions, SwapError,
    UpgradeState,
};

use crate::actors::{ADD, Actor, cast, counts, handles, loops, of, post};
use crate::guests::{
    STATE, ask, counter, deploy, event, eventually, module, node, node_with, spawn,
};

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

/// A counter that says that its state has a schema, and that `load` takes these others.
fn states(schema: i32, loads: &str) -> String {
    let state = format!("{{\"schema\": {schema}, \"loads\": {loads}, \"type\": \"bytes\"}}");
    let state = state.escape_default();
    counter(
        &format!("(call $set (i64.add (call $count) (i64.const {schema})))"),
        "(call $count)",
        &format!(
            r#"{STATE} (global (export "exuvia_schema") i32 (i32.const {schema})) (@custom "exuvia.state" "{state}")"#
        ),
    )
}

/// `load` of this module would take all; what the module says comes first.
#[test]
fn code_that_does_not_take_the_schema_is_refused_before_a_process_is_looked_at() {
    let node = node();
    deploy(&node, "counter", &states(1, "[]"));
    let pid = spawn(&node, "counter", b"");
    assert_eq!(ask(&node, pid), 0);
    let refused = node.deploy(
        vec![module("counter", &states(2, "[]"))],
        DeployOptions::default(),
    );
    let Err(SwapError::Verify(error)) = refused else {
        panic!("{refused:?}");
    };
    let text = error.to_string();
    let why = "`load` takes schema 2, and the state has schema 1: convert schema 1 in `load`";
    assert!(text.contains(why), "{text}");
    assert!(error.help().contains("--fresh"), "{}", error.help());
    deploy(&node, "counter", &states(2, "[1]"));
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 2);
    node.halt();
}

/// The versions between may convert what the newest one does not take.
#[test]
fn a_schema_that_is_not_taken_directly_is_not_refused_while_versions_lie_between() {
    let node = node();
    deploy(&node, "counter", &states(1, "[]"));
    let pid = spawn(&node, "counter", b"");
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 1);
    // It stays on the first version.
    node.suspend(pid).unwrap();
    deploy(&node, "counter", &states(2, "[1]"));
    deploy(&node, "counter", &states(3, "[2]"));
    node.resume(pid).unwrap();
    node.send(pid, 0, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 4);
    node.halt();
}

#[test]
fn equal_layouts_are_reused_and_others_are_not() {
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
fn new_code_that_traps_restores_state_and_message() {
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
        returned |= matches!(event, exuvia_node::Event::Reverted { .. });
    }
    assert!(returned);
    node.halt();
}

#[test]
fn a_release_that_fails_too_often_is_rolled_back() {
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
fn swaps_back_and_forth_work_twice() {
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
fn a_rejected_swap_leaves_nothing_behind() {
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

/// Sleepers cross when they wake, and never else.
fn no_upgrader(config: &mut NodeConfig) {
    config.background_upgrade_after = Duration::from_secs(3_600);
}

#[test]
fn two_modules_are_swapped_together_or_not_at_all() {
    let node = node();
    deploy(&node, "one", &adds(1));
    deploy(&node, "two", &adds(1));
    let pids = [spawn(&node, "one", b""), spawn(&node, "two", b"")];
    for pid in pids {
        node.send(pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, pid), 1);
    }
    let stateless = counter("", "(i64.const 1)", "");
    for second in [stateless.as_str(), "(module)"] {
        let modules = vec![module("one", &adds(10)), module("two", second)];
        node.deploy(modules, DeployOptions::default()).unwrap_err();
        let info = node.info();
        assert_eq!(info.release, 2);
        for module in &info.modules {
            assert_eq!((module.version, module.loaded.len()), (1, 1), "{module:?}");
        }
        for pid in pids {
            node.send(pid, 0, Vec::new()).unwrap();
        }
    }
    for pid in pids {
        assert_eq!(ask(&node, pid), 3);
    }
    // What was refused with the other is no hindrance alone.
    let both = vec![module("one", &adds(10)), module("two", &adds(20))];
    let report = node.deploy(both, DeployOptions::default()).unwrap();
    assert_eq!((report.release, report.modules.len()), (3, 2));
    for (pid, expected) in pids.into_iter().zip([13, 23]) {
        node.send(pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, pid), expected);
    }
    node.halt();
}

/// A node with ten counters at 1, on the first version.
fn ten() -> (Node, Vec<Pid>) {
    let node = node_with(no_upgrader);
    deploy(&node, "counter", &adds(1));
    let pids: Vec<_> = (0..10).map(|_| spawn(&node, "counter", b"")).collect();
    for pid in &pids {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), 1);
    }
    (node, pids)
}

#[test]
fn a_rollback_leaves_idle_processes_that_were_not_upgraded_unchanged() {
    let (node, pids) = ten();
    deploy(&node, "counter", &adds(100));
    for pid in &pids[..4] {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), 101);
    }
    let report = node.rollback().unwrap();
    assert!(report.rollback);
    assert_eq!(report.processes, 4, "the others have never left");
    for (index, pid) in pids.iter().enumerate() {
        node.send(*pid, 0, Vec::new()).unwrap();
        let (count, crossings) = if index < 4 { (102, 2) } else { (2, 0) };
        assert_eq!(ask(&node, *pid), count, "counter {index}");
        let seen = of(&node, *pid);
        assert_eq!(
            (seen.module.as_deref(), seen.upgrades),
            (Some("counter@1"), crossings)
        );
    }
    node.halt();
}

#[test]
fn a_third_release_upgrades_processes_of_the_first_and_second() {
    let (node, pids) = ten();
    deploy(&node, "counter", &adds(10));
    for pid in &pids[..4] {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), 11);
    }
    let next = vec![module("counter", &adds(100))];
    let report = node.deploy(next, DeployOptions::default()).unwrap();
    assert_eq!((report.processes, report.verified), (10, 10));
    let loaded = |node: &Node| -> Vec<_> {
        let loaded = &node.info().modules[0].loaded;
        loaded.iter().map(|it| (it.version, it.processes)).collect()
    };
    assert_eq!(loaded(&node), [(1, 6), (2, 4), (3, 0)]);
    for (index, pid) in pids.iter().enumerate() {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), if index < 4 { 111 } else { 101 });
    }
    assert_eq!(loaded(&node), [(1, 0), (2, 0), (3, 10)]);
    // And all of them back to where only some have been.
    node.rollback().unwrap();
    for (index, pid) in pids.iter().enumerate() {
        node.send(*pid, 0, Vec::new()).unwrap();
        assert_eq!(ask(&node, *pid), if index < 4 { 121 } else { 111 });
    }
    assert_eq!(loaded(&node), [(1, 0), (2, 10), (3, 0)]);
    node.halt();
}

#[test]
fn a_version_is_unloaded_when_its_last_process_ends() {
    let node = node_with(|config| config.background_upgrade_after = Duration::from_millis(20));
    let answer = |n: u32| format!("(i64.const {n})");
    deploy(&node, "loops", &loops(false, &answer(1)));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    for version in 2..=5 {
        let next = vec![module("loops", &loops(false, &answer(version)))];
        node.deploy(next, leave.clone()).unwrap();
    }
    let loaded = || -> Vec<_> {
        let loaded = &node.info().modules[0].loaded;
        loaded.iter().map(|it| it.version).collect()
    };
    // The first is needed, and no other but two to go back to and the current one.
    eventually("unused versions are unloaded", || loaded() == [1, 3, 4, 5]);
    assert_eq!(ask(&node, pid), 1);
    node.kill(pid);
    // Two to go back to, and the current one.
    eventually("it is unloaded", || loaded() == [3, 4, 5]);
    node.halt();
}

// ---- code that crosses badly ------------------------------------------------------

/// `save` and `load` of an actor, with something before each.
fn crosses(save: &str, load: &str) -> String {
    format!(
        r#"
  (func (export "save") (result i32) {save} (call $state_put (i32.const 16) (i32.const 24)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 16) (i32.const 24))) {load} (i32.const 0))"#
    )
}

/// What crossing code must not do, and what is said of it.
const MISDEEDS: [(&str, &str); 5] = [
    ("(unreachable)", "unreachable"),
    ("(loop $l (br $l))", "within 20000000 reductions"),
    (
        "(drop (call $send (i32.const 24) (i32.const 5) (i32.const 16) (i32.const 8)))",
        "`send` is not available while `load` runs",
    ),
    ("(return (i32.const 1))", "`load` returned 1"),
    (
        "(drop (call $log (i32.const 1) (i32.const 1072) (i32.const 17))) (return (i32.const 1))",
        "`load` failed: too many to count",
    ),
];

#[test]
fn a_failing_load_is_rejected_with_process_cause_and_fix() {
    let node = node();
    deploy(&node, "actor", &counts().text());
    let named = SpawnOptions {
        name: Some("the-actor".into()),
        ..SpawnOptions::default()
    };
    let actor = node.spawn("actor", b"", &named).unwrap();
    assert_eq!(ask(&node, actor), 0);
    let mut events = node.events();
    for (misdeed, cause) in MISDEEDS {
        let state = crosses("", misdeed);
        let next = Actor {
            state: Some(&state),
            ..counts()
        };
        let modules = vec![module("actor", &next.text())];
        // In the middle of a turn it could not be verified.
        eventually("it is at rest", || node.capture(actor).is_ok());
        let error = node.deploy(modules, DeployOptions::default()).unwrap_err();
        assert!(matches!(error, SwapError::Verify(_)), "{error:?}");
        let text = error.to_string();
        for part in [&actor.to_string(), "the-actor", cause] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        let fix = error.help().unwrap();
        assert!(fix.contains("`load`") && fix.contains("--fresh"), "{fix}");
        if cause.contains("reductions") {
            assert!(text.contains("do less here"), "{text}");
        }
        let refused = event(&mut events, "the refusal", |event| match event {
            Event::Refused {
                process,
                cause,
                help,
                ..
            } => Some((process.clone(), cause.clone(), help.clone())),
            _ => None,
        });
        // Process, cause and fix, and nothing of what else was tried.
        let (process, why, help) = refused;
        let process = process.unwrap();
        for part in [&actor.to_string(), "the-actor"] {
            assert!(process.contains(part), "`{part}` is not in: {process}");
        }
        assert!(why.contains(cause), "`{cause}` is not in: {why}");
        assert!(!why.contains("reused") && !why.contains("refused"), "{why}");
        assert_eq!(help, Some(fix));
        let info = node.info();
        assert_eq!((info.release, info.modules[0].loaded.len()), (1, 1));
        post(&node, actor, b"");
    }
    assert_eq!(ask(&node, actor), MISDEEDS.len() as u64);
    assert_eq!(of(&node, actor).upgrade_reason, None);
    node.halt();
}

#[test]
fn a_failing_save_is_rejected_too() {
    for (misdeed, cause) in &MISDEEDS[..3] {
        let node = node();
        let state = crosses(misdeed, "");
        let first = Actor {
            state: Some(&state),
            ..counts()
        };
        deploy(&node, "actor", &first.text());
        let actor = spawn(&node, "actor", b"");
        assert_eq!(ask(&node, actor), 0);
        let modules = vec![module("actor", &counts().text())];
        let error = node.deploy(modules, DeployOptions::default()).unwrap_err();
        let text = error.to_string();
        let cause = cause.replace("`load`", "`save`");
        assert!(text.contains(&cause), "`{cause}` is not in: {text}");
        assert_eq!(ask(&node, actor), 0);
        node.halt();
    }
}

#[test]
fn deploying_the_same_bytes_with_consent_resets_a_failed_process() {
    let waits = "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 119)) (then
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))
        (call $set (i64.const 10))))";
    let (node, _friend, actor) = cast(Actor {
        message: waits,
        ..counts()
    });
    post(&node, actor, b"wait");
    eventually("it waits", || of(&node, actor).state == "receive");
    let state = crosses(
        "",
        "(if (i64.gt_u (call $count) (i64.const 5)) (then (unreachable)))",
    );
    let next = Actor {
        message: ADD,
        state: Some(&state),
        ..Actor::default()
    };
    deploy(&node, "actor", &next.text());
    node.send(actor, 7, Vec::new()).unwrap();
    eventually("it is stuck", || of(&node, actor).upgrade_reason.is_some());
    let again = |fresh| {
        let options = DeployOptions {
            fresh,
            ..DeployOptions::default()
        };
        let modules = vec![module("actor", &next.text())];
        node.deploy(modules, options).unwrap()
    };
    let release = node.info().release;
    let report = again(false);
    assert_eq!((report.modules.len(), report.release), (0, release));
    let failed = Outdated {
        module: "actor@1".into(),
        processes: 1,
        reverted: 0,
        failed: 1,
        exempt: 0,
    };
    assert_eq!(report.outdated, [failed]);
    let report = again(true);
    assert_eq!((report.modules[0].from, report.modules[0].to), (Some(2), 2));
    assert_eq!((report.processes, report.verified), (1, 1));
    assert_eq!(report.verified_by_path, [("reset", 1)]);
    assert_eq!(ask(&node, actor), 0);
    let seen = of(&node, actor);
    assert_eq!(
        (seen.module.as_deref(), seen.upgrade_reason),
        (Some("actor@2"), None)
    );
    let report = again(true);
    assert_eq!((report.modules.len(), report.release), (0, release + 1));
    assert_eq!(report.outdated, []);
    // The way back leads to other code, not to the same.
    node.rollback().unwrap();
    assert_eq!(ask(&node, actor), 0);
    assert_eq!(of(&node, actor).module.as_deref(), Some("actor@1"));
    node.halt();
}

#[test]
fn a_load_that_fails_after_the_commit_marks_the_process_failed() {
    // While it waits in a handler its state is not verified, and then changes.
    let waits = "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 119)) (then
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))
        (call $set (i64.const 10))))";
    for (misdeed, cause) in MISDEEDS {
        let (node, _friend, actor) = cast(handles(waits));
        post(&node, actor, b"wait");
        eventually("it waits", || of(&node, actor).state == "receive");
        let load = format!("(if (i64.gt_u (call $count) (i64.const 5)) (then {misdeed}))");
        let state = crosses("", &load);
        let next = Actor {
            message: ADD,
            state: Some(&state),
            ..Actor::default()
        };
        let (mut events, mut failures) = (node.events(), node.events());
        deploy(&node, "actor", &next.text());
        node.send(actor, 7, Vec::new()).unwrap();
        let why = event(&mut failures, "it is stuck", |event| match event {
            Event::UpgradeFailed { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert!(why.contains(cause), "`{cause}` is not in: {why}");
        let report = event(&mut events, "it settles", |event| match event {
            Event::UpgradeCompleted(report) => Some(report.clone()),
            _ => None,
        });
        assert_eq!((report.failed, report.upgraded.len()), (1, 0), "{report:?}");
        assert_eq!(ask(&node, actor), 10);
        let seen = of(&node, actor);
        assert_eq!(
            (seen.upgrade, seen.module.as_deref()),
            (Some(UpgradeState::Failed), Some("actor@1"))
        );
        let why = seen.upgrade_reason.unwrap();
        assert!(why.contains(cause), "`{cause}` is not in: {why}");
        // Back where it is, it is stuck no more.
        node.rollback().unwrap();
        assert_eq!(ask(&node, actor), 10);
        assert_eq!(of(&node, actor).upgrade_reason, None);
        node.halt();
    }
}
