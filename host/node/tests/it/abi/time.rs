//! Timers, sleep and clocks; logs; and calls that are killed or reentered.

use std::time::Duration;

use exuvia_node::abi::{Code, Kind, clock, info};
use exuvia_node::{CallFailed, Event};

use super::{two, with_puppets};
use crate::guests::{deploy, event, node_with};
use crate::puppet::{self, BUFFER, CMD, DATA, HEADER, PID, Puppet, ROOM};

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
    // Its reference is not asked for.
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
    // It wakes the other, which takes the request and replies to the test.
    let calls = b.begin("call", &arguments, &data);
    waits.end().message(Kind::Request, b"?");
    node.kill(b.pid);
    assert!(matches!(calls.try_end(), Err(CallFailed::Down { .. })));
    assert_eq!(a.act("version", &[], b"").result, 1);
    assert_eq!(node.info().frames_blocked, 0);
    node.halt();
}
