//! Receiving: by tag, by reference, in order, into a buffer.

use exuvia_node::Pid;
use exuvia_node::abi::{Code, HEADER_SIZE, Kind, Reason, limits, receive};

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

/// The arguments of a `receive` whose key is a pointer to the command's data.
fn by(mode: i32, count: i64, timeout: i64) -> [i64; 6] {
    [
        HEADER,
        BUFFER,
        ROOM,
        timeout,
        mode.into(),
        count << 32 | DATA,
    ]
}

#[test]
fn a_selective_receive_by_sender_takes_what_comes_from_it_in_order() {
    let (node, a, b) = two();
    let c = Puppet::new(&node);
    let from =
        |pid: Pid, timeout| a.act("receive", &by(receive::SENDER, 0, timeout), &pid.to_bytes());
    a.on("monitor", c.pid).ok();
    node.send(a.pid, 7, b"outside".to_vec()).unwrap();
    b.send(a.pid, 1, b"one").ok();
    let asked = c.request(a.pid, 2, b"two").ok().reference;
    b.send(a.pid, 3, b"three").ok();
    c.kill();
    assert_eq!(from(c.pid, 0).message(Kind::Request, b"two").message, asked);
    // Also what tells of its end.
    from(c.pid, 10_000).notifications(Kind::Down, c.pid, Reason::KILLED.0);
    from(c.pid, 0).is(Code::Empty);
    from(c.pid, 5).is(Code::Timeout);
    from(b.pid, 0).message(Kind::Message, b"one");
    from(b.pid, 0).message(Kind::Message, b"three");
    from(Pid::NONE, 0).message(Kind::Message, b"outside");
    a.has_nothing();
    // A pid that this node never issued, one that does not fit the memory, and a key that is no pointer.
    let mut unknown = b.pid.to_bytes();
    unknown[0] ^= 1;
    a.act("receive", &by(receive::SENDER, 0, 0), &unknown)
        .is(Code::BadArgument);
    let at = |key| [HEADER, BUFFER, ROOM, 0, receive::SENDER.into(), key];
    a.act("receive", &at(65_536 - 15), b"").is(Code::BadPointer);
    a.act("receive", &at(1 << 32), b"").is(Code::BadPointer);
    node.halt();
}

#[test]
fn a_receive_that_waits_for_a_sender_is_woken_only_by_it() {
    let (node, a, b) = two();
    let waits = a.begin("receive", &by(receive::SENDER, 0, -1), &b.pid.to_bytes());
    node.send(a.pid, 1, b"another".to_vec()).unwrap();
    b.send(a.pid, 2, b"it").ok();
    waits.end().message(Kind::Message, b"it");
    a.next().message(Kind::Message, b"another");
    node.halt();
}

#[test]
fn a_selective_receive_takes_the_first_of_several_references() {
    let (node, a, b) = two();
    deploy(&node, "echo", ECHO);
    let echo = start(&node, "echo", b"");
    let of = |all: &[u64]| -> Vec<u8> { all.iter().flat_map(|one| one.to_le_bytes()).collect() };
    let first = |all: &[u64], timeout| {
        let count = i64::try_from(all.len()).unwrap();
        a.act(
            "receive",
            &by(receive::REFERENCES, count, timeout),
            &of(all),
        )
    };
    node.send(a.pid, 5, b"before".to_vec()).unwrap();
    let late = a.send_after(a.pid, 9, b"late", 100_000).ok().reference;
    let never = a.request(b.pid, 1, b"never").ok().reference;
    first(&[late, never], 0).is(Code::Empty);
    let reply = a.request(echo, 7, b"reply").ok().reference;
    let got = first(&[never, late, reply], 10_000).message(Kind::Reply, b"reply");
    assert_eq!(got.message, reply);
    // Of two that are there, the one that came first.
    let one = a.send_after(a.pid, 1, b"one", 0).ok().reference;
    a.receive(0, receive::TAG, 77).is(Code::Empty);
    let two = a.request(echo, 8, b"two").ok().reference;
    b.receive(0, receive::ANY, 0)
        .message(Kind::Request, b"never");
    let all = [two, one, never, late];
    let mut came = Vec::new();
    for _ in 0..2 {
        came.push(first(&all, 10_000).ok().message);
    }
    came.sort_unstable();
    let mut sent = vec![one, two];
    sent.sort_unstable();
    assert_eq!(came, sent);
    // One that waits is woken by any of them, and by nothing else.
    let waits = a.begin(
        "receive",
        &by(receive::REFERENCES, 2, -1),
        &of(&[late, never]),
    );
    node.send(a.pid, 6, b"between".to_vec()).unwrap();
    b.kill();
    let got = waits.end();
    assert_eq!(got.message, never);
    got.notifications(Kind::Down, b.pid, Reason::KILLED.0);
    a.next().message(Kind::Message, b"before");
    a.next().message(Kind::Message, b"between");
    a.has_nothing();
    let count = |count| a.act("receive", &by(receive::REFERENCES, count, 0), b"");
    count(0).is(Code::BadArgument);
    count(i64::from(limits::REFERENCES) + 1).is(Code::BadArgument);
    count(i64::from(limits::REFERENCES)).is(Code::Empty);
    let at = i64::from(receive::REFERENCES);
    let key = 2 << 32 | (65_536 - 8);
    a.act("receive", &[HEADER, BUFFER, ROOM, 0, at, key], b"")
        .is(Code::BadPointer);
    node.halt();
}

