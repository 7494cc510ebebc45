//! Large amounts of work are done in parts: no turn takes longer because of them, nothing is lost
//! or overtaken, and a terminated process is dead from the first part on.

use exuvia_process::{
    Clock, Envelope, ExitReason, Kind, Limits, Pid, Reason, RunState, Selector, SendError, System,
};

use crate::world::{FAILED, World, facts, tags};

const PART: usize = 10;

fn world() -> World {
    World::of(System::new(7, 1_000, 1, Clock::manual()).with_signals_per_turn(PART))
}

fn inbox_len(world: &World, pid: Pid) -> usize {
    world.examine(pid, |process| process.inbox_len())
}

#[test]
fn a_flood_is_taken_over_in_parts_and_in_order() {
    let mut world = world();
    let [from, to, other] = world.puppets();
    for tag in 0..95 {
        world.send(from, to, tag).unwrap();
    }
    world.send(from, other, 1).unwrap();
    for part in 1..=9 {
        // Behind other processes that have something to do.
        assert_eq!(world.scheduled(), if part == 1 { 2 } else { 1 });
        world.step(0);
        assert_eq!(inbox_len(&world, to), part * PART);
        if part == 1 {
            world.step(0);
            assert_eq!(inbox_len(&world, other), 1);
        }
        // Signals that arrive meanwhile come after.
        world.send(from, to, 100 + part as u32).unwrap();
    }
    world.run();
    assert_eq!(inbox_len(&world, to), 95 + 9);
    let expected: Vec<u32> = (0..95).chain(101..110).collect();
    assert_eq!(tags(&world.inbox(to)), expected);
    assert!(!world.examine(to, |process| process.has_pending_signals()));
    world.examine(to, |process| assert!(process.reductions > 90));
}

/// Messages that are not sorted yet count like those that are.
#[test]
fn a_flood_counts_against_the_limits_until_it_is_received() {
    let mut world = world();
    let from = world.puppet();
    let to = world.puppet_with(Limits {
        mailbox_messages: 30,
        ..Limits::default()
    });
    for tag in 0..30 {
        world.send(from, to, tag).unwrap();
    }
    for _ in 0..4 {
        assert_eq!(world.send(from, to, 99), Err(SendError::Full));
        world.step(0);
    }
    world.run();
    assert_eq!(world.send(from, to, 99), Err(SendError::Full));
    assert_eq!(world.inbox(to).len(), 30);
    assert_eq!(world.send(from, to, 99), Ok(()));
}

/// Until all signals that have arrived are sorted, what a process waits for may be among them.
#[test]
fn a_selective_receive_finds_its_message_behind_a_flood() {
    let mut world = world();
    let [asker, server, noise] = world.puppets();
    let reference = world.request(asker, server, 1);
    for tag in 0..50 {
        world.send(noise, asker, tag).unwrap();
    }
    let request = world.inbox(server).pop().unwrap();
    // The asker has run together with all others.
    for tag in 50..100 {
        world.send(noise, asker, tag).unwrap();
    }
    world.reply(server, &request, 7);
    let found = |world: &World| {
        world.examine(asker, |process| {
            process.position(&Selector::Reference(reference)).is_some()
        })
    };
    for _ in 0..5 {
        world.step(0);
        assert!(!found(&world));
        assert!(world.examine(asker, |process| process.has_backlog()));
    }
    world.step(0);
    assert!(found(&world));
    // It has not checked since whether more has arrived.
    assert!(world.examine(asker, |process| process.has_pending_signals()
        && !process.has_backlog()));
    world.run();
    assert!(world.examine(asker, |process| !process.has_pending_signals()));
    assert_eq!(world.inbox(asker).len(), 101);
}

#[test]
fn a_process_killed_in_a_flood_answers_later_signals() {
    let mut world = world();
    let [watcher, victim] = world.puppets();
    for tag in 0..35 {
        world.send(watcher, victim, tag).unwrap();
    }
    world.kill(watcher, victim);
    let reference = world.monitor(watcher, victim);
    let asked = world.request(watcher, victim, 3);
    world.run();
    assert_eq!(world.end_of(victim), Some(Reason::KILLED.0));
    let noproc = |reference| (Kind::Down, victim, reference, Reason::NOPROC.0);
    assert_eq!(
        facts(&world.inbox(watcher)),
        [noproc(reference), noproc(asked)]
    );
}

