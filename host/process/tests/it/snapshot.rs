//! Capturing processes and restoring them: on a new node, and on the node where they were.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counts;
mod exits;
mod hook;
mod model;
mod timers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};

use exuvia_process::{
    Access, Body, Clock, Due, Envelope, ExitReason, GuestSnapshot, Kind, Limits, NameError,
    Payload, Pid, Process, ProcessSnapshot, Reason, RestoreError, Schedule, Signal, SpawnSpec,
    StayReason, StaysOnVersion, System, TimerSnapshot, WhyNot,
};
use proptest::prelude::*;

use crate::world::{FAILED, PROCESSES, World, facts, tags};

const MS: u64 = 1_000_000;

fn guest(_: &mut ()) -> Result<GuestSnapshot, WhyNot> {
    Ok(GuestSnapshot {
        module: "puppet".into(),
        digest: [7; 32],
        state: Some(vec![1, 2, 3]),
        has_run: true,
        upgrades: 4,
        stays: Some(StaysOnVersion {
            current: [8; 32],
            because: StayReason::Failed("why".into()),
        }),
    })
}

fn try_capture(world: &mut World, pid: Pid) -> Result<ProcessSnapshot, WhyNot> {
    let snapshot = world.with(pid, |process, system| process.capture(system, guest))?;
    let read = ProcessSnapshot::from_bytes(&snapshot.to_bytes());
    assert_eq!(read.as_ref(), Ok(&snapshot));
    Ok(snapshot)
}

fn capture(world: &mut World, pid: Pid) -> ProcessSnapshot {
    try_capture(world, pid).expect("it is at rest")
}

fn restore(world: &World, snapshot: &ProcessSnapshot) {
    assert_eq!(world.system.restore(snapshot, ()), Ok(snapshot.pid));
}

fn set_timer(world: &mut World, owner: Pid, to: Pid, delay: u64, tag: u32) -> u64 {
    let envelope = Envelope {
        kind: Kind::Timer,
        ..Envelope::message(owner, tag, Payload::new(b"tick"))
    };
    let charge = world.with(owner, |process, system| {
        process.charge(system, envelope.cost())
    });
    world
        .system
        .set_timer(owner, delay, |reference| Due::Message {
            to,
            envelope: Envelope {
                reference,
                ..envelope
            },
            charge,
        })
}

#[test]
fn a_killed_process_is_restored_under_its_pid_with_all_that_it_had() {
    let mut world = World::new();
    let [pid, linked, monitored, server, other] = world.puppets();
    world.trap(linked);
    world.trap(pid);
    world.link(pid, linked);
    let monitor = world.monitor(pid, monitored);
    let request = world.request(pid, server, 9);
    world.run();
    world.system.register("me", pid).expect("it is free");
    world.system.register("also", pid).expect("it is free");
    world.system.join("all", pid).expect("it may");
    for tag in 1..4 {
        world.send(other, pid, tag).expect("accepted");
    }
    let timer = set_timer(&mut world, pid, pid, 5 * MS, 8);
    world.system.clock.advance(2 * MS);
    let snapshot = capture(&mut world, pid);
    assert_eq!(tags(&snapshot.inbox), [1, 2, 3]);
    assert_eq!(snapshot.timers[0].remaining, 3 * MS);

    world.kill(Pid::NONE, pid);
    world.run();
    assert!(!world.is_alive(pid) && world.system.names.find("me").is_none());
    world.system.clock.advance(MS);
    restore(&world, &snapshot);
    world.run();
    assert!(world.is_alive(pid));
    assert_eq!(world.system.names.find("also"), Some(pid));
    assert_eq!(world.system.groups.members("all").len(), 1);
    assert!(world.examine(linked, |process| process.is_linked(pid)));
    assert!(world.examine(pid, |process| process.is_linked(linked)));
    // The server had lost the request with the process that made it.
    let messages = world.inbox(pid);
    assert_eq!(tags(&messages[..3]), [1, 2, 3]);
    let noproc = Reason::NOPROC.0;
    assert_eq!(
        facts(&messages[3..]),
        [(Kind::Down, server, request, noproc)]
    );
    // The linked process saw the end, and the monitored one is still monitored.
    let killed = Reason::KILLED.0;
    assert_eq!(facts(&world.inbox(linked)), [(Kind::Exit, pid, 0, killed)]);
    world.exit(monitored, FAILED);
    world.exit(linked, FAILED);
    let ends = facts(&world.inbox(pid));
    let down = (Kind::Down, monitored, monitor, FAILED.0);
    assert_eq!(ends, [down, (Kind::Exit, linked, 0, FAILED.0)]);
    // The timer was not set twice: it went on while the process was dead.
    world.system.clock.advance(2 * MS);
    world.system.fire_timers(0);
    let fired = world.inbox(pid);
    assert_eq!((tags(&fired), fired[0].reference), (vec![8], timer));
    assert!(world.system.timers.is_empty());
}

#[test]
fn links_and_monitors_of_the_dead_end_with_noproc() {
    let mut world = World::new();
    let [pid, linked, monitored, server] = world.puppets();
    world.trap(pid);
    world.link(pid, linked);
    let monitor = world.monitor(pid, monitored);
    let request = world.request(pid, server, 9);
    world.run();
    let snapshot = capture(&mut world, pid);
    world.exit(pid, Reason::NORMAL);
    for peer in [linked, monitored, server] {
        world.exit(peer, Reason::NORMAL);
    }
    restore(&world, &snapshot);
    let mut ends = facts(&world.inbox(pid));
    ends.sort_by_key(|(.., from, _, _)| from.local);
    let noproc = Reason::NOPROC.0;
    let expected = [
        (Kind::Exit, linked, 0, noproc),
        (Kind::Down, monitored, monitor, noproc),
        (Kind::Down, server, request, noproc),
    ];
    assert_eq!(ends, expected);
    assert_eq!(world.relations(pid), (0, 0, 0));

    // Which does not trap exits ends with its link, as in Erlang.
    let [one, two] = world.puppets();
    world.link(one, two);
    world.run();
    let snapshot = capture(&mut world, one);
    world.exit(one, Reason::NORMAL);
    world.exit(two, Reason::NORMAL);
    restore(&world, &snapshot);
    world.run();
    assert!(!world.is_alive(one));
}

