//! The host calls as `guest-sdk/abi.md` tells them, one behaviour a test.

use std::time::Duration;

use exuvia_node::abi::{Code, HEADER_SIZE, Kind, Reason, clock, demonitor, info, receive, spawn};
use exuvia_node::{CallFailed, Event, Node, Pid};

use crate::guests::{
    COUNTER, ask, deploy, event, eventually, exit_of, node, node_with, spawn as start,
};
use crate::puppet::{self, BUFFER, CMD, DATA, HEADER, Options, PID, Puppet, ROOM};

const ECHO: &str = include_str!("../../../../guest-sdk/wat/echo.wat");

fn with_puppets() -> Node {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    node
}

fn two() -> (Node, Puppet, Puppet) {
    let node = with_puppets();
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    (node, a, b)
}

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

// ---- receiving ---------------------------------------------------------------

#[test]
fn a_selective_receive_by_tag_leaves_the_others_in_order() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    for (tag, payload) in [(1, b"a"), (2, b"b"), (3, b"c"), (2, b"d"), (1, b"e")] {
        node.send(a.pid, tag, payload.to_vec()).unwrap();
    }
    let by_tag = |tag| a.receive(0, receive::TAG, tag);
    by_tag(2).message(Kind::Message, b"b");
    by_tag(3).message(Kind::Message, b"c");
    by_tag(9).is(Code::Empty);
    for (tag, payload) in [(1, b"a"), (2, b"d"), (1, b"e")] {
        assert_eq!(a.next().message(Kind::Message, payload).tag, tag);
    }
    a.has_nothing();
    node.halt();
}

#[test]
fn a_selective_receive_by_reference_leaves_the_others_in_order() {
    let (node, a, b) = two();
    deploy(&node, "echo", ECHO);
    let echo = start(&node, "echo", b"");
    node.send(a.pid, 5, b"first".to_vec()).unwrap();
    let one = a.request(echo, 7, b"one").ok().reference;
    let two = a.request(echo, 8, b"two").ok().reference;
    let timer = a.send_after(a.pid, 9, b"tick", 0).ok().reference;
    let got = a.receive(10_000, receive::REFERENCE, timer);
    assert_eq!(got.message(Kind::Timer, b"tick").tag, 9);
    let got = a.receive(10_000, receive::REFERENCE, two);
    let got = got.message(Kind::Reply, b"two");
    assert_eq!((got.sender, got.message, got.tag), (echo, two, 8));
    a.next().message(Kind::Message, b"first");
    assert_eq!(a.next().message(Kind::Reply, b"one").message, one);
    // Another's REQUEST with an equal number is no answer.
    let asked = b.request(a.pid, 1, b"?").ok().reference;
    a.receive(0, receive::REFERENCE, asked).is(Code::Empty);
    a.next().message(Kind::Request, b"?");
    node.halt();
}

#[test]
fn order_holds_after_a_receive_that_timed_out() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.receive(5, receive::ANY, 0).is(Code::Timeout);
    a.receive(5, receive::TAG, 3).is(Code::Timeout);
    for n in 1..=3u8 {
        node.send(a.pid, n.into(), vec![n]).unwrap();
    }
    for n in 1..=3u8 {
        a.receive(1_000, receive::ANY, 0)
            .message(Kind::Message, &[n]);
    }
    a.has_nothing();
    node.halt();
}

#[test]
fn a_blocked_receive_is_woken_only_by_a_match() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let waits = a.begin(
        "receive",
        &[HEADER, BUFFER, ROOM, -1, receive::TAG.into(), 3],
        b"",
    );
    for n in 1..=3u8 {
        node.send(a.pid, n.into(), vec![n]).unwrap();
    }
    waits.end().message(Kind::Message, &[3]);
    a.next().message(Kind::Message, &[1]);
    a.next().message(Kind::Message, &[2]);
    node.halt();
}

#[test]
fn a_message_that_is_too_big_for_the_buffer_stays_first() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    node.send(a.pid, 1, vec![7; 100]).unwrap();
    node.send(a.pid, 2, b"x".to_vec()).unwrap();
    for _ in 0..2 {
        let arguments = [HEADER, BUFFER, 99, 0, 0, 0];
        let got = a.act("receive", &arguments, b"").is(Code::TooBig);
        assert_eq!((got.length, got.tag, got.size), (100, 1, HEADER_SIZE));
        assert!(got.buffer().iter().all(|byte| *byte == 0));
    }
    a.next().message(Kind::Message, &[7; 100]);
    a.next().message(Kind::Message, b"x");
    node.halt();
}

