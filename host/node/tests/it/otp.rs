//! What else of OTP people lean on: monitors by name, priorities, configuration,
//! processes that are suspended, reports of failures.

use exuvia_manifest::Manifest;
use exuvia_node::abi::{Code, Kind, Priority, Reason};
use exuvia_node::{
    App, BootOptions, Event, LastMessage, Limits, Node, Pid, Rendered, SpawnOptions, TargetError,
};

use crate::guests::{
    ask, boot_options, counter, deploy, event, eventually, node, node_with, spawn, with_layout,
};
use crate::puppet::{self, BUFFER, DATA, PID, Puppet, REFERENCE, ROOM};

/// Adds what a message has to the count.
const SUM: &str = "(call $set (i64.add (call $count) (call $first)))";
/// What that wants, and a state that crosses.
const REST: &str = r#"(func $first (result i64) (i64.load (i32.const 512)))
  (func (export "save") (result i32) (call $put (i32.const 16) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 16) (i32.const 8))) (i32.const 0))"#;

fn with_puppets() -> Node {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    node
}

// ---- monitors by name -----------------------------------------------------------

fn monitor_name(puppet: &Puppet, name: &[u8]) -> puppet::Done {
    let length = i64::try_from(name.len()).unwrap();
    puppet.act("monitor_name", &[DATA, length, PID, REFERENCE], name)
}

#[test]
fn a_monitor_by_name_is_of_the_current_holder() {
    let node = with_puppets();
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    b.name("register", b"bee", b.pid).ok();
    let made = monitor_name(&a, b"bee").ok();
    assert_eq!(made.pid, b.pid);
    b.name("unregister", b"bee", b.pid).ok();
    a.has_nothing();
    b.kill();
    let down = a.wait().notifications(Kind::Down, b.pid, Reason::KILLED.0);
    assert_eq!(down.message, made.reference);
    // No process has the name: the notification comes at once.
    let made = monitor_name(&a, b"bee").ok();
    assert_eq!(made.pid, Pid::NONE);
    let down = a
        .wait()
        .notifications(Kind::Down, Pid::NONE, Reason::NOPROC.0);
    assert_eq!(down.message, made.reference);
    monitor_name(&a, b"").is(Code::BadArgument);
    // And can be flushed.
    let made = monitor_name(&a, b"bee").ok().reference;
    a.act("demonitor", &[made.cast_signed(), 1], b"").ok();
    a.has_nothing();
    node.halt();
}

// ---- priorities -----------------------------------------------------------------

/// A node whose processes may have any priority.
fn all_priorities() -> Node {
    node_with(|config| config.limits.priority = Priority::High)
}

fn with_priority(node: &Node, highest: Priority) -> Puppet {
    let options = SpawnOptions {
        limits: Some(Limits {
            priority: highest,
            ..Limits::default()
        }),
        ..SpawnOptions::default()
    };
    Puppet::of(node, node.spawn("puppet", b"", &options).unwrap())
}

#[test]
fn a_priority_is_bounded_by_the_limits() {
    let node = all_priorities();
    deploy(&node, "puppet", &puppet::text(1));
    let set = |puppet: &Puppet, to: i64| puppet.act("set_priority", &[to], b"").result;
    let denied = i64::from(Code::Denied as i32);
    let (low, normal, high) = (
        with_priority(&node, Priority::Low),
        with_priority(&node, Priority::Normal),
        with_priority(&node, Priority::High),
    );
    assert_eq!((set(&low, 1), set(&low, 2)), (1, denied));
    assert_eq!((set(&normal, 1), set(&normal, 2)), (2, 1));
    assert_eq!(set(&normal, 3), denied);
    assert_eq!((set(&high, 3), set(&high, 3)), (2, 3));
    for nonsense in [0, 4, -1] {
        let answer = set(&high, nonsense);
        assert_eq!(answer, i64::from(Code::BadArgument as i32));
    }
    let shown = |puppet: &Puppet| node.inspect(puppet.pid).unwrap().0.priority;
    assert_eq!(
        [shown(&low), shown(&normal), shown(&high)],
        ["low", "normal", "high"]
    );
    node.halt();
}

