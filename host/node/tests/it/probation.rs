//! Probation: what new code may do, and what becomes of processes and of the
//! release when it fails.

use exuvia_node::abi::{Code, Kind, Reason};
use exuvia_node::{DeployOptions, Event, Filter, Loops, Node};

use crate::actors::{ADD, Actor, DIGIT, STATE, TELL, X, cast, counts, handles, loops, of, post};
use crate::guests::{ask, deploy, event, eventually, exit_of, module, node, node_with, spawn};
use crate::puppet::{self, Puppet};

// ---- transactions --------------------------------------------------------------

#[test]
fn deferred_messages_are_delivered_when_the_handler_returns() {
    let (node, friend, actor) = cast(counts());
    let second = spawn(&node, "actor", &friend.pid.to_bytes());
    assert_eq!(ask(&node, second), 0);
    let message = [ADD, TELL, X].concat();
    deploy(&node, "actor", &handles(&message).text());
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    friend.has_nothing();
    post(&node, second, b"fine");
    assert_eq!(ask(&node, second), 1);
    let got = friend.wait().message(Kind::Message, &1u64.to_le_bytes());
    assert_eq!((got.sender, got.tag), (second, 5));
    friend.has_nothing();
    assert_eq!(of(&node, actor).module.as_deref(), Some("actor@1"));
    assert_eq!(of(&node, second).module.as_deref(), Some("actor@2"));
    node.halt();
}

/// Processes that are guests: those that ask from outside come and go.
fn guests(node: &Node) -> usize {
    let all = node.processes(&Filter::default());
    all.iter()
        .filter(|process| process.module.is_some())
        .count()
}

#[test]
fn effects_of_a_failed_handler_are_discarded() {
    let (node, friend, actor) = cast(counts());
    let other = spawn(&node, "actor", &friend.pid.to_bytes());
    assert_eq!(ask(&node, other), 0);
    let processes = guests(&node);
    let everything = [
        ADD,
        TELL,
        "(drop (call $request (i32.const 24) (i32.const 6) (i32.const 16) (i32.const 8) (i32.const 200)))",
        "(drop (call $monitor (i32.const 24) (i32.const 200)))",
        "(drop (call $link (i32.const 24)))",
        "(drop (call $send_after (i32.const 24) (i32.const 7) (i32.const 16) (i32.const 8) (i64.const 0) (i32.const 0)))",
        "(drop (call $spawn (i32.const 1024) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 0)))",
        "(drop (call $send (i32.const 200) (i32.const 6) (i32.const 16) (i32.const 8)))",
        "(drop (call $exit_process (i32.const 24) (i32.const 300) (i32.const 16) (i32.const 8)))",
        // Long enough for a timer to fire and for others to run.
        "(call $spin (i32.const 2000000))",
        X,
    ]
    .concat();
    deploy(&node, "actor", &handles(&everything).text());
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    friend.has_nothing();
    assert!(friend.is_alive());
    eventually("no process is left", || guests(&node) == processes);
    // The link is not there either.
    node.kill(actor);
    eventually("it ends", || !node.system().is_alive(actor));
    assert!(friend.is_alive());
    // The same, and it ends well.
    friend.trap_exit(true);
    post(&node, other, b"fine");
    assert_eq!(ask(&node, other), 1);
    friend.wait().message(Kind::Message, &1u64.to_le_bytes());
    friend.wait().message(Kind::Request, &1u64.to_le_bytes());
    // The exit signal and the timer, in either order.
    let mut kinds = [friend.wait().kind, friend.wait().kind];
    kinds.sort_unstable();
    assert_eq!(kinds, [Kind::Exit as u32, Kind::Timer as u32]);
    eventually("the child lives", || guests(&node) == processes);
    node.kill(other);
    friend
        .wait()
        .notifications(Kind::Exit, other, Reason::KILLED.0);
    node.halt();
}

#[test]
fn a_kill_is_deferred_too() {
    let (node, friend, actor) = cast(counts());
    let message = ["(drop (call $kill (i32.const 24)))", X].concat();
    deploy(&node, "actor", &handles(&message).text());
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    assert!(friend.is_alive());
    let second = spawn(&node, "actor", &friend.pid.to_bytes());
    post(&node, second, b"fine");
    friend.wait_for_end();
    node.halt();
}

