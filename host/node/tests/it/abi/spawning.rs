//! Spawning: arguments, options, and starts that fail.

use exuvia_node::abi::{Code, Kind, Reason, spawn};
use exuvia_node::{CallFailed, Event};

use super::with_puppets;
use crate::guests::{COUNTER, ask, deploy, event};
use crate::puppet::{DATA, Options, Puppet};

/// A module whose processes fail to start, each in its own way: the first byte
/// of the arguments says how.
fn starter() -> String {
    format!(
        r#"(module {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 1024) "no licence")
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const 0) (i32.const 0) (i64.const 0))
      (then (return (i32.const 0))))
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 102)) ;; f: refuses
      (then (drop (call $init_ack (i32.const 300) (i32.const 1024) (i32.const 10))) (return (i32.const 2))))
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 116)) (then unreachable)) ;; t: traps
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 115)) ;; s: never answers
      (then (loop $l (br $l))))
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 100)) (then (return (i32.const 2)))) ;; d: is done
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 120)) ;; x: exits, with code and text of its arguments
      (then (call $exit (i32.load8_u (i32.const 513)) (i32.const 514) (i32.sub (i32.load (i32.const 100)) (i32.const 2)))))
    (if (i32.eq (i32.load8_u (i32.const 512)) (i32.const 119)) ;; w: acknowledges by waiting
      (then (drop (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const -1) (i32.const 1) (i64.const 77)))))
    (i32.const 0)))"#,
        imports = crate::guests::imports()
    )
}

#[test]
fn a_child_gets_its_arguments() {
    let node = with_puppets();
    deploy(&node, "counter", COUNTER);
    let a = Puppet::new(&node);
    let child = a
        .spawn("counter", &7u64.to_le_bytes(), Options::default())
        .ok()
        .pid;
    assert_eq!(ask(&node, child), 7);
    // No name: a process of its own module.
    let twin = Puppet::of(&node, a.spawn("", b"", Options::default()).ok().pid);
    assert_eq!(twin.act("version", &[], b"").result, 1);
    a.spawn("nothing", b"", Options::default())
        .is(Code::NoModule);
    a.spawn("puppet", b"", Options::flags(8))
        .is(Code::BadArgument);
    let (mut list, data) = Options::default().of("puppet", b"");
    list[5] = 65_530;
    a.act("spawn", &list, &data).is(Code::BadPointer);
    node.halt();
}

/// What a later version adds to the options must be zero, or is refused.
#[test]
fn longer_spawn_options_are_accepted_if_the_rest_is_zero() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let spawn = |size: u32, later: &[u8]| {
        let (mut list, data) = Options::default().of("", b"");
        let mut data = data[..40].to_vec();
        data[..4].copy_from_slice(&size.to_le_bytes());
        data.extend(later);
        list[4] = DATA;
        a.act("spawn", &list, &data)
    };
    spawn(48, &[0; 8]).ok();
    spawn(44, &[0, 0, 0, 0, 9]).ok();
    spawn(64, &[&[0; 16][..], &[0; 8], &[9]].concat()).ok();
    spawn(1_024, &[0; 1_000]).ok();
    // A priority, grants and a word that there are not.
    spawn(56, &[&[0; 8][..], &[9, 0, 0, 0, 0, 0, 0, 0]].concat()).is(Code::BadArgument);
    let grants = |at: u32, length: u32| {
        let words = [at.to_le_bytes(), length.to_le_bytes()].concat();
        spawn(64, &[&[0; 16][..], &words].concat())
    };
    grants(0, 70_000).is(Code::Limit);
    grants(65_500, 100).is(Code::BadPointer);
    grants(0, 10).is(Code::BadArgument);
    // Flags and pointers are checked first.
    let too_long = |flags: u8, pid_out: i64| {
        let (mut list, data) = Options::default().of("", b"");
        let mut data = data[..40].to_vec();
        (data[0], data[4]) = (64, flags);
        data.extend([&[0; 20][..], &70_000_u32.to_le_bytes()].concat());
        (list[4], list[5]) = (DATA, pid_out);
        a.act("spawn", &list, &data)
    };
    too_long(64, 65_530).is(Code::BadArgument);
    too_long(0, 65_530).is(Code::BadPointer);
    spawn(72, &[&[0; 28][..], &[9, 0, 0, 0]].concat()).is(Code::BadArgument);
    spawn(39, &[]).is(Code::BadArgument);
    spawn(1_025, &[0; 1_000]).is(Code::BadArgument);
    spawn(u32::MAX, &[0; 1_000]).is(Code::BadArgument);
    node.halt();
}