#[test]
fn what_others_do_not_hold_any_more_is_dropped() {
    let mut world = World::new();
    let [pid, watcher, caller, gone] = world.puppets();
    world.monitor(watcher, pid);
    world.request(caller, pid, 1);
    world.monitor(gone, pid);
    world.run();
    let snapshot = capture(&mut world, pid);
    assert_eq!(snapshot.watchers.len(), 3);
    world.exit(pid, FAILED);
    let kinds = |world: &mut World, pid| facts(&world.inbox(pid))[0].0;
    assert_eq!(kinds(&mut world, watcher), Kind::Down);
    assert_eq!(kinds(&mut world, caller), Kind::Down);
    world.exit(gone, Reason::NORMAL);
    restore(&world, &snapshot);
    assert_eq!(world.relations(pid), (0, 0, 0));
    // The request is there still; a reply to it reaches nobody.
    let request = world.inbox(pid).remove(0);
    world.reply(pid, &request, 5);
    assert!(world.inbox(caller).is_empty());
}

/// While nothing was lost, a call that is under way is replied to after a restore.
#[test]
fn requests_that_both_sides_hold_go_on() {
    let mut old = World::new();
    let [caller, server] = old.puppets();
    let reference = old.request(caller, server, 4);
    let snapshots = [capture(&mut old, server), capture(&mut old, caller)];
    let mut world = World::new();
    let all = snapshots.into_iter().map(|snapshot| (snapshot, ()));
    assert_eq!(world.system.restore_all(all), [Ok(server), Ok(caller)]);
    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 6);
    let reply = world.inbox(caller).remove(0);
    assert_eq!((reply.kind, reply.reference), (Kind::Reply, reference));
    assert_eq!(world.relations(caller), (0, 0, 0));
    assert_eq!(world.relations(server), (0, 0, 0));
}

#[test]
fn what_cannot_be_captured_says_why() {
    let mut world = World::new();
    let native = world.native(|_, _| ());
    world.run();
    assert_eq!(try_capture(&mut world, native), Err(WhyNot::Native));

    let pid = world.puppet();
    let limits = Limits::default();
    let table = world.system.new_table(pid, &limits, None, Access::Private);
    assert_eq!(try_capture(&mut world, pid), Err(WhyNot::Tables(1)));
    world.system.tables.end(pid, table.unwrap()).unwrap();
    assert!(try_capture(&mut world, pid).is_ok());
    world.kill(Pid::NONE, pid);
    let killed = ExitReason::new(Reason::KILLED);
    assert_eq!(try_capture(&mut world, pid), Err(WhyNot::Ending(killed)));
    world.system.wake(pid);
    world.run();
    assert!(!world.is_alive(pid));

    let mut world = World::in_parts_of(2);
    let [from, to] = world.puppets();
    for tag in 0..9 {
        world.send(from, to, tag).expect("accepted");
    }
    assert_eq!(try_capture(&mut world, to), Err(WhyNot::Signals));
    world.run();
    assert_eq!(capture(&mut world, to).inbox.len(), 9);
}

#[test]
fn a_refused_restore_leaves_nothing_behind() {
    let mut world = World::new();
    let [pid, other] = world.puppets();
    world.system.register("first", pid).expect("it is free");
    world.system.register("second", pid).expect("it is free");
    let snapshot = capture(&mut world, pid);
    let taken = Err(RestoreError::SlotTaken);
    assert_eq!(world.system.restore(&snapshot, ()), taken, "it lives");
    world.exit(pid, Reason::NORMAL);
    world.system.register("second", other).expect("it is free");
    let error = RestoreError::Name("second".into(), NameError::Taken);
    for _ in 0..3 {
        assert_eq!(world.system.restore(&snapshot, ()), Err(error.clone()));
        assert_eq!(world.system.names.find("first"), None);
        assert_eq!(world.system.table.alive(), 1);
        assert!(!world.is_alive(pid));
    }
    let foreign = ProcessSnapshot {
        pid: Pid::new(8, pid.slot(), pid.generation()),
        ..snapshot.clone()
    };
    let error = Err(RestoreError::OtherNode(8));
    assert_eq!(world.system.restore(&foreign, ()), error);
    let beyond = ProcessSnapshot {
        pid: Pid::new(7, PROCESSES as u32, 0),
        ..snapshot.clone()
    };
    assert_eq!(world.system.restore(&beyond, ()), taken);
    assert_eq!(world.system.names.remove("second"), Some(other));
    restore(&world, &snapshot);
    world.run();
    assert!(world.is_alive(pid));

    // Once another process has had the slot, the pid is gone for ever.
    world.exit(pid, Reason::NORMAL);
    let next = world.successor(pid);
    assert_eq!(world.system.restore(&snapshot, ()), taken);
    world.exit(next, Reason::NORMAL);
    let used_up = Err(RestoreError::PidUsedUp);
    assert_eq!(world.system.restore(&snapshot, ()), used_up);
    let last = world.successor(pid);
    assert_eq!(last.generation(), next.generation() + 1, "no slot is lost");
}