#[test]
fn a_timer_that_a_failed_handler_cancelled_still_fires() {
    let set = "(drop (call $send_after (i32.const 24) (i32.const 7) (i32.const 512) (i32.const 1) (i64.const 400) (i32.const 40)))";
    let (node, friend, actor) = cast(handles(set));
    post(&node, actor, b"t");
    assert_eq!(ask(&node, actor), 0);
    let cancel = "(if (i64.le_s (call $cancel_timer (i64.load (i32.const 40))) (i64.const 0)) (then (return (i32.const 7)))) (unreachable)";
    // Its number at 40 must come along.
    let state = STATE.replace("i32.const 24)", "i32.const 32)");
    let next = Actor {
        message: cancel,
        state: Some(&state),
        ..counts()
    };
    let former = Actor {
        message: set,
        state: Some(&state),
        ..counts()
    };
    deploy(&node, "actor", &former.text());
    let (second, friend_2) = {
        let friend = Puppet::new(&node);
        (spawn(&node, "actor", &friend.pid.to_bytes()), friend)
    };
    post(&node, second, b"t");
    assert_eq!(ask(&node, second), 0);
    deploy(&node, "actor", &next.text());
    post(&node, second, b"u");
    assert_eq!(ask(&node, second), 0);
    // Set by the old code before, and by the old code again.
    let mut got = [
        friend_2.wait().payload().to_vec(),
        friend_2.wait().payload().to_vec(),
    ];
    got.sort();
    assert_eq!(got, [b"t".to_vec(), b"u".to_vec()]);
    friend.wait().message(Kind::Timer, b"t");
    node.halt();
}

#[test]
fn names_and_exit_trapping_are_undone() {
    let first = "(drop (call $self (i32.const 200))) (drop (call $register (i32.const 1056) (i32.const 8) (i32.const 200)))";
    let (node, friend, actor) = cast(handles(first));
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 0);
    assert_eq!(node.find("old-name").unwrap(), actor);
    let second = [
        "(drop (call $self (i32.const 200)))",
        "(drop (call $register (i32.const 1040) (i32.const 8) (i32.const 200)))",
        "(drop (call $unregister (i32.const 1056) (i32.const 8)))",
        "(drop (call $trap_exit (i32.const 1)))",
        X,
    ]
    .concat();
    deploy(&node, "actor", &handles(&second).text());
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 0);
    assert!(node.find("new-name").is_err());
    assert_eq!(node.find("old-name").unwrap(), actor);
    friend.exit_process(actor, 300, b"").ok();
    eventually("it does not trap exits", || !node.system().is_alive(actor));
    // In a handler that ends well they stay.
    let other = spawn(&node, "actor", &friend.pid.to_bytes());
    post(&node, other, b"fine");
    assert_eq!(ask(&node, other), 0);
    assert_eq!(node.find("new-name").unwrap(), other);
    node.halt();
}

#[test]
fn a_request_whose_handler_fails_is_answered_once_by_old_code() {
    let (node, friend, actor) = cast(counts());
    let next = Actor {
        request: "(i64.const 77)",
        after: "(if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then (unreachable)))",
        ..counts()
    };
    deploy(&node, "actor", &next.text());
    let got = friend.call(actor, 3, b"", puppet::ROOM, 20_000);
    got.message(Kind::Reply, &0u64.to_le_bytes());
    friend.has_nothing();
    node.halt();
}

#[test]
fn a_call_that_blocks_closes_the_transaction() {
    for blocks in [
        "(drop (call $sleep (i64.const 1)))",
        "(drop (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 1) (i32.const 1) (i64.const 99)))",
        // A second message.
        "(drop (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 1) (i64.const 99)))",
    ] {
        let (node, friend, actor) = cast(counts());
        let message = [ADD, TELL, blocks, "(unreachable)"].concat();
        deploy(&node, "actor", &handles(&message).text());
        let mut events = node.events();
        post(&node, actor, b"");
        assert!(exit_of(&mut events, actor).0.starts_with("trap"));
        friend.wait().message(Kind::Message, &1u64.to_le_bytes());
        assert!(!node.system().is_alive(actor));
        node.halt();
    }
}

/// A transaction holds so much; one call more lets everything happen and ends it.
#[test]
fn a_transaction_is_bounded() {
    for (sends, bytes, returns) in [
        (1_000, 8, true),
        (1_001, 8, false),
        (900, 70_000, true),
        (990, 70_000, false),
    ] {
        let (node, friend, actor) = cast(counts());
        let message = format!("(call $many (i32.const {sends})) (unreachable)");
        let many = format!(
            "(func $many (param i32) (loop $l
               (drop (call $send (i32.const 24) (i32.const 5) (i32.const 16) (i32.const {bytes})))
               (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))"
        );
        let next = Actor {
            message: &message,
            rest: &many,
            ..counts()
        };
        let next = next
            .text()
            .replace("(export \"memory\") 1)", "(export \"memory\") 2)");
        deploy(&node, "actor", &next);
        let mut events = node.events();
        post(&node, actor, b"");
        if returns {
            assert_eq!(ask(&node, actor), 1, "{sends} of {bytes}");
            friend.has_nothing();
        } else {
            assert!(exit_of(&mut events, actor).0.starts_with("trap"));
            let answer = if bytes > 1_000 {
                Code::TooBig
            } else {
                Code::Ok
            };
            assert_eq!(friend.next().is(answer).tag, 5);
        }
        node.halt();
    }
}