#[test]
fn an_invalid_receive_takes_no_message() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    node.send(a.pid, 1, b"here".to_vec()).unwrap();
    let with = |header: i64, buffer: i64, capacity: i64, timeout: i64, mode: i32| {
        a.act(
            "receive",
            &[header, buffer, capacity, timeout, mode.into(), 0],
            &40u32.to_le_bytes(),
        )
    };
    let (any, tag) = (receive::ANY, receive::TAG);
    with(HEADER, BUFFER, ROOM, -2, any).is(Code::BadArgument);
    with(HEADER, BUFFER, ROOM, 0, 3).is(Code::BadArgument);
    with(HEADER, BUFFER, ROOM, 0, tag | receive::UPGRADE).is(Code::BadArgument);
    // Its size says that there is less room than a header needs.
    with(DATA, BUFFER, ROOM, 0, any).is(Code::BadArgument);
    with(65_536 - 8, BUFFER, ROOM, 0, any).is(Code::BadArgument);
    with(65_536 - 2, BUFFER, ROOM, 0, any).is(Code::BadPointer);
    with(-1, BUFFER, ROOM, 0, any).is(Code::BadPointer);
    with(HEADER, BUFFER, 65_536, 0, any).is(Code::BadPointer);
    with(HEADER, BUFFER, -1, 0, any).is(Code::BadPointer);
    a.next().message(Kind::Message, b"here");
    node.halt();
}

#[test]
fn signals_of_all_kinds_from_one_process_arrive_in_order() {
    let (node, a, b) = two();
    a.on("monitor", b.pid).ok();
    for n in 0..20u8 {
        b.send(a.pid, 1, &[n]).ok();
    }
    b.request(a.pid, 1, b"r").ok();
    b.send(a.pid, 1, b"last").ok();
    b.kill();
    for n in 0..20u8 {
        a.wait().message(Kind::Message, &[n]);
    }
    a.wait().message(Kind::Request, b"r");
    a.wait().message(Kind::Message, b"last");
    a.wait().notifications(Kind::Down, b.pid, Reason::KILLED.0);
    a.has_nothing();
    node.halt();
}

#[test]
fn a_process_can_send_to_itself_and_to_an_ended_process() {
    let (node, a, b) = two();
    a.send(a.pid, 4, b"me").ok();
    let got = a.next().message(Kind::Message, b"me");
    assert_eq!((got.sender, got.tag), (a.pid, 4));
    b.kill();
    a.send(b.pid, 4, b"anybody?").ok();
    a.has_nothing();
    node.halt();
}

// ---- calls -------------------------------------------------------------------

#[test]
fn a_call_is_answered() {
    let node = with_puppets();
    deploy(&node, "echo", ECHO);
    let a = Puppet::new(&node);
    let echo = start(&node, "echo", b"");
    node.send(a.pid, 1, b"meanwhile".to_vec()).unwrap();
    let got = a
        .call(echo, 6, b"hello", ROOM, 10_000)
        .message(Kind::Reply, b"hello");
    assert_eq!((got.sender, got.tag), (echo, 6));
    a.next().message(Kind::Message, b"meanwhile");
    a.has_nothing();
    node.halt();
}

#[test]
fn a_call_times_out_and_the_late_reply_is_dropped() {
    let (node, a, b) = two();
    a.call(b.pid, 6, b"?", ROOM, 5).is(Code::Timeout);
    let asked = b.wait().message(Kind::Request, b"?");
    assert_eq!(asked.sender, a.pid);
    b.reply(asked.sender, asked.message, 0, b"late").ok();
    a.has_nothing();
    // Nor does the end of the one that was asked reach it.
    b.kill();
    a.has_nothing();
    node.halt();
}

#[test]
fn a_call_to_an_ended_process_fails_at_once() {
    let (node, a, b) = two();
    b.kill();
    let got = a.call(b.pid, 6, b"?", ROOM, -1).is(Code::NoProc);
    assert_eq!(
        (got.kind, got.reason),
        (Kind::Down as u32, Reason::NOPROC.0)
    );
    assert_eq!(got.length, 0);
    a.has_nothing();
    node.halt();
}