#[test]
fn a_message_that_is_too_big_can_be_read_in_parts_or_dropped() {
    let node = with_puppets();
    let a = Puppet::new(&node);
    let long: Vec<u8> = (0..200).collect();
    node.send(a.pid, 1, long.clone()).unwrap();
    node.send(a.pid, 2, b"next".to_vec()).unwrap();
    let peeked = |offset: u32, capacity: i64, mode: i32| {
        // A header whose last field is the offset.
        let mut header = vec![0; 48];
        header[..4].copy_from_slice(&HEADER_SIZE.to_le_bytes());
        header[44..].copy_from_slice(&offset.to_le_bytes());
        let mode = i64::from(mode | receive::PEEK);
        a.act("receive", &[DATA, BUFFER, capacity, 0, mode, 1], &header)
    };
    for mode in [receive::ANY, receive::TAG] {
        for (offset, part) in [(0, &long[..64]), (64, &long[64..128]), (150, &long[150..])] {
            let got = peeked(offset, 64, mode);
            assert_eq!(got.result, i64::from(receive::PEEKED), "{got:?}");
            assert_eq!(got.buffer()[..part.len()], *part, "{offset}");
            assert!(got.buffer()[part.len()..].iter().all(|byte| *byte == 0));
        }
    }
    for offset in [200, u32::MAX] {
        let got = peeked(offset, 64, receive::ANY);
        assert!(
            got.buffer().iter().all(|byte| *byte == 0),
            "nothing is left"
        );
    }
    // It is still there, whole.
    a.act("receive", &[HEADER, BUFFER, 10, 0, 0, 0], b"")
        .is(Code::TooBig);
    let truncate = i64::from(receive::ANY | receive::TRUNCATE);
    let got = a
        .act("receive", &[HEADER, BUFFER, 10, 0, truncate, 0], b"")
        .ok();
    assert_eq!(
        (got.length, got.tag, &got.buffer()[..10]),
        (200, 1, &long[..10])
    );
    assert!(got.buffer()[10..].iter().all(|byte| *byte == 0));
    // One that fits is as usual, and without any room a message is only dropped.
    let got = a.act("receive", &[HEADER, BUFFER, ROOM, 0, truncate, 0], b"");
    got.message(Kind::Message, b"next");
    node.send(a.pid, 3, long).unwrap();
    let got = a.act("receive", &[HEADER, 0, 0, 0, truncate, 0], b"").ok();
    assert_eq!((got.length, got.tag), (200, 3));
    a.has_nothing();
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
    with(HEADER, BUFFER, ROOM, 0, 5).is(Code::BadArgument);
    with(HEADER, BUFFER, ROOM, 0, 1 << 11).is(Code::BadArgument);
    with(HEADER, BUFFER, ROOM, 0, tag | receive::UPGRADE).is(Code::BadArgument);
    let both = receive::PEEK | receive::TRUNCATE;
    with(HEADER, BUFFER, ROOM, 0, any | both).is(Code::BadArgument);
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
