//! Sending, calling and receiving, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use exuvia::testing::{self, Effect};
use exuvia::{
    Address, Buffer, Error, Info, Kind, Match, Message, Never, Nothing, Pid, Reason, Wait,
};

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
    for tag in [1, 2] {
        testing::deliver(tagged(tag, b""));
    }
    // Only replies, exits and timers are selected by a reference.
    testing::deliver(Message {
        kind: Kind::Reply,
        ..tagged(3, b"")
    });
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
fn a_call_is_answered_refused_or_fails() {
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

#[test]
fn a_pending_reply_recognizes_its_reply_and_its_receivers_exit() {
    type Adder = Address<Never, (u64, u64), u64>;
    let adder = Adder::new(PEER);
    let (first, second) = (
        adder.request(&(1, 2)).unwrap(),
        adder.request(&(3, 4)).unwrap(),
    );
    let reply = |reference| Message {
        kind: Kind::Reply,
        reference,
        ..tagged(0, &exuvia::encode(&3_u64).unwrap())
    };
    let info = Info::Reply(reply(first.reference()));
    assert_eq!(first.answer(&info), Some(Ok(3)));
    assert_eq!(second.answer(&info), None);
    let info = Info::Down {
        pid: PEER,
        reference: second.reference(),
        reason: Reason::KILLED,
        text: String::new(),
    };
    assert_eq!(first.answer(&info), None);
    assert_eq!(
        second.answer(&info),
        Some(Err(Error::NoProc(Reason::KILLED)))
    );
    // The same from the mailbox, the second before the first.
    testing::deliver(reply(first.reference()));
    testing::deliver(Message {
        kind: Kind::Down,
        reference: second.reference(),
        reason: Reason::KILLED,
        ..tagged(0, b"")
    });
    assert_eq!(
        second.wait(Wait::Forever),
        Err(Error::NoProc(Reason::KILLED))
    );
    assert_eq!(first.wait(Wait::Forever), Ok(3));
    assert_eq!(first.wait(Duration::from_secs(1)), Err(Error::Timeout));
}

#[test]
fn an_address_is_written_and_read_as_its_pid() {
    let typed: Address<String> = Address::new(PEER);
    let bytes = exuvia::encode(&typed).unwrap();
    assert_eq!(bytes, exuvia::encode(&PEER).unwrap());
    assert_eq!(exuvia::decode::<Address<u8>>(&bytes).unwrap().pid(), PEER);
    typed.send(&"hello".to_owned()).unwrap();
    assert_eq!(
        testing::effects(),
        [Effect::Send {
            to: PEER,
            tag: 0,
            payload: exuvia::encode("hello").unwrap(),
        }]
    );
}

#[test]
fn only_a_request_can_be_refused() {
    tagged(9, b"").refuse("no such tag");
    assert!(testing::effects().is_empty());
    let request = Message {
        kind: Kind::Request,
        ..tagged(9, b"")
    };
    request.refuse("no such tag");
    assert_eq!(
        testing::reply_to::<u8>(109),
        Err(Error::Refused("no such tag".to_owned()))
    );
}

/// A node limits the number of waiting processes. The error differs from that of a wait that
/// was too short, and nothing is lost.
#[test]
fn a_forbidden_wait_is_an_error() {
    for wait in [Wait::Forever, Wait::For(Duration::from_secs(1))] {
        testing::refuse_wait();
        assert_eq!(exuvia::receive(Match::Any, wait), Err(Nothing::Limit));
        testing::refuse_wait();
        assert_eq!(exuvia::receive_or_upgrade(wait), Err(Nothing::Limit));
        testing::refuse_wait();
        assert_eq!(exuvia::receive(Match::Tag(1), wait), Err(Nothing::Limit));
    }
    testing::refuse_wait();
    assert_eq!(PEER.call::<u8>(&1_u8, Wait::Forever), Err(Error::Limit));
    assert_eq!(testing::effects(), [], "nothing was sent");
    let pending = Address::<Never, u8, u8>::new(PEER).request(&1).unwrap();
    testing::refuse_wait();
    assert_eq!(pending.wait(Wait::Forever), Err(Error::Limit));
    // The limit does not apply without a wait, nor if there is a message.
    testing::refuse_wait();
    assert_eq!(exuvia::receive(Match::Any, Wait::No), Err(Nothing::Empty));
    testing::deliver(tagged(1, b""));
    assert_eq!(exuvia::receive(Match::Any, Wait::Forever).unwrap().tag, 1);
}

#[test]
fn kinds_of_a_later_host_are_skipped() {
    let large = vec![7; Buffer::SIZE + 1];
    testing::deliver_unknown(b"small");
    testing::deliver_unknown(&large);
    testing::deliver(tagged(5, b"known"));
    testing::deliver_unknown(b"");
    assert_eq!(
        &*exuvia::receive(Match::Any, Wait::No).unwrap().payload,
        b"known"
    );
    assert_eq!(exuvia::receive(Match::Any, Wait::No), Err(Nothing::Empty));
    // In a selective receive too: these messages may have a tag.
    testing::deliver_unknown(b"");
    assert_eq!(
        exuvia::receive(Match::Tag(0), Wait::No),
        Err(Nothing::Empty)
    );
    assert_eq!(
        exuvia::receive_or_upgrade(Wait::Forever),
        Err(Nothing::Timeout),
        "it was taken"
    );
}