#[test]
fn a_call_fails_if_the_callee_ends_before_it_replies() {
    let (node, a, b) = two();
    let (arguments, data) = Puppet::calls(b.pid, 6, b"?", ROOM, -1);
    let calls = a.begin("call", &arguments, &data);
    node.kill(b.pid);
    let got = calls.end().is(Code::NoProc);
    assert_eq!(
        (got.kind, got.reason),
        (Kind::Down as u32, Reason::KILLED.0)
    );
    // With a reason that has bytes, the length is 0 all the same.
    let c = Puppet::new(&node);
    let (arguments, data) = Puppet::calls(c.pid, 6, b"?", ROOM, -1);
    let calls = a.begin("call", &arguments, &data);
    c.tell("trap", &[], b"");
    let got = calls.end().is(Code::NoProc);
    assert_eq!(
        (got.kind, got.reason, got.length),
        (Kind::Down as u32, Reason::TRAP.0, 0)
    );
    assert!(got.buffer().iter().all(|byte| *byte == 0));
    a.has_nothing();
    node.halt();
}

#[test]
fn a_reply_that_does_not_fit_the_buffer_can_be_fetched_later() {
    let node = with_puppets();
    deploy(&node, "echo", ECHO);
    let a = Puppet::new(&node);
    let echo = start(&node, "echo", b"");
    let got = a.call(echo, 6, &[9; 200], 100, 10_000).is(Code::TooBig);
    assert_eq!((got.length, got.kind), (200, Kind::Reply as u32));
    a.receive(0, receive::REFERENCE, got.message)
        .message(Kind::Reply, &[9; 200]);
    a.call(a.pid, 6, b"", ROOM, 1).is(Code::BadArgument);
    a.call(echo, 6, b"", ROOM, -2).is(Code::BadArgument);
    node.halt();
}

#[test]
fn an_abandoned_request_gets_no_reply() {
    let (node, a, b) = two();
    let asked = a.request(b.pid, 6, b"?").ok().reference;
    a.act("demonitor", &[asked.cast_signed(), 0], b"").ok();
    let got = b.wait().message(Kind::Request, b"?");
    b.reply(got.sender, got.message, 0, b"late").ok();
    b.kill();
    a.has_nothing();
    a.act("demonitor", &[12345, demonitor::FLUSH.into()], b"")
        .ok();
    a.act("demonitor", &[12345, 2], b"").is(Code::BadArgument);
    node.halt();
}

#[test]
fn a_request_gets_either_a_reply_or_a_down() {
    let (node, a, b) = two();
    let asked = a.request(b.pid, 6, b"?").ok().reference;
    let got = b.wait().message(Kind::Request, b"?");
    b.reply(got.sender, got.message, 3, b"!").ok();
    b.reply(got.sender, got.message, 3, b"twice").ok();
    b.kill();
    let got = a.wait().message(Kind::Reply, b"!");
    assert_eq!((got.message, got.tag), (asked, 3));
    a.has_nothing();
    let c = Puppet::new(&node);
    let asked = a.request(c.pid, 6, b"?").ok().reference;
    c.kill();
    let got = a.wait().notifications(Kind::Down, c.pid, Reason::KILLED.0);
    assert_eq!(got.message, asked);
    let asked = a.request(c.pid, 6, b"?").ok().reference;
    let got = a.wait().notifications(Kind::Down, c.pid, Reason::NOPROC.0);
    assert_eq!(got.message, asked);
    a.has_nothing();
    node.halt();
}

#[test]
fn demonitor_with_flush_drops_a_down_that_has_arrived() {
    let (node, a, b) = two();
    let stays = a.on("monitor", b.pid).ok().reference;
    let goes = a.on("monitor", b.pid).ok().reference;
    assert_ne!(stays, goes);
    b.kill();
    a.act("demonitor", &[stays.cast_signed(), 0], b"").ok();
    a.act(
        "demonitor",
        &[goes.cast_signed(), demonitor::FLUSH.into()],
        b"",
    )
    .ok();
    let got = a.next().notifications(Kind::Down, b.pid, Reason::KILLED.0);
    assert_eq!(got.message, stays);
    a.has_nothing();
    node.halt();
}

