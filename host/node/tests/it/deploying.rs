//! Deployments beside one another and beside what goes back: what is consented to,
//! what is refused, what waits for what, and what stays loaded.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use exuvia_node::{
    AtStage, DeployOptions, Event, Loops, Node, NodeConfig, Outdated, Pid, SwapError, SwapReport,
    SwapStage, UpgradeState,
};

use crate::actors::{Actor, cast, counts, handles, loops, of, post};
use crate::guests::{ask, deploy, event, eventually, module, node, node_with, spawn};

/// How long a thread may take that should not have to wait.
const PATIENCE: Duration = Duration::from_secs(30);

fn with(loops: Loops) -> DeployOptions {
    DeployOptions {
        loops,
        ..DeployOptions::default()
    }
}

/// An actor that answers this number.
fn answers(number: u64) -> String {
    Actor {
        request: &format!("(i64.const {number})"),
        ..counts()
    }
    .text()
}

/// A loop without the flag that answers this number.
fn looping(number: u64) -> String {
    loops(false, &format!("(i64.const {number})"))
}

/// Holds deployments of one module at a stage, until one is let go.
struct Hold {
    reached: Receiver<()>,
    go: Sender<()>,
}

fn holding(
    name: &'static str,
    stage: SwapStage,
    change: impl FnOnce(&mut NodeConfig),
) -> (Node, Hold) {
    let (sender, reached) = channel();
    let (go, gone) = channel();
    let gone = parking_lot::Mutex::new(gone);
    let node = node_with(|config| {
        config.at_stage = Some(AtStage::new(move |names, at| {
            if at == stage && names == [name] {
                let _ = sender.send(());
                // If the other end is dropped, the test is over.
                let _ = gone.lock().recv();
            }
        }));
        change(config);
    });
    (node, Hold { reached, go })
}

impl Hold {
    /// Lets the deployment go that is held, or will be.
    fn pass(&self) {
        self.go.send(()).unwrap();
    }

    fn deploy(&self, node: &Node, name: &str, wat: &str) {
        self.pass();
        deploy(node, name, wat);
        self.reached.recv_timeout(PATIENCE).unwrap();
    }

    /// Begins a deployment, and answers when it is held.
    fn begin(
        &self,
        node: &Node,
        name: &str,
        wat: &str,
        options: DeployOptions,
    ) -> thread::JoinHandle<Result<SwapReport, SwapError>> {
        let (node, modules) = (node.clone(), vec![module(name, wat)]);
        let deployment = thread::spawn(move || node.deploy(modules, options));
        self.reached.recv_timeout(PATIENCE).unwrap();
        deployment
    }
}

/// Does something on another thread: whether it waits is what is asked.
fn at_once<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).expect("it waits")
}

// ---- consent ---------------------------------------------------------------------

#[test]
fn a_rejected_deployment_exempts_no_process() {
    let (node, hold) = holding("loops", SwapStage::Prepared, |_| {});
    hold.deploy(&node, "loops", &looping(1));
    deploy(&node, "other", &answers(1));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    let refused = hold.begin(&node, "loops", &looping(2), with(Loops::Leave));
    node.rollback().unwrap();
    hold.pass();
    let refused = refused.join().unwrap();
    assert!(
        matches!(refused, Err(SwapError::RolledBack { .. })),
        "{refused:?}"
    );
    // A deployment without that consent is refused.
    let next = vec![module("loops", &looping(3))];
    let asked = node.deploy(next, DeployOptions::default());
    assert!(
        matches!(asked, Err(SwapError::Loops { count: 1, first }) if first == pid),
        "{asked:?}"
    );
    assert_ne!(of(&node, pid).upgrade, Some(UpgradeState::Exempt));
    node.halt();
}

