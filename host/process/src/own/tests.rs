//! That rest gives back what is not needed, and nothing that is. Here and not
//! in `tests/it`, since nobody outside can see it.

use std::sync::Arc;

use super::*;
use crate::{Birth, Clock, Limits};

fn system() -> System<()> {
    System::new(7, 10, 1, Clock::manual())
}

/// A process that nobody but the test runs.
fn process(system: &System<()>) -> Box<Own<()>> {
    let limits: Arc<Limits> = Limits::default().into();
    let birth = Birth::new(Body::Guest(()), limits, Payload::empty());
    let pid = system.spawn(birth).expect("there is room");
    let slot = system.table.slot(pid.slot()).expect("it lives");
    assert!(slot.state.begin());
    slot.take_own().expect("its own half is there")
}

/// Has it handle one request.
fn ask(own: &mut Own<()>, system: &System<()>, reference: u64) {
    let asker = Pid::new(7, 9, 0);
    let request = Envelope {
        reference,
        kind: Kind::Request,
        ..Envelope::message(asker, 0, Payload::empty())
    };
    system.send(own.pid(), request).expect("it is accepted");
    assert!(own.drain(system).is_none());
    while let Some(message) = own.take(0) {
        if message.kind == Kind::Request {
            own.reply(system, asker, message.reference, 0, Payload::empty());
        }
    }
}

#[test]
fn a_process_that_has_handled_a_request_and_rests_keeps_nothing() {
    let system = system();
    let mut own = process(&system);
    ask(&mut own, &system, 1);
    // It had a child and a timer, and has none any more.
    drop(own.children());
    drop(own.charge(&system, 100).unwrap());
    own.trim(&system);
    assert!(own.desk.is_none() && own.relations.is_none() && own.lineage.is_none());
    // And goes on from there.
    ask(&mut own, &system, 2);
    assert_eq!(own.relation_counts(), (0, 0, 0));
}

#[test]
fn what_is_still_wanted_outlives_a_rest() {
    let system = system();
    let mut own = process(&system);
    let other = process(&system);
    ask(&mut own, &system, 1);
    let count = own.children();
    let child = count.admit(1).expect("it has none");
    let charge = own.charge(&system, 100).unwrap();
    own.link(&system, other.pid());
    own.trim(&system);
    assert_eq!(own.links(), [other.pid()]);
    assert!(Arc::ptr_eq(&own.children(), &count));
    let counts = |own: &Own<()>| {
        let relations = own.relations.as_ref().unwrap();
        (relations.links.len(), relations.counts.is_some())
    };
    // Each goes when it is over, and not before.
    drop((child, count));
    own.trim(&system);
    assert_eq!(counts(&own), (1, true), "a charge is under way");
    drop(charge);
    own.trim(&system);
    assert_eq!(counts(&own), (1, false));
}

#[test]
fn a_newborn_has_no_memory_for_its_first_message() {
    let system = system();
    let limits: Arc<Limits> = Limits::default().into();
    let birth = Birth::new(Body::Guest(()), limits, Payload::new(b"arguments"));
    let mut own = Own::new(Pid::new(7, 0, 0), birth);
    assert!(own.desk.is_none());
    own.begin_life();
    own.begin_life();
    assert_eq!(own.inbox_len(), 1);
    let init = own.take(0).unwrap();
    assert_eq!(
        (init.kind, init.sender, init.payload.as_slice()),
        (Kind::Init, Pid::NONE, &b"arguments"[..])
    );
    own.trim(&system);
    assert_eq!(own.init(), init, "a fresh start delivers it again");
}
