//! Receiving: by tag, by reference, in order, into a buffer.

use exuvia_node::abi::{Code, HEADER_SIZE, Kind, Reason, receive};

use super::{two, with_puppets};
use crate::guests::{deploy, spawn as start};
use crate::puppet::{BUFFER, DATA, HEADER, Puppet, ROOM};

const ECHO: &str = include_str!("../../../../../guest-sdk/wat/echo.wat");

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
