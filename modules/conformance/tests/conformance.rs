//! The cases in memory, and in a test's node. The latter needs the program `exuvia`.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::borrow::Cow;

use conformance::{CASES, Here};
use exuvia::test::Node;
use exuvia::{Kind, Message, Reason, testing};

fn run(here: &Here) {
    for case in CASES {
        assert_eq!(case.run(here), case.expected, "{}", case.name);
    }
}

#[test]
fn a_unit_test_gets_what_a_guest_gets() {
    // What is sent in memory arrives nowhere.
    let post = |tag, payload: &[u8]| {
        testing::deliver(Message {
            kind: Kind::Message,
            sender: exuvia::me(),
            reference: 0,
            tag,
            reason: Reason::NORMAL,
            payload: Cow::Owned(payload.to_vec()),
        });
    };
    run(&Here { post });
}

#[test]
fn a_test_in_a_node_gets_what_a_guest_gets() {
    let _node = Node::empty();
    let post = |tag, payload: &[u8]| exuvia::me().send_bytes(tag, payload).unwrap();
    run(&Here { post });
}
