//! Calls: requests, replies, time-outs, and the ends of callees.

use exuvia_node::abi::{Code, Kind, Reason, demonitor, receive};

use super::{two, with_puppets};
use crate::guests::{deploy, spawn as start};
use crate::puppet::{Puppet, ROOM};

const ECHO: &str = include_str!("../../../../../guest-sdk/wat/echo.wat");

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
