//! Compares the inbox with a naive model, and bounds the number of messages examined. These are
//! unit tests because that number is private.

use std::collections::VecDeque;

use exuvia_abi::Pid;
use proptest::prelude::*;

use super::{Inbox, LONG, MARKS};
use crate::{Envelope, Kind, Payload, Selector};

/// A message from one of two senders, by its tag.
fn message(kind: Kind, tag: u32, reference: u64) -> Envelope {
    Envelope {
        kind,
        reference,
        ..Envelope::message(sender(tag), tag, Payload::new(&[0; 9][..tag as usize % 9]))
    }
}

fn sender(tag: u32) -> Pid {
    Pid {
        node: 1,
        local: u64::from(tag % 2),
    }
}

/// Implements the modes of `receive`.
fn naive(model: &VecDeque<Envelope>, wanted: &Selector) -> Option<usize> {
    let answers = |m: &Envelope| matches!(m.kind, Kind::Reply | Kind::Down | Kind::Timer);
    model.iter().position(|m| match wanted {
        Selector::Tag(tag) => {
            u64::from(m.tag) == *tag && !matches!(m.kind, Kind::Exit | Kind::Down)
        }
        Selector::Reference(reference) => m.reference == *reference && answers(m),
        Selector::References(all) => all.contains(&m.reference) && answers(m),
        Selector::Sender(pid) => m.sender == *pid,
        Selector::Any => true,
    })
}