#[test]
fn another_process_can_answer_a_forwarded_request() {
    let (node, a, b) = two();
    let c = Puppet::new(&node);
    a.request(b.pid, 6, b"?").ok();
    let got = b.wait().message(Kind::Request, b"?");
    c.reply(got.sender, got.message, 3, b"from c").ok();
    assert_eq!(a.wait().message(Kind::Reply, b"from c").sender, c.pid);
    b.kill();
    a.has_nothing();
    node.halt();
}

// ---- spawning ------------------------------------------------------------------

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
    // Orders and ends of those for whom nobody waits are not told; so the next
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

// ---- links, monitors, ends -----------------------------------------------------

#[test]
fn a_link_works_both_ways_and_normal_exits_do_not_spread() {
    let (node, a, b) = two();
    let (c, d) = (Puppet::new(&node), Puppet::new(&node));
    let watch = Puppet::new(&node);
    watch.on("monitor", b.pid).ok();
    a.on("link", b.pid).ok();
    a.on("link", a.pid).ok();
    node.kill(a.pid);
    watch
        .wait()
        .notifications(Kind::Down, b.pid, Reason::KILLED.0);
    c.on("link", d.pid).ok();
    d.tell("leave", &[2], b"");
    d.wait_for_end();
    assert_eq!(c.act("version", &[], b"").result, 1);
    c.has_nothing();
    node.halt();
}

#[test]
fn a_process_that_traps_exits_gets_a_message_and_lives() {
    let (node, a, b) = two();
    assert_eq!(a.trap_exit(true), 0);
    assert_eq!(a.trap_exit(true), 1);
    a.on("link", b.pid).ok();
    a.on("link", b.pid).ok();
    b.tell("exit", &[300, DATA, 3], b"why");
    let got = a.wait().notifications(Kind::Exit, b.pid, 300);
    assert_eq!(got.payload(), b"why");
    // A link to the dead: the same, with NOPROC.
    a.on("link", b.pid).ok();
    a.wait().notifications(Kind::Exit, b.pid, Reason::NOPROC.0);
    a.has_nothing();
    assert_eq!(a.trap_exit(false), 1);
    let told = a.try_do("link", &[DATA], &b.pid.to_bytes());
    if told.is_ok() {
        a.wait_for_end();
    }
    node.halt();
}

#[test]
fn after_an_unlink_no_exit_comes() {
    let (node, a, b) = two();
    a.on("link", b.pid).ok();
    a.on("unlink", b.pid).ok();
    b.kill();
    assert_eq!(a.act("version", &[], b"").result, 1);
    let c = Puppet::new(&node);
    a.trap_exit(true);
    a.on("link", c.pid).ok();
    a.on("unlink", c.pid).ok();
    a.on("link", c.pid).ok();
    c.kill();
    a.wait().notifications(Kind::Exit, c.pid, Reason::KILLED.0);
    a.has_nothing();
    node.halt();
}

#[test]
fn any_process_can_send_an_exit_signal() {
    let (node, a, b) = two();
    for code in [2, 10, 255, -1] {
        a.exit_process(b.pid, code, b"").is(Code::BadArgument);
    }
    a.exit_process(b.pid, 0, b"").ok();
    assert_eq!(b.act("version", &[], b"").result, 1);
    b.trap_exit(true);
    a.exit_process(b.pid, 0, b"").ok();
    a.exit_process(b.pid, 301, b"please").ok();
    b.wait().notifications(Kind::Exit, a.pid, 0);
    assert_eq!(
        b.wait().notifications(Kind::Exit, a.pid, 301).payload(),
        b"please"
    );
    // A kill cannot be trapped, and others see KILLED.
    a.on("monitor", b.pid).ok();
    a.on("kill", b.pid).ok();
    a.wait().notifications(Kind::Down, b.pid, Reason::KILLED.0);
    a.exit_process(b.pid, 301, b"").ok();
    a.on("kill", b.pid).ok();
    // NORMAL ends nobody but the caller itself.
    let ended = a.try_do("exit_process", &[DATA, 0, 0, 0], &a.pid.to_bytes());
    assert!(ended.is_ok() || matches!(ended, Err(CallFailed::Down { .. })));
    a.wait_for_end();
    node.halt();
}

