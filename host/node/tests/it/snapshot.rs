//! Processes that are captured, killed and restored, with real modules.

use exuvia_node::abi::{Kind, Reason};
use exuvia_node::process::resource::Holding;
use exuvia_node::process::{NameError, ProcessSnapshot, RestoreError, WhyNot};
use exuvia_node::{DeployOptions, Event, Loops, Node, Pid, Probe, UpgradeState};
use tempfile::TempDir;

use crate::actors::{Actor, STATE, X, cast, counts, handles, of, post};
use crate::guests::{ask, deploy, eventually, module, node, node_with, spawn};
use crate::puppet::{self, Puppet};
use crate::sdk::{self, Args, Change, Count};
use crate::wasi::{self, folder, granted};

/// Captures a process as soon as it is at rest, and sends the snapshot through its bytes.
#[track_caller]
fn capture(node: &Node, pid: Pid) -> ProcessSnapshot {
    let mut found = None;
    eventually("the process is at rest", || match node.capture(pid) {
        Ok(snapshot) => {
            found = Some(snapshot);
            true
        }
        Err(WhyNot::Running | WhyNot::Signals) => false,
        Err(why) => panic!("{why}"),
    });
    let snapshot = found.unwrap();
    let read = ProcessSnapshot::from_bytes(&snapshot.to_bytes());
    assert_eq!(read.as_ref(), Ok(&snapshot));
    snapshot
}

#[track_caller]
fn why_not(node: &Node, pid: Pid) -> WhyNot {
    let mut found = None;
    eventually("the process stops running", || {
        found = node.capture(pid).err();
        found != Some(WhyNot::Running)
    });
    found.expect("it could be captured")
}

/// Restores a process that was killed. Others may not all be notified of its end yet.
fn restore(node: &Node, snapshot: &ProcessSnapshot) -> Result<Pid, RestoreError> {
    let mut result = Err(RestoreError::Ending);
    eventually("all are notified of the end", || {
        result = node.restore(snapshot);
        result != Err(RestoreError::Ending)
    });
    result
}

fn kill(node: &Node, pid: Pid) {
    node.kill(pid);
    eventually("the process ends", || !node.system().is_alive(pid));
}

fn puppets<const N: usize>(node: &Node) -> [Puppet; N] {
    deploy(node, "puppet", &puppet::text(1));
    std::array::from_fn(|_| Puppet::new(node))
}

#[test]
fn a_wat_guest_has_all_that_it_had() {
    let node = node();
    let [p, linked, monitored, server, other] = puppets(&node);
    p.trap_exit(true);
    linked.trap_exit(true);
    p.on("link", linked.pid).ok();
    let monitor = p.on("monitor", monitored.pid).ok().reference;
    p.name("register", b"me", p.pid).ok();
    p.name("register", b"also", p.pid).ok();
    p.group("group_join", "all", p.pid);
    other.group("group_join", "all", other.pid);
    let timer = p.send_after(other.pid, 9, b"late", 600_000).ok().reference;
    let request = p.request(server.pid, 4, b"?").ok().reference;
    // Two messages that it leaves in its mailbox, and one before them that it takes.
    for tag in 1..4 {
        other.send(p.pid, tag, &[tag as u8]).ok();
    }
    p.wait().message(Kind::Message, &[1]);
    let before = of(&node, p.pid);
    let snapshot = capture(&node, p.pid);
    assert!(snapshot.guest.state.is_some() && snapshot.guest.has_run);

    kill(&node, p.pid);
    let killed = Reason::KILLED.0;
    linked.wait().notifications(Kind::Exit, p.pid, killed);
    assert!(node.find("me").is_err());
    assert_eq!(restore(&node, &snapshot), Ok(p.pid));

    // The same process, as far as anybody can tell.
    let after = of(&node, p.pid);
    assert_eq!((after.module, after.names), (before.module, before.names));
    assert_eq!(node.find("also").unwrap(), p.pid);
    assert_eq!(other.members("all").0, 2);
    p.wait().message(Kind::Message, &[2]);
    p.wait().message(Kind::Message, &[3]);
    // The reply to its request can reach it no more.
    let noproc = Reason::NOPROC.0;
    let down = p.wait().notifications(Kind::Down, server.pid, noproc);
    assert_eq!(down.message, request);
    p.has_nothing();
    // Its timer goes on, and it can cancel it.
    let left = p.act("cancel_timer", &[timer.cast_signed()], b"").result;
    assert!((1..=600_000).contains(&left), "{left}");
    // Links and monitors hold, and it still traps exits.
    let reason = Reason::GUEST + 4;
    p.exit_process(monitored.pid, reason, b"why").ok();
    monitored.wait_for_end();
    let down = p.wait().notifications(Kind::Down, monitored.pid, reason);
    assert_eq!(down.message, monitor);
    linked.kill();
    p.wait().notifications(Kind::Exit, linked.pid, killed);
    node.halt();
}