#[test]
fn an_exit_in_a_transaction_is_an_exit() {
    let (node, friend, actor) = cast(counts());
    let message = [
        TELL,
        "(call $exit (i32.const 300) (i32.const 1072) (i32.const 8))",
    ]
    .concat();
    deploy(&node, "actor", &handles(&message).text());
    friend.on("monitor", actor).ok();
    post(&node, actor, b"");
    friend.wait().message(Kind::Message, &0u64.to_le_bytes());
    let got = friend.wait().notifications(Kind::Down, actor, 300);
    assert_eq!(got.payload(), b"too many");
    node.halt();
}

#[test]
fn after_three_messages_a_trap_is_an_ordinary_exit() {
    for (good, returns) in [(0, true), (1, true), (2, true), (3, false)] {
        let (node, _, actor) = cast(counts());
        let mut events = node.events();
        let message = [ADD, X].concat();
        deploy(&node, "actor", &handles(&message).text());
        for _ in 0..good {
            post(&node, actor, b"fine");
        }
        post(&node, actor, b"x");
        if returns {
            assert_eq!(ask(&node, actor), good + 1, "after {good}");
            event(&mut events, "it returned", |event| {
                matches!(event, Event::Reverted { .. }).then_some(())
            });
            assert_eq!(of(&node, actor).module.as_deref(), Some("actor@1"));
        } else {
            assert!(exit_of(&mut events, actor).0.starts_with("trap"));
        }
        node.halt();
    }
}

#[test]
fn the_state_before_the_first_message_comes_back_exactly() {
    // What lies at 40 is in no saved state: only the memory itself has it.
    let note = "(i64.store (i32.const 40) (i64.const 4000))";
    let both = "(i64.add (call $count) (i64.load (i32.const 40)))";
    let first = Actor {
        message: &[ADD, note].concat(),
        request: both,
        ..Actor::default()
    }
    .text();
    let node = node();
    deploy(&node, "actor", &first);
    let actor = spawn(&node, "actor", b"");
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 4_001);
    let bad = "(call $set (i64.const 99)) (i64.store (i32.const 40) (i64.const 7)) (memory.fill (i32.const 8192) (i32.const 9) (i32.const 8192)) (unreachable)";
    deploy(
        &node,
        "actor",
        &Actor {
            message: bad,
            request: both,
            ..counts()
        }
        .text(),
    );
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 4_002);
    node.halt();
}

#[test]
fn messages_keep_their_order_when_one_is_put_back() {
    for fails_at in ["1", "2", "3", "4"] {
        let node = node_with(|config| config.schedulers = 1);
        let digits = handles(DIGIT);
        deploy(&node, "actor", &digits.text());
        let actor = spawn(&node, "actor", b"");
        assert_eq!(ask(&node, actor), 0);
        // Sends six digits in one go: on one scheduler they all wait.
        let send = "(drop (call $send (i32.const 24) (i32.const 0) (local.get 0) (i32.const 1)))
          (br_if $l (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 518)))";
        let burst = Actor {
            message: "(call $burst (i32.const 512))",
            rest: &format!("(func $burst (param i32) (loop $l {send}))"),
            ..Actor::default()
        };
        deploy(&node, "burst", &burst.text());
        let burst = spawn(&node, "burst", &actor.to_bytes());
        assert_eq!(ask(&node, burst), 0);
        let fails = format!(
            "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const {})) (then (unreachable)))",
            fails_at.as_bytes()[0]
        );
        let bad = [DIGIT, &fails].concat();
        deploy(&node, "actor", &handles(&bad).text());
        let mut events = node.events();
        post(&node, burst, b"123456");
        assert_eq!(ask(&node, burst), 0);
        if fails_at == "4" {
            // Out of probation.
            assert!(exit_of(&mut events, actor).0.starts_with("trap"));
        } else {
            assert_eq!(ask(&node, actor), 123_456, "fails at {fails_at}");
        }
        node.halt();
    }
}

// ---- releases ------------------------------------------------------------------

#[test]
fn a_process_that_dies_during_an_upgrade_fails_no_other() {
    let node = node();
    deploy(&node, "actor", &counts().text());
    let pids: Vec<_> = (0..200).map(|_| spawn(&node, "actor", b"")).collect();
    for pid in &pids {
        post(&node, *pid, b"");
    }
    let next = Actor {
        request: "(i64.add (call $count) (i64.const 1000))",
        ..counts()
    };
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for pid in pids.iter().step_by(2) {
                node.kill(*pid);
            }
        });
        deploy(&node, "actor", &next.text());
        killer.join().unwrap();
    });
    for pid in pids.iter().skip(1).step_by(2) {
        assert_eq!(ask(&node, *pid), 1_001);
    }
    for pid in pids.iter().step_by(2) {
        eventually("it ends", || !node.system().is_alive(*pid));
    }
    assert_eq!(node.info().modules[0].processes, 100);
    node.halt();
}

