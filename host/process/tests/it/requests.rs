//! Requests: exactly one of a reply or a DOWN, unless given up.

use exuvia_process::{Due, Kind, Payload, Pid, Reason, Selector, SendError};

use crate::world::{FAILED, World, facts, tags};

#[test]
fn a_reply_comes_once_and_no_down_after_it() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let reference = world.request(client, server, 1);
    let request = world.inbox(server).remove(0);
    assert_eq!(
        (request.kind, request.sender, request.reference, request.tag),
        (Kind::Request, client, reference, 1)
    );
    world.reply(server, &request, 2);
    world.reply(server, &request, 3);
    world.exit(server, FAILED);
    let answers = world.inbox(client);
    assert_eq!(facts(&answers), [(Kind::Reply, server, reference, 0)]);
    assert_eq!(tags(&answers), [2]);
    assert_eq!(world.relations(client), (0, 0, 0));
}

#[test]
fn a_down_comes_if_the_server_ends_first() {
    let mut world = World::new();
    // Not delivered, delivered, received: wherever the request is.
    for turns in 0..3 {
        let [client, server] = world.puppets();
        let reference = world.request(client, server, 1);
        match turns {
            0 => {}
            1 => world.run(),
            _ => assert_eq!(world.inbox(server).len(), 1),
        }
        world.exit(server, FAILED);
        let reason = if turns == 0 { Reason::NOPROC } else { FAILED };
        let down = (Kind::Down, server, reference, reason.0);
        assert_eq!(facts(&world.inbox(client)), [down]);
        assert_eq!(world.relations(client), (0, 0, 0));
    }
}

#[test]
fn a_request_to_an_ended_process_is_answered_at_once() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    world.exit(server, Reason::NORMAL);
    let reference = world.request(client, server, 1);
    let down = (Kind::Down, server, reference, Reason::NOPROC.0);
    assert_eq!(facts(&world.inbox(client)), [down]);
    assert_eq!(world.relations(client), (0, 0, 0));
}

#[test]
fn a_request_to_an_invalid_pid_is_an_error() {
    let mut world = World::new();
    let client = world.puppet();
    let result = world.with(client, |process, system| {
        let reference = process.new_reference();
        process.request(system, Pid::new(99, 0, 0), reference, 1, Payload::empty())
    });
    assert_eq!(result, Err(SendError::Unknown));
    assert_eq!(world.relations(client), (0, 0, 0));
}

#[test]
fn a_late_reply_is_dropped() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let reference = world.request(client, server, 1);
    let request = world.inbox(server).remove(0);
    world.demonitor(client, reference, false);
    world.reply(server, &request, 2);
    assert!(world.inbox(client).is_empty());
    assert_eq!(world.relations(server), (0, 0, 0));
}

#[test]
fn a_reply_in_transit_is_dropped_too() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let reference = world.request(client, server, 1);
    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 2);
    // In transit, not in the inbox: nothing to flush.
    world.demonitor(client, reference, false);
    assert!(world.inbox(client).is_empty());
}

#[test]
fn flush_drops_a_reply_that_has_arrived() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let kept = world.request(client, server, 1);
    let flushed = world.request(client, server, 1);
    for request in world.inbox(server) {
        world.reply(server, &request, 2);
    }
    world.run();
    world.demonitor(client, kept, false);
    world.demonitor(client, flushed, true);
    let reply = (Kind::Reply, server, kept, 0);
    assert_eq!(facts(&world.inbox(client)), [reply]);
}

#[test]
fn giving_up_leaves_nothing_behind_wherever_the_request_is() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    for turns in 0..3 {
        let reference = world.request(client, server, 1);
        match turns {
            0 => {}
            1 => world.run(),
            _ => assert!(!world.inbox(server).is_empty()),
        }
        world.demonitor(client, reference, false);
        // The server sees the request, as in Erlang, and does not reply to it.
        world.inbox(server);
        assert_eq!(world.relations(server), (0, 0, 0), "turns: {turns}");
        assert_eq!(world.relations(client), (0, 0, 0), "turns: {turns}");
    }
}

#[test]
fn a_client_that_ends_leaves_nothing_behind() {
    let mut world = World::new();
    let server = world.puppet();
    for taken in [false, true] {
        let client = world.puppet();
        world.request(client, server, 1);
        if taken {
            world.inbox(server);
        }
        world.exit(client, FAILED);
        world.inbox(server);
        assert_eq!(world.relations(server), (0, 0, 0));
    }
}

