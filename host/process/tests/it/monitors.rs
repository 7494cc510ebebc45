//! Monitors: exactly one DOWN, unless the monitor is removed.

use exuvia_abi::limits;
use exuvia_process::{ExitReason, Kind, Reason};

use crate::world::{FAILED, World, facts};

#[test]
fn each_monitor_gives_one_down() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    let first = world.monitor(watcher, watched);
    let second = world.monitor(watcher, watched);
    assert_ne!(first, second);
    world.run();
    world.exit(watched, FAILED);
    let mut downs = facts(&world.inbox(watcher));
    downs.sort_by_key(|(_, _, reference, _)| *reference != first);
    assert_eq!(
        downs,
        [
            (Kind::Down, watched, first, FAILED.0),
            (Kind::Down, watched, second, FAILED.0)
        ]
    );
    assert_eq!(world.relations(watcher), (0, 0, 0));
}

#[test]
fn a_down_comes_for_a_normal_end_too_and_carries_the_reasons_bytes() {
    let mut world = World::new();
    let [watcher, watched, talkative] = world.puppets();
    world.monitor(watcher, watched);
    world.monitor(watcher, talkative);
    world.run();
    world.exit(watched, Reason::NORMAL);
    let process = world.take_own(talkative);
    let reason = ExitReason::with(FAILED.0, b"because of the test");
    let _ = world.system.terminate(process, &reason);
    let downs = world.inbox(watcher);
    assert_eq!(downs[0].reason, Reason::NORMAL.0);
    assert_eq!(downs[1].payload.as_slice(), b"because of the test");
}

#[test]
fn a_monitor_of_an_ended_process_gives_noproc_at_once() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    world.exit(watched, FAILED);
    let reference = world.monitor(watcher, watched);
    let down = (Kind::Down, watched, reference, Reason::NOPROC.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
    // Also when the slot has a new process.
    let new = world.successor(watched);
    let reference = world.monitor(watcher, watched);
    let down = (Kind::Down, watched, reference, Reason::NOPROC.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
    assert_eq!(world.relations(new), (0, 0, 0));
}

#[test]
fn the_noproc_of_a_dead_process_does_not_overtake_its_messages() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    // The watcher is in a turn, and has not seen the message, when it monitors.
    let mut process = world.take_own(watcher);
    world.send(watched, watcher, 1).expect("accepted");
    world.exit(watched, Reason::NORMAL);
    let reference = process.new_reference();
    process.monitor(&world.system, watched, reference);
    world.put_own(process);
    let inbox = world.inbox(watcher);
    assert_eq!(inbox.len(), 2);
    assert_eq!(inbox[0].kind, Kind::Message);
    assert_eq!(inbox[1].kind, Kind::Down);
}

#[test]
fn a_monitor_that_arrives_behind_the_end_is_answered() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    world.kill(watcher, watched);
    let reference = world.monitor(watcher, watched);
    world.run();
    assert_eq!(world.end_of(watched), Some(Reason::KILLED.0));
    let down = (Kind::Down, watched, reference, Reason::NOPROC.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
}

#[test]
fn a_demonitor_stops_the_down() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    let reference = world.monitor(watcher, watched);
    world.run();
    world.demonitor(watcher, reference, false);
    world.exit(watched, FAILED);
    assert!(world.inbox(watcher).is_empty());

    // Also one that is in transit.
    let watched = world.puppet();
    let reference = world.monitor(watcher, watched);
    world.run();
    world.exit(watched, FAILED);
    world.demonitor(watcher, reference, false);
    assert!(world.inbox(watcher).is_empty());
}

#[test]
fn flush_drops_a_down_that_has_arrived() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    let kept = world.monitor(watcher, watched);
    let flushed = world.monitor(watcher, watched);
    world.run();
    world.exit(watched, FAILED);
    world.run();
    world.demonitor(watcher, kept, false);
    world.demonitor(watcher, flushed, true);
    // An unknown reference is not an error.
    world.demonitor(watcher, flushed, true);
    let down = (Kind::Down, watched, kept, FAILED.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
}

#[test]
fn a_monitor_of_an_ended_watcher_is_removed() {
    let mut world = World::new();
    let [watcher, watched] = world.puppets();
    world.monitor(watcher, watched);
    assert_eq!(world.relations(watched), (0, 0, 1));
    world.exit(watcher, FAILED);
    assert_eq!(world.relations(watched), (0, 0, 0));
    assert!(world.is_alive(watched), "a monitor ends no process");
}

#[test]
fn the_monitors_and_requests_of_a_process_are_limited() {
    let mut world = World::new();
    let [pid, peer, other] = world.puppets();
    let most = limits::MONITORS as usize;
    let references: Vec<u64> = world.with(pid, |process, system| {
        (1..most)
            .map(|_| {
                let reference = process.new_reference();
                process.monitor(system, peer, reference);
                reference
            })
            .collect()
    });
    let may = |world: &mut World, more| world.with(pid, |process, _| process.may_monitor(more));
    assert!(may(&mut world, 1));
    assert!(!may(&mut world, 2));
    // A request counts until it gets a reply.
    world.request(pid, other, 1);
    assert!(may(&mut world, 0));
    assert!(!may(&mut world, 1));
    let asked = world.inbox(other).remove(0);
    world.reply(other, &asked, 1);
    world.run();
    assert!(!may(&mut world, 1), "the reply waits");
    assert_eq!(world.inbox(pid).len(), 1);
    assert!(may(&mut world, 1));
    // Monitors of this process do not count.
    world.monitor(other, pid);
    assert_eq!(world.relations(pid), (0, most - 1, 1));
    world.demonitor(pid, references[0], false);
    assert!(may(&mut world, 2));
    assert!(!may(&mut world, 3));
    world.exit(peer, Reason::NORMAL);
    world.run();
    assert!(!may(&mut world, 3), "all of these wait");
    assert_eq!(world.inbox(pid).len(), most - 2);
    assert!(may(&mut world, most));
    assert!(!may(&mut world, most + 1));
}