#[test]
fn a_rust_guest_has_all_that_it_had() {
    let node = node();
    let counter = sdk::platform("counter");
    sdk::deploy(&node, "counter", counter).unwrap();
    let pid = spawn(&node, "counter", &sdk::pack(&Args { start: 40 }));
    node.send(pid, 0, sdk::pack(&Change::Add(2))).unwrap();
    let count: Count = sdk::call(&node, pid, &"Get");
    assert_eq!(count.count, 42);
    node.system().register("counter", pid).unwrap();
    let snapshot = capture(&node, pid);
    // What is done after the capture is not in the snapshot.
    node.send(pid, 0, sdk::pack(&Change::Add(100))).unwrap();
    let count: Count = sdk::call(&node, pid, &"Get");
    assert_eq!(count.count, 142);
    for _ in 0..2 {
        kill(&node, pid);
        assert_eq!(restore(&node, &snapshot), Ok(pid));
        let count: Count = sdk::call(&node, pid, &"Get");
        assert_eq!(count.count, 42);
        assert_eq!(node.find("counter").unwrap(), pid);
    }
    node.halt();
}

#[test]
fn a_process_that_has_not_started_begins_after_the_restore() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "actor", &counts().text());
    // Its first message is as it was; the friend is not there.
    let pid = spawn(&node, "actor", &Pid::NONE.to_bytes());
    post(&node, pid, b"1");
    let snapshot = capture(&node, pid);
    kill(&node, pid);
    assert_eq!(restore(&node, &snapshot), Ok(pid));
    assert_eq!(ask(&node, pid), 1);
    node.halt();
}

#[test]
fn callers_of_a_killed_process_get_noproc_and_of_a_restored_one_a_reply() {
    let node = node();
    let [p, caller] = puppets(&node);
    let (arguments, data) = Puppet::calls(p.pid, 7, b"?", 64, 60_000);
    let call = caller.begin("call", &arguments, &data);
    let snapshot = capture(&node, p.pid);
    let tags: Vec<u32> = snapshot.inbox.iter().map(|message| message.tag).collect();
    assert_eq!(tags, [7]);
    kill(&node, p.pid);
    let failed = call.end();
    assert_eq!(failed.kind, Kind::Down as u32, "{failed:?}");
    assert_eq!(restore(&node, &snapshot), Ok(p.pid));
    // The request is in the mailbox; the reply to it reaches a caller that has given up.
    let request = p.wait().message(Kind::Request, b"?");
    p.reply(request.sender, request.message, 0, b"late").ok();
    caller.has_nothing();
    // A new call is answered like any other.
    let call = caller.begin("call", &arguments, &data);
    let request = p.wait().message(Kind::Request, b"?");
    p.reply(request.sender, request.message, 0, b"!").ok();
    call.end().message(Kind::Reply, b"!");
    node.halt();
}

#[test]
fn a_process_of_an_older_version_is_upgraded_after_the_restore() {
    let (node, _, actor) = cast(counts());
    for _ in 0..3 {
        post(&node, actor, b"");
    }
    assert_eq!(ask(&node, actor), 3);
    let old = capture(&node, actor);
    let next = Actor {
        request: "(i64.add (call $count) (i64.const 100))",
        ..counts()
    };
    deploy(&node, "actor", &next.text());
    kill(&node, actor);
    assert_eq!(restore(&node, &old), Ok(actor));
    assert_eq!(ask(&node, actor), 103);
    let info = of(&node, actor);
    assert_eq!(info.module.as_deref(), Some("actor@2"));

    // A version that is not loaded, or that has another initial state, is refused.
    kill(&node, actor);
    let mut unknown = old.clone();
    unknown.guest.digest = [9; 32];
    let error = node.restore(&unknown).unwrap_err();
    assert!(matches!(&error, RestoreError::Version { module, .. } if module == "actor"));
    assert!(error.to_string().contains("09090909"), "{error}");
    let puppet = Puppet::new(&node);
    let mut foreign = old.clone();
    foreign.guest.module = "puppet".into();
    foreign.guest.digest = capture(&node, puppet.pid).guest.digest;
    let error = node.restore(&foreign).unwrap_err();
    assert!(matches!(&error, RestoreError::State(_)), "{error}");
    assert!(!node.system().is_alive(actor));
    node.halt();
}