#[test]
fn a_synchronous_start_succeeds_fails_or_times_out() {
    let node = with_puppets();
    deploy(&node, "starter", &starter());
    let a = Puppet::new(&node);
    let options = Options {
        flags: spawn::SYNC | spawn::MONITOR,
        timeout_ms: 20_000,
        ..Options::default()
    };
    // It acknowledges by its first REST, or by its first wait.
    for how in [b"o", b"w"] {
        let child = Puppet::of(&node, a.spawn("starter", how, options).ok().pid);
        assert!(child.is_alive());
    }
    a.has_nothing();
    let got = a.spawn("starter", b"f", options).is(Code::StartFailed);
    let (child, monitor) = (got.pid, got.reference);
    let got = a.wait().notifications(Kind::Down, child, 300);
    assert_eq!((got.message, got.payload()), (monitor, &b"no licence"[..]));
    let got = a.spawn("starter", b"t", options).is(Code::StartFailed);
    let down = a.wait().notifications(Kind::Down, got.pid, Reason::TRAP.0);
    assert_eq!(down.message, got.reference);
    a.has_nothing();
    node.halt();
}

#[test]
fn a_start_that_times_out_fails_and_the_child_is_killed() {
    let node = with_puppets();
    deploy(&node, "starter", &starter());
    let a = Puppet::new(&node);
    let options = Options {
        flags: spawn::SYNC | spawn::MONITOR,
        timeout_ms: 10,
        ..Options::default()
    };
    let got = a.spawn("starter", b"s", options).is(Code::StartFailed);
    a.wait()
        .notifications(Kind::Down, got.pid, Reason::KILLED.0);
    Puppet::of(&node, got.pid).wait_for_end();
    a.has_nothing();
    node.halt();
}

#[test]
fn a_failed_start_reaches_a_linked_parent_as_an_exit() {
    let node = with_puppets();
    deploy(&node, "starter", &starter());
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    a.trap_exit(true);
    let linked = Options::flags(spawn::SYNC | spawn::LINK);
    let got = a.spawn("starter", b"f", linked).is(Code::StartFailed);
    a.wait().notifications(Kind::Exit, got.pid, 300);
    // Without a trap it is the parent's end.
    let (list, data) = linked.of("starter", b"f");
    let Err(CallFailed::Down { reason, .. }) = b.try_do("spawn", &list, &data) else {
        // The signal may come behind the answer.
        return b.wait_for_end();
    };
    assert!(reason.contains("no licence"), "{reason}");
    node.halt();
}

#[test]
fn a_child_that_ends_before_it_acknowledged_is_logged() {
    let node = with_puppets();
    deploy(&node, "starter", &starter());
    let a = Puppet::new(&node);
    let options = Options {
        flags: spawn::SYNC | spawn::MONITOR,
        timeout_ms: 20_000,
        ..Options::default()
    };
    let mut events = node.events();
    let mut logged = || {
        event(&mut events, "an end", |event| match event {
            Event::Exit { pid, reason, .. } => Some((pid.clone(), reason.clone())),
            _ => None,
        })
    };
    // Orderly ends, and those of starts for which no parent waits, are not reported; so the next
    // line is always that of the next failure.
    let quiet = |how: &[u8], options| {
        let got = a.spawn("starter", how, options);
        let down = a.wait();
        assert_eq!((down.kind, down.sender), (Kind::Down as u32, got.pid));
        assert_eq!(down.payload(), b"");
    };
    for (how, told) in [
        (
            &b"d"[..],
            "normal: `run` returned 2 (DONE) before the start",
        ),
        (
            b"x\0",
            "normal: it called `exit` with 0 (NORMAL) before the start",
        ),
        (b"x\0all done", "normal: all done"),
        (b"f", "exit 300: no licence"),
    ] {
        quiet(b"d", Options::flags(spawn::MONITOR));
        quiet(b"x\x01", options);
        let got = a.spawn("starter", how, options).is(Code::StartFailed);
        a.wait()
            .notifications(Kind::Down, got.pid, if how == b"f" { 300 } else { 0 });
        let (pid, reason) = logged();
        assert_eq!(pid, got.pid.to_string(), "{reason}");
        assert!(reason.starts_with(told), "{reason}");
    }
    node.halt();
}

#[test]
fn a_start_without_a_waiting_parent_can_fail_too() {
    let node = with_puppets();
    deploy(&node, "starter", &starter());
    let a = Puppet::new(&node);
    let got = a
        .spawn("starter", b"f", Options::flags(spawn::MONITOR))
        .ok();
    let down = a.wait().notifications(Kind::Down, got.pid, 300);
    assert_eq!(down.payload(), b"no licence");
    node.halt();
}

#[test]
fn an_acknowledgement_with_an_unknown_status_is_rejected() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    for status in [1, 255, -1] {
        a.act("init_ack", &[status, 0, 0], b"")
            .is(Code::BadArgument);
    }
    // It has started long since: nothing comes of this.
    a.act("init_ack", &[300, DATA, 2], b"no").ok();
    assert_eq!(a.act("version", &[], b"").result, 1);
    node.halt();
}