/// All go on at each priority, also when they are preempted again and again.
#[test]
fn processes_of_all_priorities_finish() {
    let node = all_priorities();
    // Spins for a second or so of one core, in all.
    let spins = counter(
        "(drop (call $set_priority (i32.wrap_i64 (call $first)))) (call $spin (i32.const 3000000)) (call $set (i64.add (call $count) (i64.const 1)))",
        "(call $count)",
        "(func $first (result i64) (i64.load (i32.const 512))) (func $spin (param i32) (loop $l (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if $l (local.get 0))))",
    )
    .replacen(
        "(module",
        "(module (import \"exuvia\" \"set_priority\" (func $set_priority (param i32) (result i32)))",
        1,
    );
    deploy(&node, "spins", &spins);
    let limits = Limits {
        priority: Priority::High,
        ..Limits::default()
    };
    let pids: Vec<Pid> = (0..12u64)
        .map(|number| {
            let options = SpawnOptions {
                limits: Some(limits.clone()),
                ..SpawnOptions::default()
            };
            let pid = node.spawn("spins", b"", &options).unwrap();
            let priority = number % 3 + 1;
            node.send(pid, 0, priority.to_le_bytes().to_vec()).unwrap();
            pid
        })
        .collect();
    for pid in pids {
        assert_eq!(ask(&node, pid), 1);
    }
    node.halt();
}

/// With strangers' code on the node, one that may have high priority and never rests
/// must not keep the others from running, nor an operator from ending it.
#[test]
fn a_spinning_process_of_high_priority_starves_no_other() {
    let node = node_with(|config| {
        config.limits.priority = Priority::High;
        config.schedulers = 1;
    });
    let spins = counter(
        "(drop (call $set_priority (i32.const 3))) (loop $l (br $l))",
        "(call $count)",
        "",
    )
    .replacen(
        "(module",
        "(module (import \"exuvia\" \"set_priority\" (func $set_priority (param i32) (result i32)))",
        1,
    );
    deploy(&node, "spins", &spins);
    let high = || {
        let options = SpawnOptions {
            limits: Some(Limits {
                priority: Priority::High,
                ..Limits::default()
            }),
            ..SpawnOptions::default()
        };
        let pid = node.spawn("spins", b"", &options).unwrap();
        node.send(pid, 0, Vec::new()).unwrap();
        pid
    };
    let spinning = [high(), high(), high()];
    deploy(&node, "puppet", &puppet::text(1));
    let other = Puppet::new(&node);
    for _ in 0..50 {
        assert_eq!(other.act("version", &[], b"").result, 1);
    }
    // Low too.
    let low = with_priority(&node, Priority::Low);
    assert_eq!(low.act("set_priority", &[1], b"").result, 1);
    assert_eq!(low.act("version", &[], b"").result, 1);
    for pid in spinning {
        node.kill(pid);
    }
    assert_eq!(other.act("version", &[], b"").result, 1);
    node.halt();
}

// ---- configuration --------------------------------------------------------------

const APP: &str = r#"
[app]
name = "configured"

[config]
greeting = "hello"
[config.chat]
max_users = 300
rooms = ["kitchen", "hall"]

[modules.puppet]
path = "puppet.wat"

[[supervisor.children]]
id = "puppet"
module = "puppet"
name = "puppet"
"#;

fn config(puppet: &Puppet, key: &str) -> Option<Vec<u8>> {
    let length = i64::try_from(key.len()).unwrap();
    let done = puppet.act("config", &[DATA, length, BUFFER, ROOM], key.as_bytes());
    if done.result == i64::from(Code::Empty as i32) {
        return None;
    }
    let length = usize::try_from(done.result).unwrap();
    Some(done.buffer()[..length].to_vec())
}

#[test]
fn a_guest_asks_for_the_apps_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("exuvia.toml"), APP).unwrap();
    std::fs::write(folder.path().join("puppet.wat"), puppet::text(1)).unwrap();
    let manifest = with_layout(Manifest::load(folder.path().join("exuvia.toml")).unwrap());
    let options: BootOptions = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap();
    let node = app.node().clone();
    let puppet = Puppet::of(&node, node.find("puppet").unwrap());
    assert_eq!(config(&puppet, "greeting").unwrap(), b"\xa5hello");
    assert_eq!(config(&puppet, "chat.max_users").unwrap(), b"\xcd\x01\x2c");
    assert_eq!(
        config(&puppet, "chat.rooms").unwrap(),
        b"\x92\xa7kitchen\xa4hall"
    );
    let chat = config(&puppet, "chat").unwrap();
    let all = config(&puppet, "").unwrap();
    assert!(
        all.len() > chat.len() && all.ends_with(b"\xa5hello"),
        "{all:?}"
    );
    assert_eq!(config(&puppet, "chat.max"), None);
    assert_eq!(config(&puppet, "chat.rooms.0"), None);
    let done = puppet.act("config", &[DATA, 1, BUFFER, ROOM], b"\xff");
    done.is(Code::BadArgument);
    app.stop(std::time::Duration::from_secs(10));
}