#[test]
fn each_monitor_fires_once() {
    let (node, a, b) = two();
    let first = a.on("monitor", b.pid).ok().reference;
    let second = a.on("monitor", b.pid).ok().reference;
    b.kill();
    let mut told = [a.wait(), a.wait()].map(|got| got.notifications(Kind::Down, b.pid, 2).message);
    told.sort_unstable_by_key(|reference| *reference != first);
    assert_eq!(told, [first, second]);
    a.has_nothing();
    let third = a.on("monitor", b.pid).ok().reference;
    let got = a.next().notifications(Kind::Down, b.pid, Reason::NOPROC.0);
    assert_eq!(got.message, third);
    node.halt();
}

#[test]
fn an_exit_in_the_middle_of_a_handler_has_its_reason() {
    let (node, a, b) = two();
    let mut events = node.events();
    a.on("monitor", b.pid).ok();
    b.tell("exit", &[4_000, DATA, 6], b"enough");
    assert_eq!(
        a.wait().notifications(Kind::Down, b.pid, 4_000).payload(),
        b"enough"
    );
    assert_eq!(exit_of(&mut events, b.pid).0, "exit 4000: enough");
    for (code, pointer) in [(7, DATA), (-1, DATA), (300, 65_535)] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("exit", &[code, pointer, 6], b"enough");
        a.wait()
            .notifications(Kind::Down, c.pid, Reason::CONTRACT.0);
    }
    for code in [0, 1] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("exit", &[code, DATA, 0], b"");
        a.wait()
            .notifications(Kind::Down, c.pid, i32::try_from(code).unwrap());
    }
    node.halt();
}

#[test]
fn done_is_a_normal_exit_and_other_results_break_the_contract() {
    let (node, a, b) = two();
    a.on("monitor", b.pid).ok();
    b.tell("leave", &[2], b"");
    a.wait().notifications(Kind::Down, b.pid, Reason::NORMAL.0);
    for answer in [3, -7] {
        let c = Puppet::new(&node);
        a.on("monitor", c.pid).ok();
        c.tell("leave", &[answer], b"");
        let got = a
            .wait()
            .notifications(Kind::Down, c.pid, Reason::CONTRACT.0);
        let text = String::from_utf8_lossy(got.payload()).into_owned();
        assert!(text.contains(&format!("`run` returned {answer}")), "{text}");
    }
    node.halt();
}

#[test]
fn a_waiting_process_is_not_upgraded_before_it_is_at_rest() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.tell("leave", &[1], b"");
    eventually("it waits", || a.state() == "waiting");
    deploy(&node, "puppet", &puppet::text(2));
    a.tell("leave", &[1], b"");
    eventually("it waits again", || a.state().starts_with("waiting"));
    let all = node.processes(&exuvia_node::Filter::default());
    assert_eq!(all[0].module.as_deref(), Some("puppet@1"));
    assert_eq!(all[0].upgrades, 0);
    assert_eq!(a.act("version", &[], b"").result, 1);
    // That one ended in REST.
    assert_eq!(a.act("version", &[], b"").result, 2);
    assert_eq!(a.act("info", &[info::UPGRADES.into()], b"").result, 1);
    node.halt();
}

#[test]
fn every_call_rejects_pids_that_never_existed() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let here = a.pid;
    let strangers = [
        Pid::NONE,
        Pid {
            node: here.node ^ 1,
            ..here
        },
        Pid::new(here.node, Pid::SLOTS - 1, 0),
    ];
    for pid in strangers {
        a.send(pid, 1, b"").is(Code::BadArgument);
        a.request(pid, 1, b"").is(Code::BadArgument);
        a.call(pid, 1, b"", ROOM, 1).is(Code::BadArgument);
        a.reply(pid, 1, 1, b"").is(Code::BadArgument);
        for call in ["link", "unlink", "monitor", "kill"] {
            a.on(call, pid).is(Code::BadArgument);
        }
        a.exit_process(pid, 300, b"").is(Code::BadArgument);
        a.name("register", b"name", pid).is(Code::BadArgument);
        a.send_after(pid, 1, b"", 0).is(Code::BadArgument);
    }
    a.has_nothing();
    node.halt();
}