#[test]
fn an_exemption_ends_when_the_old_code_is_current_again() {
    let node = node();
    let second = || vec![module("loops", &looping(2))];
    deploy(&node, "loops", &looping(1));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    node.deploy(second(), with(Loops::Leave)).unwrap();
    assert_eq!(of(&node, pid).upgrade, Some(UpgradeState::Exempt));
    // The process has got no message meanwhile.
    node.rollback().unwrap();
    let asked = node.deploy(second(), DeployOptions::default());
    assert!(matches!(asked, Err(SwapError::Loops { .. })), "{asked:?}");
    // And a further consent counts from then on.
    node.deploy(second(), with(Loops::Leave)).unwrap();
    assert_eq!(of(&node, pid).upgrade, Some(UpgradeState::Exempt));
    deploy(&node, "loops", &looping(3));
    assert_eq!(ask(&node, pid), 1);
    assert_eq!(of(&node, pid).upgrade, Some(UpgradeState::Exempt));
    node.halt();
}

#[test]
fn an_exempt_process_at_rest_joins_the_next_deployment() {
    // It loops until a message ends that.
    let stays = "(loop $stays
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 0) (i64.const 0)))
        (br_if $stays (i32.ne (i32.load8_u (i32.const 512)) (i32.const 101))))";
    let (node, _friend, actor) = cast(Actor {
        message: stays,
        ..counts()
    });
    post(&node, actor, b"");
    eventually("it loops", || of(&node, actor).state == "receive");
    let next = vec![module("actor", &answers(2))];
    assert_eq!(node.deploy(next, with(Loops::Leave)).unwrap().exempt, 1);
    assert_eq!(of(&node, actor).upgrade, Some(UpgradeState::Exempt));
    post(&node, actor, b"e");
    eventually("it rests", || of(&node, actor).state != "receive");
    // What another module becomes is no reason to cross.
    deploy(&node, "other", &answers(0));
    let seen = of(&node, actor);
    assert_eq!(
        (
            seen.module.as_deref(),
            seen.upgrade == Some(UpgradeState::Exempt)
        ),
        (Some("actor@1"), true)
    );
    deploy(&node, "actor", &answers(3));
    assert_eq!(ask(&node, actor), 3);
    let seen = of(&node, actor);
    assert_eq!(
        (
            seen.module.as_deref(),
            seen.upgrade == Some(UpgradeState::Exempt)
        ),
        (Some("actor@3"), false)
    );
    node.halt();
}

// ---- beside one another -----------------------------------------------------------

#[test]
fn a_rollback_does_not_wait_for_a_deployment_and_is_not_undone_by_it() {
    for stage in [SwapStage::Loaded, SwapStage::Prepared] {
        let (node, hold) = holding("actor", stage, |_| {});
        hold.deploy(&node, "actor", &answers(1));
        hold.deploy(&node, "actor", &answers(2));
        let pid = spawn(&node, "actor", b"");
        assert_eq!(ask(&node, pid), 2);
        let mut events = node.events();
        let third = hold.begin(&node, "actor", &answers(3), DeployOptions::default());
        let back = {
            let node = node.clone();
            at_once(move || node.rollback().unwrap())
        };
        assert!(back.rollback);
        assert_eq!(ask(&node, pid), 1);
        hold.pass();
        let error = third.join().unwrap().unwrap_err();
        assert_eq!(error.code(), "rolled-back");
        assert!(error.to_string().contains("rolled back"), "{error}");
        let cause = event(&mut events, "the refusal", |event| match event {
            Event::Refused { cause, .. } => Some(cause.clone()),
            _ => None,
        });
        assert!(cause.contains("rolled back"), "{cause}");
        assert_eq!(ask(&node, pid), 1);
        let info = node.info();
        assert_eq!((info.release, info.modules[0].version), (3, 1));
        // What was refused has left nothing, and may come again.
        assert!(!loaded(&node, "actor").contains(&3));
        hold.deploy(&node, "actor", &answers(3));
        assert_eq!(ask(&node, pid), 3);
        node.halt();
    }
}