#[test]
fn another_process_can_answer() {
    let mut world = World::new();
    let [client, server, worker] = world.puppets();
    let reference = world.request(client, server, 1);
    let request = world.inbox(server).remove(0);
    world.reply(worker, &request, 2);
    let answers = world.inbox(client);
    assert_eq!(facts(&answers), [(Kind::Reply, worker, reference, 0)]);
    // The server no longer has a record of the client, and sends it nothing.
    assert_eq!(world.relations(server), (0, 0, 0));
    world.exit(server, FAILED);
    assert!(world.inbox(client).is_empty());
}

#[test]
fn a_request_put_back_is_answered_once() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let answered = world.request(client, server, 1);
    world.run();
    let take_back = |world: &mut World| {
        world.with(server, |process, _| {
            let request = process.take(0).expect("it is there");
            process.reinsert(0, request);
        });
    };
    take_back(&mut world);
    take_back(&mut world);
    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 2);
    assert_eq!(
        facts(&world.inbox(client)),
        [(Kind::Reply, server, answered, 0)]
    );
    assert_eq!(world.relations(server), (0, 0, 0));

    let unanswered = world.request(client, server, 1);
    world.run();
    take_back(&mut world);
    world.exit(server, FAILED);
    assert_eq!(
        facts(&world.inbox(client)),
        [(Kind::Down, server, unanswered, FAILED.0)]
    );
}

#[test]
fn a_request_put_back_after_its_sender_gave_up_is_not_remembered() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let reference = world.request(client, server, 1);
    let request = world.inbox(server).remove(0);
    world.demonitor(client, reference, false);
    world.run();
    world.with(server, |process, _| process.reinsert(0, request));
    assert_eq!(world.inbox(server).len(), 1);
    assert_eq!(world.relations(server), (0, 0, 0));
}

/// A process that was not told a reference cannot derive it from others that it knows.
#[test]
fn a_reference_cannot_be_guessed() {
    let mut world = World::new();
    let [client, server, thief] = world.puppets();
    // The same process had sent it requests itself, before and after.
    world.request(client, thief, 1);
    let reference = world.request(client, server, 1);
    world.request(client, thief, 1);
    let process = world.with(thief, |process, _| process.new_reference());
    let seen: Vec<u64> = (world.inbox(thief).iter().map(|m| m.reference))
        .chain([process])
        .collect();
    world.with(thief, |process, system| {
        for seen in seen {
            for step in 0..2_000 {
                for guess in [
                    seen.wrapping_add(step),
                    seen.wrapping_sub(step),
                    seen ^ 1 << (step % 64),
                ] {
                    process.reply(system, client, guess, 66, Payload::empty());
                }
            }
        }
    });
    let forged = world.inbox(client);
    let answered = forged.iter().filter(|m| m.reference == reference);
    assert_eq!(answered.count(), 0, "a stranger has answered");
    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 2);
    let answers = world.inbox(client);
    assert_eq!(facts(&answers), [(Kind::Reply, server, reference, 0)]);
}

/// A timer's reference may be known: another process cannot do anything with it.
#[test]
fn only_its_owner_cancels_a_timer_or_answers_for_it() {
    let mut world = World::new();
    let [owner, thief] = world.puppets();
    let set = |world: &World, by, to| {
        world.system.set_timer(by, 1_000, |reference| Due::Message {
            to,
            envelope: exuvia_process::Envelope {
                reference,
                kind: Kind::Timer,
                ..exuvia_process::Envelope::message(by, 1, Payload::empty())
            },
            charge: None,
        })
    };
    let timer = set(&world, owner, owner);
    let thiefs = set(&world, thief, owner);
    assert_ne!(timer, thiefs);
    assert_eq!(world.system.timers.cancel(thief, timer), None);
    world.with(thief, |process, system| {
        process.reply(system, owner, timer, 66, Payload::empty());
        process.demonitor(system, timer, true);
    });
    // Only messages with a reference of their own are of these kinds.
    assert_eq!(
        world.with(owner, |process, _| process
            .position(&Selector::Reference(timer))),
        None
    );
    world.system.clock.advance(1_000);
    while world.system.fire_timers(0).is_some() {}
    let inbox = world.inbox(owner);
    let its: Vec<_> = inbox.iter().filter(|m| m.reference == timer).collect();
    assert_eq!((its.len(), its[0].sender, its[0].tag), (1, owner, 1));
}

#[test]
fn references_are_unique_on_the_node() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let pid = world.puppet();
        world.with(pid, |process, _| {
            seen.extend((0..100).map(|_| process.new_reference()))
        });
        world.exit(pid, Reason::NORMAL);
    }
    assert!(!seen.contains(&0));
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all);
}
