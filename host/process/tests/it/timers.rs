//! Timers, with a clock that the test controls.

use exuvia_abi::limits;
use exuvia_process::{Charge, Due, Envelope, Kind, Payload, Pid, Reason};

use crate::world::{World, tags};

const MS: u64 = 1_000_000;

fn set(world: &World, owner: Pid, to: Pid, delay: u64, tag: u32) -> u64 {
    set_with(world, owner, to, delay, tag, None)
}

fn set_with(
    world: &World,
    owner: Pid,
    to: Pid,
    delay: u64,
    tag: u32,
    charge: Option<Charge>,
) -> u64 {
    world
        .system
        .set_timer(owner, delay, |reference| Due::Message {
            to,
            envelope: Envelope {
                kind: Kind::Timer,
                reference,
                ..Envelope::message(owner, tag, Payload::empty())
            },
            charge,
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
fn a_sleeping_thread_is_woken_only_for_an_earlier_timer() {
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
    // A monitor's reference is not a timer's, and a shard that does not exist has no timers.
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

/// As in Erlang: what a process has sent, also for later, is delivered.
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
fn a_timer_for_an_ended_process_delivers_nothing() {
    let mut world = World::new();
    let [owner, to] = world.puppets();
    set(&world, owner, to, MS, 1);
    world.exit(to, Reason::NORMAL);
    let new = world.successor(to);
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
fn a_full_mailbox_accepts_timer_messages() {
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

/// Sets a timer that is charged to its owner, if the owner may have one more.
fn set_charged(world: &mut World, owner: Pid, to: Pid, delay: u64, bytes: u64) -> Option<u64> {
    let charge = world.with(owner, |process, system| process.charge(system, bytes))?;
    Some(set_with(world, owner, to, delay, 0, Some(charge)))
}

/// Fires everything that is due after `time`, and has it taken over.
fn pass(world: &mut World, time: u64) {
    world.system.clock.advance(time);
    while world.system.fire_timers(0) == Some(0) {}
    world.run();
}

#[test]
fn the_timers_of_a_process_are_limited() {
    let mut world = World::new();
    let [pid, other] = world.puppets();
    let first = set_charged(&mut world, pid, other, MS, 1).expect("the table has a free slot");
    for _ in 1..limits::TIMERS {
        assert!(set_charged(&mut world, pid, other, 2 * MS, 1).is_some());
    }
    assert_eq!(set_charged(&mut world, pid, other, MS, 1), None);
    assert_eq!(world.system.timers.len(), limits::TIMERS as usize);
    // Each process has its own limit.
    assert!(set_charged(&mut world, other, other, 9 * MS, 1).is_some());
    // Cancelled.
    assert!(world.system.timers.cancel(pid, first).is_some());
    assert!(set_charged(&mut world, pid, other, MS, 1).is_some());
    assert_eq!(set_charged(&mut world, pid, other, MS, 1), None);
    // After firing they count until they are received, whichever process has them.
    pass(&mut world, 2 * MS);
    assert_eq!(set_charged(&mut world, pid, other, MS, 1), None);
    assert!(world.with(other, |process, _| process.take(0)).is_some());
    assert!(set_charged(&mut world, pid, other, MS, 1).is_some());
    assert_eq!(set_charged(&mut world, pid, other, MS, 1), None);
    // Or until their receiver terminates; those that arrive at the dead process end too.
    world.exit(other, Reason::NORMAL);
    pass(&mut world, MS);
    for _ in 0..limits::TIMERS {
        assert!(set_charged(&mut world, pid, pid, MS, 1).is_some());
    }
    assert_eq!(set_charged(&mut world, pid, pid, MS, 1), None);
}

/// Otherwise processes that terminate one after the other could fill the node.
#[test]
fn timers_of_ended_processes_count_for_the_node() {
    let mut world = World::new();
    let to = world.puppet();
    for _ in 0..2 {
        let owner = world.puppet();
        for _ in 0..limits::TIMERS {
            assert!(set_charged(&mut world, owner, to, MS, 1).is_some());
        }
        world.exit(owner, Reason::NORMAL);
    }
    let owner = world.puppet();
    assert_eq!(set_charged(&mut world, owner, to, MS, 1), None);
    pass(&mut world, MS);
    assert_eq!(set_charged(&mut world, owner, to, MS, 1), None);
    assert!(world.with(to, |process, _| process.take(0)).is_some());
    assert!(set_charged(&mut world, owner, to, MS, 1).is_some());
    assert_eq!(set_charged(&mut world, owner, to, MS, 1), None);
    world.exit(to, Reason::NORMAL);
    assert!(set_charged(&mut world, owner, owner, MS, 1).is_some());
}

#[test]
fn timer_messages_are_bounded_by_the_mailbox_bytes() {
    let mut world = World::new();
    let pid = world.puppet_with(exuvia_process::Limits {
        mailbox_bytes: 1_000,
        ..Default::default()
    });
    assert_eq!(set_charged(&mut world, pid, pid, MS, 1_001), None);
    let large = set_charged(&mut world, pid, pid, MS, 600).expect("the table has a free slot");
    assert!(set_charged(&mut world, pid, pid, MS, 400).is_some());
    assert_eq!(set_charged(&mut world, pid, pid, MS, 1), None);
    assert_eq!(world.system.timers.len(), 2);
    world.system.timers.cancel(pid, large);
    assert_eq!(set_charged(&mut world, pid, pid, MS, 601), None);
    assert!(set_charged(&mut world, pid, pid, MS, 600).is_some());
}
