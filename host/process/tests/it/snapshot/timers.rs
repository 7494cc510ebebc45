//! Timers in snapshots, and captures while a timer fires.

use super::hook::{WhenScheduled, put_idle, spec, take_scheduled};
use super::*;

#[test]
fn timers_keep_their_references_on_a_node_with_other_shards() {
    let system = System::new(7, PROCESSES, 4, Clock::manual());
    let mut old = World::of(system);
    let pid = old.puppet();
    let first = set_timer(&mut old, pid, pid, 5 * MS, 1);
    let second = set_timer(&mut old, pid, pid, 7 * MS, 2);
    let mut snapshot = capture(&mut old, pid);
    // As if another scheduler had set the second one.
    snapshot.timers[1].reference |= 3;
    snapshot.timers[1].envelope.reference |= 3;
    let second = second | 3;
    let mut world = World::new();
    restore(&world, &snapshot);
    let third = set_timer(&mut world, pid, pid, 6 * MS, 3);
    assert!(third != first && third != second);
    assert_eq!(world.system.timers.cancel(pid, first), Some(5 * MS));
    world.system.clock.advance(8 * MS);
    world.system.fire_timers(0);
    let fired = world.inbox(pid);
    assert_eq!(tags(&fired), [3, 2]);
    assert_eq!(fired[1].reference, second);
    assert!(world.system.timers.is_empty());
}

#[test]
fn a_timer_that_fires_during_a_capture_is_not_lost() {
    let mut world = World::new();
    let pid = world.puppet();
    set_timer(&mut world, pid, pid, 5 * MS, 1);
    let snapshot = world.with(pid, |process, system| {
        process.capture(system, |own| {
            system.clock.advance(5 * MS);
            system.fire_timers(0);
            guest(own)
        })
    });
    let snapshot = snapshot.expect("it is at rest");
    assert_eq!((snapshot.inbox.len(), snapshot.timers.len()), (0, 1));
    assert_eq!(capture(&mut world, pid).timers, []);
}

#[test]
fn a_process_is_not_captured_while_a_timer_is_between_queue_and_mailbox() {
    let (system, hook) = WhenScheduled::new();
    let [pid, other] = [0; 2].map(|_| system.spawn(spec()).unwrap());
    put_idle(&system, take_scheduled(&system, other));
    put_idle(&system, take_scheduled(&system, pid));
    for to in [other, pid] {
        system.set_timer(pid, 5 * MS, |reference| Due::Message {
            to,
            envelope: Envelope {
                kind: Kind::Timer,
                reference,
                ..Envelope::message(pid, 1, Payload::empty())
            },
            charge: None,
        });
    }
    let try_capture = move |system: &System<()>| {
        let slot = system.table.slot(pid.slot()).unwrap();
        let mut process = slot.take_process().unwrap();
        let captured = process.capture(system, guest);
        slot.put_process(process);
        captured.map(|snapshot| (tags(&snapshot.inbox), snapshot.timers.len()))
    };
    // Both are due; the first one is delivered, and schedules its receiver.
    let result = hook.act(try_capture);
    system.clock.advance(5 * MS);
    system.fire_timers(0);
    assert_eq!(*result.lock().unwrap(), Some(Err(WhyNot::Signals)));
    assert_eq!(try_capture(&system), Ok((vec![0, 1], 0)));
}

#[test]
fn a_panic_while_a_timer_is_delivered_prevents_no_later_capture() {
    let (system, hook) = WhenScheduled::new();
    let [pid, other] = [0; 2].map(|_| system.spawn(spec()).unwrap());
    put_idle(&system, take_scheduled(&system, other));
    put_idle(&system, take_scheduled(&system, pid));
    system.set_timer(other, 5 * MS, |reference| Due::Message {
        to: other,
        envelope: Envelope {
            kind: Kind::Timer,
            reference,
            ..Envelope::message(other, 1, Payload::empty())
        },
        charge: None,
    });
    system.clock.advance(5 * MS);
    hook.act::<()>(|_| panic!("as a fault of the host would"));
    let fired = catch_unwind(AssertUnwindSafe(|| system.fire_timers(0)));
    assert!(fired.is_err());
    let slot = system.table.slot(pid.slot()).unwrap();
    let mut process = slot.take_process().unwrap();
    let captured = process.capture(&system, guest);
    assert!(captured.is_ok(), "{captured:?}");
}

#[test]
fn two_processes_may_have_timers_with_equal_references() {
    let mut world = World::new();
    let [one, two] = world.puppets();
    let reference = set_timer(&mut world, one, one, 5 * MS, 1);
    let mut snapshot = capture(&mut world, two);
    let envelope = Envelope {
        kind: Kind::Timer,
        reference,
        ..Envelope::message(two, 2, Payload::empty())
    };
    snapshot.timers = vec![TimerSnapshot {
        reference,
        remaining: 5 * MS,
        to: two,
        envelope,
    }];
    world.exit(two, Reason::NORMAL);
    restore(&world, &snapshot);
    world.system.clock.advance(5 * MS);
    world.system.fire_timers(0);
    assert_eq!(tags(&world.inbox(one)), [1]);
    assert_eq!(tags(&world.inbox(two)), [2]);
}