/// Captures a process that stays on its version, and restores it: it still does, for the same reason.
/// It is upgraded when there is a version after the next.
#[track_caller]
fn stays(node: &Node, actor: Pid, state: UpgradeState) {
    let seen = |node: &Node| {
        let info = of(node, actor);
        (info.upgrade, info.upgrade_reason, info.module)
    };
    eventually("it stays", || seen(node).0 == Some(state));
    let before = seen(node);
    let mut events = node.events();
    let snapshot = capture(node, actor);
    kill(node, actor);
    assert_eq!(restore(node, &snapshot), Ok(actor));
    ask(node, actor);
    assert_eq!(seen(node), before);
    while let Ok(event) = events.try_recv() {
        let again = matches!(
            event,
            Event::UpgradeFailed { .. } | Event::Reverted { .. } | Event::RolledBack { .. }
        );
        assert!(!again, "{event:?}");
    }
    kill(node, actor);
    let third = Actor {
        request: "(i64.const 33)",
        ..counts()
    };
    deploy(node, "actor", &third.text());
    assert_eq!(restore(node, &snapshot), Ok(actor));
    assert_eq!(ask(node, actor), 33);
    assert_eq!(seen(node).0, Some(UpgradeState::Current));
}

#[test]
fn a_process_that_new_code_failed_stays_reverted_after_the_restore() {
    let (node, _, actor) = cast(counts());
    deploy(&node, "actor", &handles(X).text());
    post(&node, actor, b"x");
    assert_eq!(ask(&node, actor), 1);
    stays(&node, actor, UpgradeState::Reverted);
    node.halt();
}

/// Waits in a handler for a message with tag 7, and counts ten.
const WAITS: &str = "(i32.store (i32.const 128) (i32.const 48))
    (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 1) (i64.const 7)))
    (call $set (i64.const 10))";

#[test]
fn a_process_whose_upgrade_failed_stays_on_its_version_after_the_restore() {
    let (node, _, actor) = cast(handles(WAITS));
    post(&node, actor, b"wait");
    eventually("it waits", || of(&node, actor).state == "receive");
    let state = STATE.replace("(i32.const 0))", "(i64.gt_u (call $count) (i64.const 5)))");
    let next = Actor {
        state: Some(&state),
        ..counts()
    };
    deploy(&node, "actor", &next.text());
    node.send(actor, 7, Vec::new()).unwrap();
    stays(&node, actor, UpgradeState::Failed);
    node.halt();
}

#[test]
fn an_exempt_process_is_exempt_after_the_restore() {
    let loops = "(loop $loops
        (i32.store (i32.const 128) (i32.const 48))
        (drop (call $receive (i32.const 128) (i32.const 512) (i32.const 256) (i64.const -1) (i32.const 0) (i64.const 0)))
        (br_if $loops (i32.ne (i32.load8_u (i32.const 512)) (i32.const 101))))";
    let (node, _, actor) = cast(handles(loops));
    post(&node, actor, b"");
    eventually("it loops", || of(&node, actor).state == "receive");
    let leave = DeployOptions {
        loops: Loops::Leave,
        ..DeployOptions::default()
    };
    let next = vec![module("actor", &counts().text())];
    assert_eq!(node.deploy(next, leave).unwrap().exempt, 1);
    post(&node, actor, b"e");
    eventually("it rests", || of(&node, actor).state != "receive");
    stays(&node, actor, UpgradeState::Exempt);
    node.halt();
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let (node, _, actor) = cast(counts());
    let snapshot = capture(&node, actor);
    let bytes = snapshot.to_bytes();
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(ProcessSnapshot::from_bytes(&damaged).is_err(), "{at}");
        assert!(ProcessSnapshot::from_bytes(&bytes[..at]).is_err(), "{at}");
    }
    kill(&node, actor);
    let state = snapshot.guest.state.clone().unwrap();
    for cut in 0..state.len() {
        let mut damaged = snapshot.clone();
        damaged.guest.state = Some(state[..cut].to_vec());
        let refused = node.restore(&damaged);
        assert!(matches!(refused, Err(RestoreError::State(_))), "{cut}");
    }
    assert_eq!(restore(&node, &snapshot), Ok(actor));
    assert_eq!(ask(&node, actor), 0);
    node.halt();
}

