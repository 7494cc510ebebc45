//! Timers, with the clock in the test's hand.

use exuvia_abi::limits;
use exuvia_process::{Due, Envelope, Kind, Payload, Pid, Reason};

use crate::world::{World, tags};

const MS: u64 = 1_000_000;

fn set(world: &World, owner: Pid, to: Pid, delay: u64, tag: u32) -> u64 {
    world
        .system
        .set_timer(owner, delay, |reference| Due::Message {
            to,
            envelope: Envelope {
                kind: Kind::Timer,
                reference,
                ..Envelope::message(owner, tag, Payload::empty())
            },
            place: None,
        })
}

#[test]
fn timers_fire_in_the_order_of_their_time_and_never_early() {
    let mut world = World::new();
    let pid = world.puppet();
    set(&world, pid, pid, 3 * MS, 3);
    set(&world, pid, pid, MS, 1);
    set(&world, pid, pid, 2 * MS, 2);
    set(&world, pid, pid, 2 * MS, 20);
    assert_eq!(world.system.fire_timers(0), Some(MS));
    world.system.clock.advance(MS - 1);
    assert_eq!(world.system.fire_timers(0), Some(1));
    assert!(world.inbox(pid).is_empty());
    world.system.clock.advance(1);
    assert_eq!(world.system.fire_timers(0), Some(MS));
    assert_eq!(tags(&world.inbox(pid)), [1]);
    world.system.clock.advance(5 * MS);
    assert_eq!(world.system.fire_timers(0), None);
    let fired = world.inbox(pid);
    assert_eq!(tags(&fired), [2, 20, 3]);
    assert!(fired.iter().all(|message| message.kind == Kind::Timer));
    assert!(world.system.timers.is_empty());
}

#[test]
fn who_sleeps_is_told_of_an_earlier_timer_only() {
    let mut world = World::new();
    let pid = world.puppet();
    set(&world, pid, pid, 5 * MS, 1);
    assert_eq!(world.timer_moves(), 1);
    set(&world, pid, pid, 6 * MS, 2);
    assert_eq!(world.timer_moves(), 1);
    set(&world, pid, pid, 4 * MS, 3);
    assert_eq!(world.timer_moves(), 2);
}

#[test]
fn a_cancelled_timer_does_not_fire_and_says_when_it_would_have() {
    let mut world = World::new();
    let pid = world.puppet();
    let first = set(&world, pid, pid, MS, 1);
    let second = set(&world, pid, pid, 2 * MS, 2);
    assert_eq!(world.system.timers.cancel(pid, first), Some(MS));
    assert_eq!(world.system.timers.cancel(pid, first), None);
    assert_eq!(world.system.timers.next(0), 2 * MS);
    world.system.clock.advance(2 * MS);
    assert_eq!(world.system.fire_timers(0), None);
    assert_eq!(tags(&world.inbox(pid)), [2]);
    assert_eq!(world.system.timers.cancel(pid, second), None);
}

#[test]
fn only_the_owner_cancels() {
    let mut world = World::new();
    let [owner, other] = world.puppets();
    let timer = set(&world, owner, other, MS, 1);
    assert_eq!(world.system.timers.cancel(other, timer), None);
    assert_eq!(world.system.timers.cancel(Pid::NONE, timer), None);
    // A monitor's reference is no timer's, nor is a shard that does not exist.
    let monitor = world.monitor(owner, other);
    assert_eq!(world.system.timers.cancel(owner, monitor), None);
    assert_eq!(world.system.timers.cancel(owner, timer | 0xff), None);
    world.system.clock.advance(MS);
    world.system.fire_timers(0);
    assert_eq!(tags(&world.inbox(other)), [1]);
}

#[test]
fn a_burst_is_fired_in_pieces() {
    let mut world = World::new();
    let pid = world.puppet();
    for tag in 0..600 {
        set(&world, pid, pid, MS, tag);
    }
    world.system.clock.advance(MS);
    assert_eq!(world.system.fire_timers(0), Some(0), "more to fire now");
    let left = world.system.timers.len();
    assert!((1..600).contains(&left));
    while world.system.fire_timers(0).is_some() {}
    assert_eq!(tags(&world.inbox(pid)), (0..600).collect::<Vec<_>>());
}

/// As in Erlang: what a process sent, also for later, is on its way.
#[test]
fn a_message_timer_outlives_its_owner() {
    let mut world = World::new();
    let [owner, other] = world.puppets();
    set(&world, owner, other, MS, 1);
    set(&world, other, other, 2 * MS, 2);
    set(&world, owner, owner, 3 * MS, 3);
    world.exit(owner, Reason::NORMAL);
    world.system.clock.advance(5 * MS);
    while world.system.fire_timers(0).is_some() {}
    assert_eq!(tags(&world.inbox(other)), [1, 2]);
    assert!(world.system.timers.is_empty());
}

