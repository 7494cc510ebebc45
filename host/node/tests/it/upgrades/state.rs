//! State: migrated, discarded, or kept by a process whose upgrade failed; versions between; idle
//! processes.

use std::time::Duration;

use exuvia_node::abi::Kind;
use exuvia_node::{CallFailed, DeployOptions, Event, Pid, SwapError, UpgradeState};

use crate::actors::{ADD, Actor, STATE, TELL, cast, counts, handles, of, post};
use crate::guests::{ask, deploy, event, eventually, module, node_with, spawn};
use crate::puppet::{self};

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

/// `load` that takes one schema only, and adds `adds` to the count.
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