// ---- names ---------------------------------------------------------------------

#[test]
fn names_are_unique_and_follow_their_process() {
    let (node, a, b) = two();
    a.name("register", b"it", a.pid).ok();
    a.name("register", b"it", a.pid).ok();
    a.name("register", b"also", a.pid).ok();
    b.name("register", b"it", b.pid).is(Code::NameTaken);
    assert_eq!(b.name("whereis", b"it", Pid::NONE).ok().pid, a.pid);
    // One process may name another, and take the name back.
    a.name("register", b"b", b.pid).ok();
    assert_eq!(node.find("b").unwrap(), b.pid);
    a.name("unregister", b"b", b.pid).ok();
    a.name("unregister", b"b", b.pid).is(Code::NoProc);
    a.name("whereis", b"b", Pid::NONE).is(Code::NoProc);
    a.kill();
    b.name("whereis", b"it", Pid::NONE).is(Code::NoProc);
    b.name("register", b"it", a.pid).is(Code::NoProc);
    b.name("register", b"it", b.pid).ok();
    node.halt();
}

#[test]
fn names_are_short_texts() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.name("register", &[b'x'; 255], a.pid).ok();
    for name in [&b""[..], &[b'x'; 256], b"\xff\xfe"] {
        for call in ["register", "unregister", "whereis"] {
            a.name(call, name, a.pid).is(Code::BadArgument);
        }
    }
    // The place for the answer comes first, whoever has the name.
    a.act("whereis", &[DATA, 1, 65_530], b"?")
        .is(Code::BadPointer);
    a.act("whereis", &[65_530, 100, PID], b"")
        .is(Code::BadPointer);
    node.halt();
}

// ---- time ----------------------------------------------------------------------

#[test]
fn a_timer_fires_or_is_cancelled() {
    let (node, a, b) = two();
    let set = a.send_after(b.pid, 9, b"tick", 0).ok().reference;
    let got = b.wait().message(Kind::Timer, b"tick");
    assert_eq!((got.sender, got.message, got.tag), (a.pid, set, 9));
    let cancel =
        |of: &Puppet, timer: u64| of.act("cancel_timer", &[timer.cast_signed()], b"").result;
    assert_eq!(cancel(&a, set), -1);
    let set = a.send_after(b.pid, 9, b"tick", 100_000).ok().reference;
    assert_eq!(cancel(&b, set), -1, "only who set it can cancel it");
    let left = cancel(&a, set);
    assert!((1..=100_000).contains(&left), "{left}");
    assert_eq!(cancel(&a, set), -1);
    a.send_after(b.pid, 9, b"", -1).is(Code::BadArgument);
    // Nobody wants its reference.
    let mut data = b.pid.to_bytes().to_vec();
    data.push(5);
    a.act("send_after", &[DATA, 1, DATA + 16, 1, 0, 0], &data)
        .ok();
    b.wait().message(Kind::Timer, &[5]);
    node.halt();
}

#[test]
fn a_timer_outlives_the_process_that_set_it() {
    let (node, a, b) = two();
    a.send_after(b.pid, 9, b"still", 300).ok();
    a.kill();
    b.wait().message(Kind::Timer, b"still");
    node.halt();
}

#[test]
fn a_sleeping_process_stalls_no_other_and_keeps_its_messages() {
    let node = node_with(|config| config.schedulers = 1);
    deploy(&node, "puppet", &puppet::text(1));
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    let sleeps = a.begin("sleep", &[1_000_000], b"");
    node.send(a.pid, 1, b"later".to_vec()).unwrap();
    for _ in 0..50 {
        assert_eq!(b.act("version", &[], b"").result, 1);
    }
    assert_eq!(a.state(), "sleep");
    node.kill(a.pid);
    assert!(matches!(sleeps.try_end(), Err(CallFailed::Down { .. })));
    b.act("sleep", &[-1], b"").is(Code::BadArgument);
    node.send(b.pid, 1, b"x".to_vec()).unwrap();
    b.act("sleep", &[2], b"").ok();
    b.act("sleep", &[0], b"").ok();
    b.next().message(Kind::Message, b"x");
    node.halt();
}