#[test]
fn a_timer_for_the_dead_reaches_nobody() {
    let mut world = World::new();
    let [owner, to] = world.puppets();
    set(&world, owner, to, MS, 1);
    world.exit(to, Reason::NORMAL);
    let new = world.puppet();
    assert_eq!(new.slot(), to.slot());
    world.system.clock.advance(MS);
    assert_eq!(world.system.fire_timers(0), None);
    assert!(world.inbox(new).is_empty());
}

#[test]
fn a_wake_schedules_without_a_message() {
    let mut world = World::new();
    let pid = world.puppet();
    world.system.set_timer(pid, MS, |_| Due::Wake(pid));
    world.system.clock.advance(MS);
    assert_eq!(world.scheduled(), 0);
    world.system.fire_timers(0);
    assert_eq!(world.scheduled(), 1);
    assert!(world.inbox(pid).is_empty());
}

#[test]
fn a_full_mailbox_takes_timers() {
    let mut world = World::new();
    let pid = world.puppet_with(exuvia_process::Limits {
        mailbox_messages: 1,
        ..Default::default()
    });
    world.send(pid, pid, 1).expect("accepted");
    set(&world, pid, pid, MS, 2);
    world.system.clock.advance(MS);
    world.system.fire_timers(0);
    assert_eq!(tags(&world.inbox(pid)), [1, 2]);
}

/// A timer with a place, if there is one.
fn set_in_place(world: &mut World, owner: Pid, to: Pid, delay: u64, bytes: u64) -> Option<u64> {
    let place = world.with(owner, |own, _| own.timer_place(bytes))?;
    Some(
        world
            .system
            .set_timer(owner, delay, |reference| Due::Message {
                to,
                envelope: Envelope {
                    kind: Kind::Timer,
                    reference,
                    ..Envelope::message(owner, 0, Payload::empty())
                },
                place: Some(place),
            }),
    )
}

#[test]
fn so_many_timers_may_a_process_have() {
    let mut world = World::new();
    let [pid, other] = world.puppets();
    let first = set_in_place(&mut world, pid, other, MS, 1).expect("there is room");
    for _ in 1..limits::TIMERS {
        assert!(set_in_place(&mut world, pid, other, 2 * MS, 1).is_some());
    }
    assert_eq!(set_in_place(&mut world, pid, other, MS, 1), None);
    assert_eq!(world.system.timers.len(), limits::TIMERS as usize);
    // Each process has its own.
    assert!(set_in_place(&mut world, other, other, 9 * MS, 1).is_some());
    // Cancelled, and fired.
    assert!(world.system.timers.cancel(pid, first).is_some());
    assert!(set_in_place(&mut world, pid, other, MS, 1).is_some());
    assert_eq!(set_in_place(&mut world, pid, other, MS, 1), None);
    world.system.clock.advance(MS);
    world.system.fire_timers(0);
    assert!(set_in_place(&mut world, pid, other, MS, 1).is_some());
    assert_eq!(set_in_place(&mut world, pid, other, MS, 1), None);
    world.system.clock.advance(MS);
    while world.system.fire_timers(0) == Some(0) {}
    for _ in 0..limits::TIMERS {
        assert!(set_in_place(&mut world, pid, pid, MS, 1).is_some());
    }
    // Those that it has not taken count as well.
    world.system.clock.advance(MS);
    while world.system.fire_timers(0) == Some(0) {}
    world.run();
    assert_eq!(set_in_place(&mut world, pid, other, MS, 1), None);
    world.with(pid, |own, _| own.take(0));
    assert!(set_in_place(&mut world, pid, other, MS, 1).is_some());
    assert_eq!(set_in_place(&mut world, pid, other, MS, 1), None);
    // Those that outlive it give back places that nobody looks at.
    world.exit(pid, Reason::NORMAL);
    world.system.clock.advance(9 * MS);
    while world.system.fire_timers(0) == Some(0) {}
    assert!(world.system.timers.is_empty());
}

#[test]
fn timers_hold_no_more_bytes_than_the_mailbox_may() {
    let mut world = World::new();
    let pid = world.puppet_with(exuvia_process::Limits {
        mailbox_bytes: 1_000,
        ..Default::default()
    });
    assert_eq!(set_in_place(&mut world, pid, pid, MS, 1_001), None);
    let large = set_in_place(&mut world, pid, pid, MS, 600).expect("there is room");
    assert!(set_in_place(&mut world, pid, pid, MS, 400).is_some());
    assert_eq!(set_in_place(&mut world, pid, pid, MS, 1), None);
    assert_eq!(world.system.timers.len(), 2);
    world.system.timers.cancel(pid, large);
    assert_eq!(set_in_place(&mut world, pid, pid, MS, 601), None);
    assert!(set_in_place(&mut world, pid, pid, MS, 600).is_some());
}
