//! An idle process frees what it does not need, and keeps the rest. These are unit tests because
//! the fields are private.

use std::sync::Arc;

use exuvia_abi::Kind;

use super::*;
use crate::snapshot::TimerSnapshot;
use crate::{Clock, Context, Limits, Native, SendError, SpawnSpec, Turn, native};

fn system() -> System<()> {
    System::new(7, 10, 1, Clock::manual())
}

/// A process that only the test runs.
fn new_process(system: &System<()>) -> Box<Process<()>> {
    let limits: Arc<Limits> = Limits::default().into();
    let spec = SpawnSpec::new(Body::Guest(()), limits, Payload::empty());
    let pid = system.spawn(spec).expect("the table has a free slot");
    let slot = system.table.slot(pid.slot()).expect("it lives");
    assert!(slot.state.transition_to_running());
    slot.take_process().expect("its own half is there")
}

/// Has the process handle one request.
fn ask(process: &mut Process<()>, system: &System<()>, reference: u64) {
    let asker = Pid::new(7, 9, 0);
    let request = Envelope {
        reference,
        kind: Kind::Request,
        ..Envelope::message(asker, 0, Payload::empty())
    };
    system.send(process.pid(), request).expect("it is accepted");
    assert!(process.drain(system).is_none());
    while let Some(message) = process.take(0) {
        if message.kind == Kind::Request {
            process.reply(system, asker, message.reference, 0, Payload::empty());
        }
    }
}

#[test]
fn a_process_at_rest_keeps_nothing_of_a_handled_request() {
    let system = system();
    let mut process = new_process(&system);
    ask(&mut process, &system, 1);
    // It had a child and a timer, and has neither any more.
    drop(process.children());
    drop(process.charge(&system, 100).unwrap());
    process.trim(&system);
    assert!(
        process.active.is_none() && process.relations.is_none() && process.spawn_info.is_none()
    );
    // It continues from there.
    ask(&mut process, &system, 2);
    assert_eq!(process.relation_counts(), (0, 0, 0));
}

#[test]
fn children_share_a_copy_of_the_limits_that_changes_with_them() {
    let system = system();
    let mut process = new_process(&system);
    let (first, second) = (process.limits_of_child(), process.limits_of_child());
    assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, process.limits()));
    assert_eq!(first, *process.limits());
    let other = Arc::new(Limits {
        memory: 1,
        ..Limits::default()
    });
    process.set_limits(&system, other.clone());
    assert_eq!(process.limits_of_child(), other);
    // It is not kept for its own sake.
    process.trim(&system);
    assert!(process.relations.is_none());
}

/// A native process that rests after each message with the tag 1.
struct Rests(bool);

impl Native<()> for Rests {
    fn handle(&mut self, _: &mut Context<'_, ()>, message: Envelope) {
        self.0 = message.tag == 1;
    }

    fn rests(&mut self) -> bool {
        std::mem::take(&mut self.0)
    }
}

#[test]
fn a_native_process_that_rests_keeps_nothing_of_its_messages() {
    let system = system();
    let mut process = new_process(&system);
    process.body = Body::Native(Some(Box::new(Rests(false))));
    for (tag, keeps) in [(0, true), (1, false), (0, true), (1, false)] {
        let message = Envelope::message(process.pid(), tag, Payload::empty());
        system.send(process.pid(), message).expect("it is accepted");
        assert!(matches!(native::turn(&mut process, &system), Turn::Rest));
        assert_eq!(process.active.is_some(), keeps, "{tag}");
    }
}

#[test]
fn open_requests_survive_a_rest() {
    let system = system();
    let mut process = new_process(&system);
    let other = new_process(&system);
    ask(&mut process, &system, 1);
    let count = process.children();
    let child = count.admit(1).expect("it has none");
    let charge = process.charge(&system, 100).unwrap();
    process.link(&system, other.pid());
    process.trim(&system);
    assert_eq!(process.links(), [other.pid()]);
    assert!(Arc::ptr_eq(&process.children(), &count));
    let counts = |process: &Process<()>| {
        let relations = process.relations.as_ref().unwrap();
        (relations.links.len(), relations.counts.is_some())
    };
    // Each is freed when it is over, and not before.
    drop((child, count));
    process.trim(&system);
    assert_eq!(counts(&process), (1, true), "a charge is under way");
    drop(charge);
    process.trim(&system);
    assert_eq!(counts(&process), (1, false));
}