#[test]
fn a_third_version_while_two_are_in_use_kills_no_process() {
    let node = node();
    let answer = |n: u64| format!("(i64.const {n})");
    deploy(&node, "loops", &loops(false, &answer(1)));
    let first = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, first), 1);
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    node.deploy(
        vec![module("loops", &loops(false, &answer(2)))],
        leave.clone(),
    )
    .unwrap();
    let second = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, second), 2);
    node.deploy(vec![module("loops", &loops(false, &answer(3)))], leave)
        .unwrap();
    let third = spawn(&node, "loops", b"");
    for _ in 0..3 {
        assert_eq!(
            [ask(&node, first), ask(&node, second), ask(&node, third)],
            [1, 2, 3]
        );
    }
    let loaded = &node.info().modules[0].loaded;
    assert_eq!(
        loaded
            .iter()
            .map(|version| version.processes)
            .collect::<Vec<_>>(),
        [1, 1, 1]
    );
    node.halt();
}

#[test]
fn processes_spawned_in_a_bad_release_are_rolled_back_with_it() {
    let node = node();
    deploy(&node, "actor", &counts().text());
    let old: Vec<_> = (0..3).map(|_| spawn(&node, "actor", b"")).collect();
    for pid in &old {
        assert_eq!(ask(&node, *pid), 0);
    }
    let message = [ADD, ADD, X].concat();
    let mut events = node.events();
    deploy(&node, "actor", &handles(&message).text());
    let born = spawn(&node, "actor", b"");
    post(&node, born, b"fine");
    assert_eq!(ask(&node, born), 2);
    for pid in &old {
        post(&node, *pid, b"x");
    }
    let back = event(&mut events, "the release goes back", |event| match event {
        Event::RolledBack {
            from,
            release,
            reason,
        } => {
            assert!(reason.starts_with("trap"), "{reason}");
            Some((*from, *release))
        }
        _ => None,
    });
    assert_eq!(back, (2, 3));
    for pid in &old {
        assert_eq!(ask(&node, *pid), 1);
    }
    // Its state came along, and what it would have died of is no trap now.
    post(&node, born, b"x");
    assert_eq!(ask(&node, born), 3);
    assert_eq!(of(&node, born).module.as_deref(), Some("actor@1"));
    node.halt();
}

#[test]
fn a_reverted_process_stays_reverted_until_the_next_release() {
    let (node, _, actor) = cast(counts());
    deploy(&node, "actor", &handles("(unreachable)").text());
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 1);
    for _ in 0..5 {
        post(&node, actor, b"");
    }
    assert_eq!(ask(&node, actor), 6);
    assert_eq!(node.info().release, 3, "one failure is not enough");
    let mended = [ADD, ADD].concat();
    deploy(&node, "actor", &handles(&mended).text());
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 8);
    node.halt();
}

/// An operator finds out that a reset was a mistake before the process has run.
#[test]
fn a_reset_of_a_suspended_process_is_undone_by_a_rollback() {
    let counts = Actor {
        state: Some(""),
        ..counts()
    };
    let (node, _, actor) = cast(counts);
    for _ in 0..5 {
        post(&node, actor, b"");
    }
    assert_eq!(ask(&node, actor), 5);
    node.suspend(actor).unwrap();
    let next = Actor {
        message: &[ADD, ADD].concat(),
        ..counts
    };
    let fresh = DeployOptions {
        fresh: true,
        ..DeployOptions::default()
    };
    node.deploy(vec![module("actor", &next.text())], fresh)
        .unwrap();
    let module_is = |wanted: &str| of(&node, actor).module.as_deref() == Some(wanted);
    eventually("it is reset", || module_is("actor@2"));
    node.rollback().unwrap();
    eventually("it is back", || module_is("actor@1"));
    node.resume(actor).unwrap();
    assert_eq!(ask(&node, actor), 5);
    post(&node, actor, b"");
    assert_eq!(ask(&node, actor), 6);
    node.halt();
}

#[test]
fn without_probation_a_trap_ends_the_process() {
    let node = node_with(|config| config.probation = 0);
    deploy(&node, "actor", &counts().text());
    let actor = spawn(&node, "actor", b"");
    assert_eq!(ask(&node, actor), 0);
    deploy(&node, "actor", &handles("(unreachable)").text());
    post(&node, actor, b"");
    eventually("it ends", || !node.system().is_alive(actor));
    node.halt();
}