#[test]
fn an_automatic_rollback_has_a_pending_deployment_verified_again() {
    let (node, hold) = holding("actor", SwapStage::Prepared, |config| {
        config.release_threshold = 1;
    });
    hold.deploy(&node, "actor", &answers(1));
    let pid = spawn(&node, "actor", b"");
    assert_eq!(ask(&node, pid), 1);
    hold.deploy(&node, "actor", &handles("(unreachable)").text());
    let mended = hold.begin(&node, "actor", &answers(3), DeployOptions::default());
    post(&node, pid, b"");
    eventually("the code goes back", || node.info().release == 3);
    assert_eq!(ask(&node, pid), 1);
    hold.pass();
    // It is prepared once more, on what is current now.
    hold.reached.recv_timeout(PATIENCE).unwrap();
    hold.pass();
    let report = mended.join().unwrap().unwrap();
    assert_eq!((report.release, report.processes), (4, 1));
    assert_eq!((report.modules[0].from, report.modules[0].to), (Some(1), 3));
    assert_eq!(ask(&node, pid), 3);
    node.halt();
}

#[test]
fn deployments_of_different_modules_do_not_wait_for_each_other() {
    for stage in [SwapStage::Loaded, SwapStage::Prepared] {
        let (node, hold) = holding("slow", stage, |_| {});
        hold.deploy(&node, "slow", &answers(1));
        deploy(&node, "quick", &answers(1));
        let slow = spawn(&node, "slow", b"");
        let quick = spawn(&node, "quick", b"");
        assert_eq!((ask(&node, slow), ask(&node, quick)), (1, 1));
        let held = hold.begin(&node, "slow", &answers(2), DeployOptions::default());
        let report = {
            let node = node.clone();
            at_once(move || {
                node.deploy(vec![module("quick", &answers(2))], DeployOptions::default())
            })
        };
        assert_eq!(report.unwrap().release, 3);
        assert_eq!((ask(&node, slow), ask(&node, quick)), (1, 2));
        // Nothing that it was prepared on has moved.
        hold.pass();
        assert_eq!(held.join().unwrap().unwrap().release, 4);
        assert_eq!((ask(&node, slow), ask(&node, quick)), (2, 2));
        node.halt();
    }
}

#[test]
fn a_version_is_not_unloaded_while_it_is_being_deployed() {
    let (node, hold) = holding("actor", SwapStage::Prepared, |config| {
        config.background_upgrade_after = Duration::from_millis(5);
    });
    hold.deploy(&node, "actor", &answers(1));
    let held = hold.begin(&node, "actor", &answers(2), DeployOptions::default());
    // Each upgrade completes, and versions that no process needs are unloaded then.
    deploy(&node, "other", &answers(0));
    let pid = spawn(&node, "other", b"");
    for number in 1..6 {
        deploy(&node, "other", &answers(number));
        assert_eq!(ask(&node, pid), number);
    }
    eventually("old versions are unloaded", || {
        let other = |it: &&exuvia_node::ModuleInfo| it.name == "other";
        node.info().modules.iter().find(other).unwrap().loaded.len() <= 3
    });
    hold.pass();
    held.join().unwrap().unwrap();
    assert_eq!(ask(&node, spawn(&node, "actor", b"")), 2);
    let actor = |it: &&exuvia_node::ModuleInfo| it.name == "actor";
    assert_eq!(
        node.info().modules.iter().find(actor).unwrap().loaded.len(),
        2
    );
    node.halt();
}

// ---- `--kill` ------------------------------------------------------------------------

const SPINS: &str =
    "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 115)) (then (loop $l (br $l))))";

#[test]
fn kill_ends_a_handler_that_never_returns() {
    let (node, _friend, actor) = cast(handles(SPINS));
    let other = spawn(&node, "actor", b"");
    assert_eq!(ask(&node, other), 0);
    post(&node, actor, b"s");
    eventually("it spins", || of(&node, actor).state == "preempted");
    let next = vec![module("actor", &answers(2))];
    let report = node.deploy(next, with(Loops::Kill)).unwrap();
    assert_eq!((report.killed, report.unended.len()), (1, 0), "{report:?}");
    assert!(!node.system().is_alive(actor));
    assert_eq!(ask(&node, other), 2);
    node.halt();
}