#[test]
fn clocks_random_bytes_and_process_info() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let number = |call: &str, what: i32| a.act(call, &[what.into()], b"").result;
    let first = number("clock", clock::MONOTONIC);
    assert!(number("clock", clock::MONOTONIC) >= first);
    // Some time in 2020.
    assert!(number("clock", clock::REALTIME) > 1_600_000_000_000_000_000);
    assert_eq!(number("clock", 2), i64::from(Code::BadArgument as i32));
    assert_eq!(number("info", 77), i64::from(Code::BadArgument as i32));
    let before = number("info", info::REDUCTIONS);
    assert!(number("info", info::REDUCTIONS) > before);
    for _ in 0..3 {
        node.send(a.pid, 1, b"x".to_vec()).unwrap();
    }
    assert_eq!(number("info", info::MAILBOX), 3);
    assert_eq!(number("info", info::UPGRADES), 0);
    assert_eq!(a.act("self", &[PID], b"").ok().pid, a.pid);
    a.act("self", &[65_530], b"").is(Code::BadPointer);
    let draw = || a.act("random", &[BUFFER, 32], b"").ok().buffer()[..32].to_vec();
    assert_ne!(draw(), draw());
    a.act("random", &[0, 65_537], b"").is(Code::BadArgument);
    a.act("random", &[65_500, 100], b"").is(Code::BadPointer);
    node.halt();
}

#[test]
fn a_log_line_is_an_event() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let mut events = node.events();
    let mut line = |level: i64, text: &[u8]| {
        let length = i64::try_from(text.len()).unwrap();
        a.act("log", &[level, DATA, length], text).ok();
        event(&mut events, "a line", |event| match event {
            Event::Log {
                pid,
                module,
                level,
                text,
            } => {
                assert_eq!((pid, module.as_str()), (&a.pid.to_string(), "puppet@1"));
                Some((format!("{level:?}"), text.clone()))
            }
            _ => None,
        })
    };
    assert_eq!(line(1, b"oh"), ("Error".into(), "oh".into()));
    assert_eq!(
        line(4, "gr\u{fc}n".as_bytes()),
        ("Debug".into(), "gr\u{fc}n".into())
    );
    assert_eq!(line(3, b"a\xffb"), ("Info".into(), "a\u{fffd}b".into()));
    assert_eq!(line(2, &[b'x'; 9_000]).1.len(), 8_192);
    for level in [0, 5] {
        a.act("log", &[level, DATA, 1], b"x").is(Code::BadArgument);
    }
    a.act("log", &[1, 65_530, 100], b"").is(Code::BadPointer);
    node.halt();
}

#[test]
fn state_calls_work_only_during_an_upgrade() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    a.act("state_put", &[DATA, 1], b"x").is(Code::BadArgument);
    a.act("state_get", &[BUFFER, 1], b"").is(Code::BadArgument);
    node.halt();
}

#[test]
fn a_run_that_takes_no_message_is_not_reentered_forever() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    assert_eq!(a.act("version", &[], b"").result, 1);
    // It leaves these where they are.
    for _ in 0..100 {
        node.send(a.pid, 1, b"x".to_vec()).unwrap();
    }
    let used = |a: &Puppet| a.act("info", &[info::REDUCTIONS.into()], b"").result;
    let before = used(&a);
    let other = Puppet::new(&node);
    for _ in 0..100 {
        other.act("version", &[], b"");
    }
    assert!(used(&a) - before < 100_000);
    assert_eq!(
        node.call(
            a.pid,
            CMD,
            Puppet::command("version", &[], b""),
            Duration::from_secs(10)
        )
        .unwrap()
        .payload[0],
        1
    );
    node.halt();
}

#[test]
fn a_blocking_host_call_can_be_killed_in_every_position() {
    let (node, a, b) = two();
    let waits = a.begin("receive", &[HEADER, BUFFER, ROOM, -1, 0, 0], b"");
    let (arguments, data) = Puppet::calls(a.pid, 6, b"?", ROOM, -1);
    // It wakes the other, which takes the request and answers the test.
    let calls = b.begin("call", &arguments, &data);
    waits.end().message(Kind::Request, b"?");
    node.kill(b.pid);
    assert!(matches!(calls.try_end(), Err(CallFailed::Down { .. })));
    assert_eq!(a.act("version", &[], b"").result, 1);
    assert_eq!(node.info().frames_blocked, 0);
    node.halt();
}