#[test]
fn a_node_without_a_manifest_has_no_configuration() {
    let node = with_puppets();
    assert_eq!(config(&Puppet::new(&node), ""), None);
    node.halt();
}

// ---- suspend and resume ---------------------------------------------------------

#[test]
fn a_suspended_process_takes_no_messages_and_loses_none() {
    let node = node();
    deploy(&node, "count", &counter(SUM, "(call $count)", REST));
    let pid = spawn(&node, "count", b"");
    assert_eq!(ask(&node, pid), 0);
    assert!(node.suspend(pid).unwrap().changed);
    assert!(!node.suspend(pid).unwrap().changed);
    for _ in 0..3 {
        node.send(pid, 0, 5u64.to_le_bytes().to_vec()).unwrap();
    }
    let state = || node.inspect(pid).unwrap().0.process;
    assert_eq!((state().state.as_str(), state().mailbox), ("suspended", 3));
    // New code is crossed to meanwhile.
    deploy(
        &node,
        "count",
        &counter(SUM, "(i64.add (call $count) (i64.const 100))", REST),
    );
    eventually("it is upgraded", || {
        state().module.as_deref() == Some("count@2")
    });
    assert_eq!((state().state.as_str(), state().mailbox), ("suspended", 3));
    assert!(node.resume(pid).unwrap().changed);
    assert!(!node.resume(pid).unwrap().changed);
    assert_eq!(ask(&node, pid), 115);
    node.halt();
}

#[test]
fn a_suspended_process_can_be_stopped() {
    let node = with_puppets();
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    a.trap_exit(true);
    a.on("link", b.pid).ok();
    assert!(node.suspend(b.pid).unwrap().changed);
    node.kill(b.pid);
    a.wait().notifications(Kind::Exit, b.pid, Reason::KILLED.0);
    assert!(matches!(
        node.suspend(b.pid),
        Err(TargetError::NoProcess(_))
    ));
    node.halt();
}

/// A process that waits in the middle of a handler finishes it first.
#[test]
fn a_message_in_progress_is_finished_before_the_suspension() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let sleeps = a.begin("receive", &[puppet::HEADER, BUFFER, ROOM, -1, 1, 3], b"");
    assert!(!node.suspend(a.pid).unwrap().still);
    assert_eq!(a.state(), "suspending");
    node.send(a.pid, 3, b"wake up".to_vec()).unwrap();
    sleeps.end().message(Kind::Message, b"wake up");
    // And then no other.
    node.send(a.pid, puppet::CMD, Puppet::command("version", &[], b""))
        .unwrap();
    eventually("it stands still", || a.state() == "suspended");
    assert_eq!(node.inspect(a.pid).unwrap().0.process.mailbox, 1);
    node.resume(a.pid).unwrap();
    eventually("it goes on", || {
        node.inspect(a.pid).unwrap().0.process.mailbox == 0
    });
    node.halt();
}

// ---- reports --------------------------------------------------------------------

fn last(events: &mut tokio::sync::broadcast::Receiver<Event>) -> Option<LastMessage> {
    event(events, "the end", |event| match event {
        Event::Exit { last, .. } => Some(last.clone()),
        _ => None,
    })
}

#[test]
fn a_crash_report_has_the_message_that_was_handled() {
    let node = node();
    deploy(
        &node,
        "fails",
        &counter("(unreachable)", "(unreachable)", ""),
    );
    let mut events = node.events();
    let tell = |payload: &[u8]| {
        let pid = spawn(&node, "fails", b"");
        node.send(pid, 0, payload.to_vec()).unwrap();
    };
    tell(b"\x81\xa3Add\x05");
    let from_outside = |payload| LastMessage {
        kind: "message".into(),
        from: "outside the node".into(),
        tag: 0,
        payload,
    };
    let add = Rendered::Msgpack(serde_json::json!({ "Add": 5 }));
    assert_eq!(last(&mut events), Some(from_outside(add)));
    tell(b"");
    assert_eq!(last(&mut events), Some(from_outside(Rendered::Empty)));
    // A long one is cut, and stays readable.
    tell("long ".repeat(700).as_bytes());
    let Some(Rendered::Text(text)) = last(&mut events).map(|last| last.payload) else {
        panic!("it is text");
    };
    assert!(text.starts_with("long long "), "{text}");
    // A process that is killed at rest was handling nothing.
    let pid = spawn(&node, "fails", b"");
    eventually("it rests", || {
        node.inspect(pid).unwrap().0.process.state == "resident"
    });
    node.kill(pid);
    assert_eq!(last(&mut events), None);
    node.halt();
}