#[test]
fn kill_with_the_same_code_ends_it_too() {
    let (node, _friend, actor) = cast(handles(SPINS));
    post(&node, actor, b"s");
    eventually("it spins", || of(&node, actor).state == "preempted");
    let next = || vec![module("actor", &answers(2))];
    node.deploy(next(), DeployOptions::default()).unwrap();
    assert!(node.system().is_alive(actor));
    let report = node.deploy(next(), with(Loops::Kill)).unwrap();
    assert_eq!(report.killed, 1, "{report:?}");
    assert!(!node.system().is_alive(actor));
    node.halt();
}

#[test]
fn kill_names_a_waiting_handler_and_lets_it_finish() {
    let waits = "(i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))";
    let (node, _friend, actor) = cast(handles(waits));
    post(&node, actor, b"");
    eventually("it waits", || of(&node, actor).state == "receive");
    let next = vec![module("actor", &answers(2))];
    let report = node.deploy(next, with(Loops::Kill)).unwrap();
    assert_eq!((report.killed, report.unended.len()), (0, 0), "{report:?}");
    assert_eq!(report.busy, [format!("{actor} (receive)")]);
    node.send(actor, 7, Vec::new()).unwrap();
    assert_eq!(ask(&node, actor), 2);
    node.halt();
}

// ---- what stays loaded -----------------------------------------------------------------

fn loaded(node: &Node, name: &str) -> Vec<u32> {
    let info = node.info();
    let module = info.modules.iter().find(|it| it.name == name).unwrap();
    module.loaded.iter().map(|it| it.version).collect()
}

#[test]
fn an_exempt_process_keeps_only_its_own_version_over_many_swaps() {
    let node = node_with(|config| config.background_upgrade_after = Duration::from_millis(5));
    deploy(&node, "loops", &looping(1));
    let pid = spawn(&node, "loops", b"");
    assert_eq!(ask(&node, pid), 1);
    for number in 2..=30 {
        let next = vec![module("loops", &looping(number))];
        node.deploy(next, with(Loops::Leave)).unwrap();
    }
    eventually("unused versions are unloaded", || {
        loaded(&node, "loops") == [1, 28, 29, 30]
    });
    assert_eq!(ask(&node, pid), 1);
    node.halt();
}

#[test]
fn an_idle_process_in_probation_keeps_few_versions_over_many_swaps() {
    let node = node_with(|config| config.background_upgrade_after = Duration::from_millis(5));
    deploy(&node, "actor", &answers(1));
    let pid = spawn(&node, "actor", b"");
    assert_eq!(ask(&node, pid), 1);
    for number in 2..=20 {
        deploy(&node, "actor", &answers(number));
        let now = format!("actor@{number}");
        // It crosses, and has no message.
        eventually("it is upgraded", || {
            of(&node, pid).module.as_ref() == Some(&now)
        });
    }
    eventually("unused versions are unloaded", || {
        loaded(&node, "actor") == [18, 19, 20]
    });
    node.halt();
}

// ---- what no process can ever cross ------------------------------------------------------

/// A module whose processes keep their frame, without `save` and `load`.
fn resident(number: u64, state: &str) -> String {
    Actor {
        request: &format!("(i64.const {number})"),
        after: "(if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 100)) (then (data.drop $passive)))",
        rest: r#"(data $passive "x")"#,
        state: Some(state),
        ..counts()
    }
    .text()
}

#[track_caller]
fn refused(node: &Node, wat: &str, pid: Pid, parts: &[&str]) {
    let error = node
        .deploy(vec![module("actor", wat)], DeployOptions::default())
        .unwrap_err();
    let SwapError::Verify(verify) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(verify.pid, pid);
    let text = format!("{error}; {}", error.help().unwrap());
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(node.info().modules[0].version, 1);
}