/// A process that many are linked to, that many monitor, and that has many messages.
#[test]
fn an_exit_is_notified_in_parts_and_takes_effect_at_once() {
    const MANY: usize = 100;
    let mut world = world();
    let victim = world.puppet();
    world.system.register("victim", victim).unwrap();
    world.system.join("group", victim).unwrap();
    let linked: Vec<Pid> = (0..MANY).map(|_| world.puppet()).collect();
    let watching: Vec<Pid> = (0..MANY).map(|_| world.puppet()).collect();
    for pid in &linked {
        world.trap(*pid);
        world.link(*pid, victim);
    }
    let references: Vec<u64> = (watching.iter())
        .map(|pid| world.monitor(*pid, victim))
        .collect();
    let watched = world.puppet();
    world.monitor(victim, watched);
    for tag in 0..MANY as u32 {
        world.send(watched, victim, tag).unwrap();
    }
    world.run();
    let unseen = world.puppet();
    let late = world.monitor(unseen, victim);
    let alive = world.system.table.alive();
    world.exit(victim, FAILED);

    // It is dead to all other processes, though most are not notified yet.
    let told = |world: &World| linked.iter().filter(|pid| has(world, **pid) > 0).count();
    assert!(!world.is_alive(victim));
    assert_eq!(world.system.names.find("victim"), None);
    assert!(world.system.groups.members("group").is_empty());
    assert_eq!(world.send(unseen, victim, 1), Err(SendError::Dead));
    let now = world.monitor(unseen, victim);
    let slot = world.system.table.slot(victim.slot()).unwrap();
    assert_eq!(slot.state.get(), RunState::Queued);
    assert!(told(&world) < MANY);
    // Its slot is reused only when all are notified.
    let other = world.puppet();
    assert_ne!(other.slot(), victim.slot());
    world.run();
    let slot = world.system.table.slot(victim.slot()).unwrap();
    assert_eq!(slot.state.get(), RunState::Free);
    // Including `other`, which was spawned meanwhile.
    assert_eq!(world.system.table.alive(), alive);

    for pid in &linked {
        let exit = (Kind::Exit, victim, 0, FAILED.0);
        assert_eq!(facts(&world.inbox(*pid)), [exit]);
        assert_eq!(world.relations(*pid), (0, 0, 0));
    }
    for (pid, reference) in watching.iter().zip(references) {
        let down = (Kind::Down, victim, reference, FAILED.0);
        assert_eq!(facts(&world.inbox(*pid)), [down]);
    }
    assert_eq!(world.relations(watched), (0, 0, 0));
    // One was in transit when it terminated, the other arrived when it was dead.
    let mut downs = facts(&world.inbox(unseen));
    downs.sort_by_key(|(_, _, reference, _)| *reference != late);
    let noproc = |reference| (Kind::Down, victim, reference, Reason::NOPROC.0);
    assert_eq!(downs, [noproc(late), noproc(now)]);
}

/// Returns the number of signals in transit to a process and messages in its inbox.
fn has(world: &World, pid: Pid) -> usize {
    let slot = world.system.table.slot(pid.slot());
    slot.map_or(0, |slot| slot.mailbox.len()) + inbox_len(world, pid)
}

/// A turn sends no more notifications than one part, whatever their kind.
#[test]
fn no_turn_notifies_more_than_a_part() {
    const MANY: usize = 75;
    let mut world = world();
    let victim = world.puppet();
    let watching: Vec<Pid> = (0..MANY).map(|_| world.puppet()).collect();
    for pid in &watching {
        world.monitor(*pid, victim);
    }
    world.run();
    let told = |world: &World| watching.iter().filter(|pid| has(world, **pid) > 0).count();
    let process = world.take_own(victim);
    let mut then = world.system.terminate(process, &ExitReason::new(FAILED));
    for part in 1.. {
        assert_eq!(told(&world), (part * PART).min(MANY));
        if then == exuvia_process::Transition::Nothing {
            break;
        }
        let slot = world.system.table.slot(victim.slot()).unwrap();
        assert!(slot.state.transition_to_running());
        let process = slot.take_process().unwrap();
        assert!(process.is_exiting());
        then = world.system.continue_termination(process);
    }
    assert_eq!(told(&world), MANY);
}

/// Usually all notifications are sent in the turn in which a process exits, and its slot is freed
/// before.
#[test]
fn a_process_with_few_relations_ends_in_one_turn() {
    let mut world = world();
    let [watcher, victim] = world.puppets();
    let reference = world.monitor(watcher, victim);
    world.run();
    world.exit(victim, FAILED);
    let slot = world.system.table.slot(victim.slot()).unwrap();
    assert_eq!(slot.state.get(), RunState::Free);
    let down = (Kind::Down, victim, reference, FAILED.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
}

/// Replies, timers and the like have no limit, so there may be many of them too.
#[test]
fn a_native_process_continues_until_all_signals_are_taken_over() {
    let mut world = world();
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = seen.clone();
    let native = world.native(move |_, message: Envelope| {
        if message.kind != Kind::Init {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let from = world.puppet();
    for tag in 0..300 {
        world.send(from, native, tag).unwrap();
    }
    world.run();
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 300);
}
