//! Sending, calling and receiving against the host in memory.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use exuvia::testing::{self, Effect};
use exuvia::{Buffer, Error, Kind, Match, Message, Nothing, Pid, Reason, Wait};

const PEER: Pid = Pid::from_parts(1, 50);

fn tagged(tag: u32, payload: &[u8]) -> Message<'static> {
    Message {
        kind: Kind::Message,
        sender: PEER,
        reference: u64::from(tag) + 100,
        tag,
        reason: Reason::NORMAL,
        payload: payload.to_vec().into(),
    }
}

#[test]
fn a_selective_receive_leaves_the_rest_in_order() {
    for tag in [1, 2, 3] {
        testing::deliver(tagged(tag, b""));
    }
    assert_eq!(exuvia::receive(Match::Tag(2), Wait::No).unwrap().tag, 2);
    assert_eq!(
        exuvia::receive(Match::Tag(2), Duration::from_nanos(1)),
        Err(Nothing::Timeout)
    );
    let third = exuvia::receive(Match::Reference(103), Wait::No).unwrap();
    assert_eq!(third.tag, 3);
    assert_eq!(exuvia::receive(Match::Any, Wait::No).unwrap().tag, 1);
    assert_eq!(exuvia::receive(Match::Any, Wait::No), Err(Nothing::Empty));
}

#[test]
fn one_buffer_serves_small_and_large() {
    let large = vec![7; Buffer::SIZE + 1];
    testing::deliver(tagged(1, b"small"));
    testing::deliver(tagged(2, &large));
    testing::deliver(tagged(3, &[9; Buffer::SIZE]));
    let mut buffer = Buffer::new();
    let mut take = |wanted| {
        let message = buffer.receive(wanted, Wait::No).unwrap();
        message.payload.to_vec()
    };
    assert_eq!(take(Match::Tag(2)), large);
    assert_eq!(take(Match::Any), b"small");
    assert_eq!(take(Match::Any), [9; Buffer::SIZE]);
}

#[test]
fn a_call_is_answered_refused_or_in_vain() {
    testing::answer_call(Ok(&"x".repeat(3_000)));
    let reply: String = PEER.call(&1, Wait::Forever).unwrap();
    assert_eq!(reply.len(), 3_000);
    testing::answer_call::<u8>(Err(Reason::KILLED));
    assert_eq!(
        PEER.call::<u8>(&1, Wait::Forever),
        Err(Error::NoProc(Reason::KILLED))
    );
    assert_eq!(
        PEER.call::<u8>(&1, Duration::from_secs(1)),
        Err(Error::Timeout)
    );
    testing::answer_call(Ok("text"));
    assert!(matches!(
        PEER.call::<u8>(&1, Wait::Forever),
        Err(Error::Decode(_))
    ));
}

#[test]
fn spawning_passes_arguments_and_flags() {
    let child = exuvia::spawn("worker")
        .args(&(1, "a"))
        .unwrap()
        .link()
        .monitor()
        .sync()
        .start()
        .unwrap();
    assert!(child.monitor.is_some());
    let effects = testing::effects();
    let [
        Effect::Spawn {
            module,
            arguments,
            flags,
            pid,
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    assert_eq!((module.as_str(), *flags, *pid), ("worker", 7, child.pid));
    let decoded: (u8, String) = exuvia::decode(arguments).unwrap();
    assert_eq!(decoded, (1, "a".to_owned()));
    assert_eq!(exuvia::spawn_self().start().unwrap().monitor, None);
}