#[derive(Clone, Debug)]
enum Act {
    /// So many messages of a kind and tag, for a request that was made.
    Back(Kind, u32, usize, u8),
    /// The message taken last is put back at some position.
    Insert(usize),
    Take(usize),
    /// A request is made.
    Request,
    /// A message is searched, and taken if that is wanted.
    Search(Selector, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let kind = || {
        prop_oneof![
            3 => Just(Kind::Message),
            1 => Just(Kind::Request),
            1 => Just(Kind::Reply),
            1 => Just(Kind::Down),
            1 => Just(Kind::Timer),
        ]
    };
    let wanted = prop_oneof![
        1 => Just(Selector::Any),
        4 => (0..12u64).prop_map(Selector::Tag),
        4 => (0..12u64).prop_map(Selector::Reference),
        2 => (0..2u32).prop_map(|tag| Selector::Sender(sender(tag))),
        4 => proptest::collection::vec(0..12u64, 1..4)
            .prop_map(|all| Selector::References(all.into())),
    ];
    prop_oneof![
        4 => (kind(), 0..4u32, 0..12usize, 1..40u8)
            .prop_map(|(kind, tag, reference, many)| Act::Back(kind, tag, reference, many)),
        1 => (0..90usize).prop_map(Act::Insert),
        2 => (0..90usize).prop_map(Act::Take),
        2 => Just(Act::Request),
        8 => (wanted, any::<bool>()).prop_map(|(wanted, take)| Act::Search(wanted, take)),
    ]
}

proptest! {
    #[test]
    fn it_is_a_queue_in_which_the_first_match_is_found(
        acts in proptest::collection::vec(act(), 0..80),
    ) {
        let mut inbox = Inbox::default();
        let mut model: VecDeque<Envelope> = VecDeque::new();
        let mut taken = None;
        // Requests are numbered from 1; one that was not made gets no reply.
        let mut requests = 0;
        for act in acts {
            match act {
                Act::Back(kind, tag, reference, many) => {
                    let reference = (reference as u64).min(requests);
                    for _ in 0..many {
                        inbox.push_back(message(kind, tag, reference));
                        model.push_back(message(kind, tag, reference));
                    }
                }
                Act::Insert(at) => {
                    if let Some(envelope) = taken.take() {
                        let envelope: Envelope = envelope;
                        inbox.insert(at, envelope.clone());
                        model.insert(at.min(model.len()), envelope);
                    }
                }
                Act::Take(at) => {
                    taken = inbox.take(at);
                    prop_assert_eq!(&taken, &model.remove(at));
                }
                Act::Request => {
                    requests += 1;
                    inbox.mark_reference(requests);
                }
                Act::Search(wanted, take) => {
                    let found = inbox.position(&wanted);
                    prop_assert_eq!(found, naive(&model, &wanted));
                    if let Selector::Reference(reference) = wanted {
                        let answer = model.iter().position(|m| {
                            m.reference == reference && matches!(m.kind, Kind::Reply | Kind::Down)
                        });
                        prop_assert_eq!(inbox.reply(reference), answer);
                    }
                    if let Some(at) = found.filter(|_| take) {
                        taken = inbox.take(at);
                        prop_assert_eq!(&taken, &model.remove(at));
                    }
                }
            }
            prop_assert_eq!(inbox.len(), model.len());
            prop_assert_eq!(inbox.is_empty(), model.is_empty());
            for at in 0..=model.len() {
                prop_assert_eq!(inbox.get(at), model.get(at));
            }
            let limited = model.iter().filter(|m| m.is_limited());
            let bytes = limited.clone().map(Envelope::cost).sum();
            let count = u32::try_from(limited.count()).unwrap();
            prop_assert_eq!(inbox.limited(), (count, bytes));
        }
    }
}

const MANY: usize = 99_000;

fn long() -> Inbox {
    let mut inbox = Inbox::default();
    for _ in 0..MANY {
        inbox.push_back(message(Kind::Message, 0, 0));
    }
    inbox
}

#[test]
fn messages_older_than_a_request_are_not_scanned_for_its_reply() {
    let mut inbox = long();
    for reference in 1..100 {
        inbox.mark_reference(reference);
        assert_eq!(inbox.position(&Selector::Reference(reference)), None);
        // Other messages arrive first, and the waiting process searches each time.
        inbox.push_back(message(Kind::Message, 0, 0));
        assert_eq!(inbox.position(&Selector::Reference(reference)), None);
        inbox.push_back(message(Kind::Reply, 0, reference));
        let found = inbox.position(&Selector::Reference(reference));
        assert_eq!(found, Some(inbox.len() - 1));
        assert_eq!(inbox.take(inbox.len() - 1).unwrap().reference, reference);
    }
    let scanned = inbox.take_scanned() as usize;
    assert!(scanned <= 3 * 100, "{scanned} scans for 100 calls");
}

#[test]
fn concurrent_requests_find_their_replies() {
    let mut inbox = long();
    let references = 1..=MARKS as u64;
    references
        .clone()
        .for_each(|reference| inbox.mark_reference(reference));
    for reference in references.clone() {
        inbox.push_back(message(Kind::Reply, 0, reference));
    }
    for reference in references.rev() {
        let at = inbox.position(&Selector::Reference(reference)).unwrap();
        inbox.take(at);
    }
    let scanned = inbox.take_scanned() as usize;
    assert!(scanned <= MARKS * MARKS, "{scanned} scans");
}

#[test]
fn a_wait_for_one_of_many_references_scans_what_is_newer_than_all_of_them_once() {
    let mut inbox = long();
    // More than there are marks; each round one of them is answered, and another one begins.
    let mut open: Vec<u64> = (1..=20).collect();
    open.iter().for_each(|one| inbox.mark_reference(*one));
    inbox.position(&Selector::References(open.clone().into()));
    inbox.take_scanned();
    for round in 0..1_000u64 {
        inbox.push_back(message(Kind::Message, 0, 0));
        let (answered, new) = (open.remove(round as usize % 20), 21 + round);
        inbox.push_back(message(Kind::Reply, 0, answered));
        open.push(answered);
        let found = inbox.position(&Selector::References(open.clone().into()));
        assert_eq!(found, Some(inbox.len() - 1));
        inbox.take(inbox.len() - 1);
        open.pop();
        open.push(new);
        inbox.mark_reference(new);
    }
    let scanned = inbox.take_scanned() as usize;
    assert!(scanned <= 4 * 1_000, "{scanned} scans");
}

#[test]
fn a_wait_by_tag_scans_each_message_once() {
    let mut inbox = long();
    let wanted = 7;
    assert_eq!(inbox.position(&Selector::Tag(wanted)), None);
    for _ in 0..1_000 {
        inbox.push_back(message(Kind::Message, 0, 0));
        assert_eq!(inbox.position(&Selector::Tag(wanted)), None);
        // Removing a message elsewhere shifts all after it.
        inbox.take(5);
    }
    let scanned = inbox.take_scanned() as usize;
    assert!(scanned <= MANY + 2 * 1_000 + LONG, "{scanned} scans");
    // Nor are those in front examined again for the next one.
    for _ in 0..1_000 {
        inbox.push_back(message(Kind::Message, 7, 0));
        let at = inbox.position(&Selector::Tag(wanted)).unwrap();
        assert_eq!(at, inbox.len() - 1);
        inbox.take(at);
    }
    let scanned = inbox.take_scanned() as usize;
    assert!(scanned <= 3 * 1_000, "{scanned} scans");
}

#[test]
fn a_message_put_back_to_the_front_is_found() {
    let mut inbox = long();
    inbox.mark_reference(3);
    inbox.push_back(message(Kind::Reply, 0, 3));
    let at = inbox.position(&Selector::Reference(3)).unwrap();
    let reply = inbox.take(at).unwrap();
    assert_eq!(inbox.position(&Selector::Reference(3)), None);
    inbox.insert(0, reply);
    assert_eq!(inbox.position(&Selector::Reference(3)), Some(0));
}

#[test]
fn a_short_inbox_keeps_no_marks() {
    let mut inbox = Inbox::default();
    for reference in 1..10 {
        inbox.mark_reference(reference);
        inbox.push_back(message(Kind::Message, 0, 0));
        assert_eq!(inbox.position(&Selector::Reference(reference)), None);
        assert_eq!(inbox.position(&Selector::Tag(5)), None);
    }
    assert_eq!(inbox.marks.borrow().capacity(), 0);
}