#[test]
fn a_pid_or_name_that_is_in_use_is_not_given_twice() {
    let node = node();
    let [p, other] = puppets(&node);
    p.name("register", b"name", p.pid).ok();
    let snapshot = capture(&node, p.pid);
    assert_eq!(restore(&node, &snapshot), Err(RestoreError::SlotTaken));
    kill(&node, p.pid);
    other.name("register", b"name", other.pid).ok();
    let taken = RestoreError::Name("name".into(), NameError::Taken);
    assert_eq!(restore(&node, &snapshot), Err(taken));
    assert!(!node.system().is_alive(p.pid));
    other.kill();
    assert_eq!(restore(&node, &snapshot), Ok(p.pid));
    assert_eq!(node.find("name").unwrap(), p.pid);
    let elsewhere = self::node();
    let foreign = RestoreError::OtherNode(p.pid.node);
    deploy(&elsewhere, "puppet", &puppet::text(1));
    assert_eq!(elsewhere.restore(&snapshot), Err(foreign));
    elsewhere.halt();
    node.halt();
}

#[test]
fn what_cannot_be_captured_says_why() {
    let node = node();
    let [p, waiting, owner] = puppets(&node);
    let blocked = p.begin(
        "receive",
        &[puppet::HEADER, puppet::BUFFER, 64, -1, 0, 0],
        b"",
    );
    assert_eq!(why_not(&node, p.pid), WhyNot::Suspended("receive"));
    node.send(p.pid, 1, Vec::new()).unwrap();
    blocked.end().ok();
    assert!(capture(&node, p.pid).inbox.is_empty());

    waiting.tell("leave", &[1], b"");
    eventually("it returns WAITING", || waiting.state() == "waiting");
    assert_eq!(why_not(&node, waiting.pid), WhyNot::Waiting);

    owner.table("", 0).ok();
    assert_eq!(why_not(&node, owner.pid), WhyNot::Tables(1));

    let probe = Probe::new(&node).unwrap();
    assert_eq!(why_not(&node, probe.pid()), WhyNot::Native);
    kill(&node, p.pid);
    assert_eq!(why_not(&node, p.pid), WhyNot::NoProcess);
    node.halt();
}

#[test]
fn a_process_on_probation_is_captured_when_it_is_over() {
    let node = node_with(|config| config.probation = 2);
    deploy(&node, "puppet", &puppet::text(1));
    let p = Puppet::new(&node);
    assert_eq!(p.act("version", &[], b"").result, 1);
    deploy(&node, "puppet", &puppet::text(2));
    eventually("it is upgraded", || p.version_is("puppet@2"));
    assert_eq!(why_not(&node, p.pid), WhyNot::Probation(2));
    for _ in 0..2 {
        assert_eq!(p.act("version", &[], b"").result, 2);
    }
    let snapshot = capture(&node, p.pid);
    assert_eq!(snapshot.guest.upgrades, 1);
    node.halt();
}

#[test]
fn open_files_keep_a_process_where_it_is() {
    let folder_of_test = TempDir::new().unwrap();
    let granted = granted(vec![folder("/", folder_of_test.path(), true)]);
    let node = node_with(|config| config.limits = granted.clone());
    deploy(&node, "puppet", &puppet::with_wasi(1));
    let p = wasi::puppet(&node, granted.clone());
    let file = wasi::open(&p, "file", wasi::CREATE, wasi::WRITE);
    assert_eq!(
        why_not(&node, p.pid),
        WhyNot::Holds(Holding {
            kind: "open files",
            count: 1
        })
    );
    assert_eq!(p.act("fd_close", &[file], b"").result, 0);
    let snapshot = capture(&node, p.pid);
    assert_eq!(snapshot.limits.grants, granted.grants);
    kill(&node, p.pid);
    assert_eq!(restore(&node, &snapshot), Ok(p.pid));
    // It has its folders again.
    wasi::open(&p, "file", 0, wasi::WRITE);
    node.halt();
}

/// A capture disturbs nothing: under load, each message is handled once.
#[test]
fn processes_go_on_while_they_are_captured() {
    let (node, _, actor) = cast(counts());
    let mut captured = 0;
    for _ in 0..2_000 {
        post(&node, actor, b"");
        captured += u32::from(node.capture(actor).is_ok());
    }
    assert_eq!(ask(&node, actor), 2_000);
    let last = capture(&node, actor);
    kill(&node, actor);
    assert_eq!(restore(&node, &last), Ok(actor));
    assert_eq!(ask(&node, actor), 2_000, "{captured} captures");
    node.halt();
}