#[test]
fn new_code_that_no_process_can_upgrade_to_is_rejected() {
    let state = crate::actors::STATE;
    let node = node();
    deploy(&node, "actor", &resident(1, ""));
    assert!(!node.info().modules[0].resident_only.is_empty());
    // A process that has not run has no state, and there is none that has.
    deploy(&node, "actor", &resident(2, ""));
    node.rollback().unwrap();
    let pid = spawn(&node, "actor", b"");
    assert_eq!(ask(&node, pid), 1);
    for next in [resident(3, ""), resident(3, state), answers(3)] {
        let command = "`exuvia deploy --fresh actor.wasm --name actor`";
        let parts = ["actor@1 exports no `save`", "layout fingerprint", command];
        refused(&node, &next, pid, &parts);
    }
    let options = DeployOptions {
        fresh: true,
        ..DeployOptions::default()
    };
    node.deploy(vec![module("actor", &resident(3, state))], options)
        .unwrap();
    assert_eq!(ask(&node, pid), 3);
    node.halt();
}

#[test]
fn new_code_that_cannot_load_state_is_rejected_even_if_all_processes_are_busy() {
    let waits = "(i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))";
    let node = node();
    deploy(&node, "actor", &handles(waits).text());
    let pid = spawn(&node, "actor", b"");
    post(&node, pid, b"");
    eventually("it waits", || of(&node, pid).state == "receive");
    let next = Actor {
        state: Some(""),
        ..counts()
    };
    refused(
        &node,
        &next.text(),
        pid,
        &[
            "exports no `load`",
            "export `load`",
            "`exuvia deploy --fresh actor.wasm --name actor`",
        ],
    );
    deploy(&node, "actor", &answers(2));
    node.send(pid, 7, Vec::new()).unwrap();
    assert_eq!(ask(&node, pid), 2);
    node.halt();
}

// ---- processes that do not run it ----------------------------------------------------------

#[test]
fn a_reverted_process_is_shown_until_it_is_upgraded_or_all_are_rolled_back() {
    for back in [false, true] {
        let node = node();
        deploy(&node, "actor", &counts().text());
        let pid = spawn(&node, "actor", b"");
        assert_eq!(ask(&node, pid), 0);
        let bad = handles("(unreachable)").text();
        deploy(&node, "actor", &bad);
        post(&node, pid, b"");
        assert_eq!(ask(&node, pid), 1);
        let seen = of(&node, pid);
        assert_eq!(
            (seen.upgrade, seen.module.as_deref()),
            (Some(UpgradeState::Reverted), Some("actor@1"))
        );
        let how = seen.upgrade_reason.unwrap();
        assert!(how.contains("unreachable"), "{how}");
        let (inspected, _) = node.inspect(pid).unwrap();
        assert_eq!(inspected.process.upgrade, Some(UpgradeState::Reverted));
        let shown = node.top(exuvia_node::Sort::Reductions, 10);
        let shown = shown
            .top
            .iter()
            .find(|it| it.process.pid == pid.to_string());
        assert_eq!(shown.unwrap().process.upgrade, Some(UpgradeState::Reverted));
        // The code is current, and yet this process does not run it.
        let again = node.deploy(vec![module("actor", &bad)], DeployOptions::default());
        let again = again.unwrap();
        assert_eq!((again.modules.len(), again.release), (0, 2));
        let reverted = Outdated {
            module: "actor@1".into(),
            processes: 1,
            reverted: 1,
            failed: 0,
            exempt: 0,
        };
        assert_eq!(again.outdated, [reverted]);
        // It has got no message when all has gone back.
        match back {
            true => drop(node.rollback().unwrap()),
            false => {
                deploy(&node, "actor", &answers(7));
                assert_eq!(ask(&node, pid), 7);
            }
        }
        let seen = of(&node, pid);
        assert_eq!(seen.upgrade_reason, None);
        assert_ne!(seen.upgrade, Some(UpgradeState::Reverted));
        node.halt();
    }
}