#[test]
fn the_host_charges_a_process_between_its_turns() {
    let system = system();
    let mut process = new_process(&system);
    let pid = process.pid();
    let most = process.limits().mailbox_bytes;
    let account = process.account_ref(&system);
    let held = system.charge(pid, &account, most - 1).unwrap();
    let refused = |bytes| system.charge(pid, &account, bytes).unwrap_err();
    assert_eq!(refused(2), SendError::Full);
    // It is the account of its timers.
    assert!(process.charge(&system, 2).is_none());
    drop(held);
    drop(system.charge(pid, &account, 2).unwrap());
    // Other limits hold at once.
    let small = Limits {
        mailbox_bytes: 1,
        ..Limits::default()
    };
    process.set_limits(&system, small.into());
    assert_eq!(refused(2), SendError::Full);
    process.trim(&system);
    assert!(process.relations.is_some(), "it is kept for who charges it");
    let unknown = system.charge(Pid::new(7, 9, 0), &account, 1);
    assert!(matches!(unknown, Err(SendError::Dead | SendError::Unknown)));
    drop(account);
    process.trim(&system);
    assert!(process.relations.is_none());
}

#[test]
fn a_timer_that_has_fired_during_a_capture_is_a_message_only() {
    let system = system();
    let mut process = new_process(&system);
    let pid = process.pid();
    let envelope = |reference| Envelope {
        kind: Kind::Timer,
        reference,
        ..Envelope::message(pid, 0, Payload::empty())
    };
    let timer = |reference, to| TimerSnapshot {
        reference,
        remaining: 0,
        to,
        envelope: envelope(reference),
    };
    let other = Pid::new(7, 9, 0);
    let all = [timer(1, pid), timer(2, pid), timer(1, other)];
    let mut timers = all.to_vec();
    process.drop_fired(&mut timers);
    assert_eq!(timers, all);
    // Another process has a timer under the same reference.
    let foreign = Envelope {
        sender: other,
        ..envelope(2)
    };
    for message in [envelope(1), foreign] {
        system.send(pid, message).expect("it is accepted");
    }
    assert!(process.drain(&system).is_none());
    process.drop_fired(&mut timers);
    assert_eq!(timers, [timer(2, pid), timer(1, other)]);
}

#[test]
fn a_new_process_has_no_memory_for_its_first_message() {
    let system = system();
    let limits: Arc<Limits> = Limits::default().into();
    let spec = SpawnSpec::new(Body::Guest(()), limits, Payload::new(b"arguments"));
    let mut process = Process::new(Pid::new(7, 0, 0), spec);
    assert!(process.active.is_none());
    process.deliver_init();
    process.deliver_init();
    assert_eq!(process.inbox_len(), 1);
    let init = process.take(0).unwrap();
    assert_eq!(
        (init.kind, init.sender, init.payload.as_slice()),
        (Kind::Init, Pid::NONE, &b"arguments"[..])
    );
    process.trim(&system);
    assert_eq!(process.init(), init, "a fresh start delivers it again");
}

/// What a process with something to do takes in addition to its record (`tests/it/sizes.rs`), and what one
/// with relatives or arguments does. Those of a million processes may be active at once.
#[test]
fn the_boxes_of_a_process_are_small() {
    let active = size_of::<super::ActiveState<u64>>();
    let relations = size_of::<super::Relations>();
    let spawn_info = size_of::<super::SpawnInfo>();
    eprintln!("active {active}, relations {relations}, spawn info {spawn_info}");
    assert!(active <= 256 && relations <= 104 && spawn_info <= 56);
}
