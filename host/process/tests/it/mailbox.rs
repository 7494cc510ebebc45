//! Order, selective receive, limits, and the generations of a slot.

use std::sync::{Arc, Mutex};

use exuvia_abi::limits;
use exuvia_process::{
    CAUSED_BY_RELEASE, Envelope, ExitReason, Kind, Limits, Payload, Pid, Priority, Process, Reason,
    Selector, SendError, Signal,
};

use crate::world::{FAILED, World, code, tags};

#[test]
fn init_comes_first_and_carries_the_arguments() {
    let mut world = World::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let mut spec = world.spec(code(move |_, message| {
        let entry = (
            message.kind,
            message.tag,
            message.payload.as_slice().to_vec(),
        );
        log.lock().expect("no test panics with it").push(entry);
    }));
    spec.arguments = Payload::new(b"arguments");
    let pid = world.system.spawn(spec).expect("the table has a free slot");
    world.send(Pid::NONE, pid, 1).expect("accepted");
    world.run();
    let seen = seen.lock().expect("no test panics with it");
    assert_eq!(
        *seen,
        [
            (Kind::Init, 0, b"arguments".to_vec()),
            (Kind::Message, 1, vec![])
        ]
    );
}

#[test]
fn messages_keep_their_order_over_many_turns() {
    let mut world = World::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let pid = world.native(move |_, message| {
        log.lock()
            .expect("no test panics with it")
            .push(message.tag);
    });
    // More than one turn handles, with a turn in between.
    for tag in 1..=150 {
        world.send(Pid::NONE, pid, tag).expect("accepted");
        if tag == 100 {
            world.step(0);
        }
    }
    world.run();
    let expected: Vec<u32> = (0..=150).collect();
    assert_eq!(*seen.lock().expect("no test panics with it"), expected);
}

#[test]
fn signals_of_one_sender_do_not_overtake_its_messages() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    world.trap(to);
    world.link(from, to);
    world.send(from, to, 1).expect("accepted");
    world.exit(from, FAILED);
    let inbox = world.inbox(to);
    assert_eq!(inbox.len(), 2);
    assert_eq!(inbox[0].kind, Kind::Message);
    assert_eq!(inbox[1].kind, Kind::Exit);
}

#[test]
fn a_selective_take_leaves_the_others_in_their_order() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    for tag in [1, 2, 3, 2, 4] {
        world.send(from, to, tag).expect("accepted");
    }
    world.run();
    world.with(to, |process, _| {
        assert_eq!(process.position(&Selector::Tag(9)), None);
        let at = process.position(&Selector::Tag(2)).expect("it is there");
        assert_eq!(at, 1);
        assert_eq!(process.peek(at).map(|message| message.tag), Some(2));
        assert_eq!(process.take(at).map(|message| message.tag), Some(2));
        assert_eq!(process.position(&Selector::Tag(2)), Some(2));
        assert_eq!(process.position(&Selector::Any), Some(0));
        assert_eq!(process.take(9), None);
    });
    assert_eq!(tags(&world.inbox(to)), [1, 3, 2, 4]);
}

/// The tag of an exit notification says what caused the exit; no sender has chosen it.
#[test]
fn a_take_by_tag_skips_exit_and_down_messages() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    let caused = ExitReason::new(FAILED).caused_by_release();
    world.with(to, |process, _| {
        for kind in [Kind::Exit, Kind::Down] {
            process.deliver(Envelope::exit_notification(kind, from, 0, &caused));
        }
        assert_eq!(process.peek(1).map(|m| m.tag), Some(CAUSED_BY_RELEASE));
        let tag = u64::from(CAUSED_BY_RELEASE);
        assert_eq!(process.position(&Selector::Tag(tag)), None);
        let message = Envelope::message(from, CAUSED_BY_RELEASE, Payload::empty());
        process.deliver(message);
        assert_eq!(process.position(&Selector::Tag(tag)), Some(2));
    });
}

#[test]
fn a_take_by_reference_finds_the_reply_behind_messages() {
    let mut world = World::new();
    let [client, server] = world.puppets();
    let reference = world.request(client, server, 5);
    world.send(server, client, 1).expect("accepted");
    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 6);
    world.send(server, client, 2).expect("accepted");
    world.run();
    world.with(client, |process, _| {
        let at = process.position(&Selector::Reference(reference));
        assert_eq!(at, Some(1));
        let reply = process.take(1).expect("it is there");
        assert_eq!((reply.kind, reply.tag), (Kind::Reply, 6));
        assert_eq!(process.position(&Selector::Reference(reference)), None);
    });
    assert_eq!(tags(&world.inbox(client)), [1, 2]);
}

#[test]
fn a_message_put_back_is_first_again() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    world.send(from, to, 1).expect("accepted");
    world.send(from, to, 2).expect("accepted");
    world.run();
    world.with(to, |process, _| {
        let first = process.take(0).expect("it is there");
        process.reinsert(0, first);
    });
    assert_eq!(tags(&world.inbox(to)), [1, 2]);
}

// ---- limits ---------------------------------------------------------------

fn few(messages: u32) -> Limits {
    Limits {
        mailbox_messages: messages,
        ..Limits::default()
    }
}

#[test]
fn a_full_mailbox_rejects_messages_whichever_queue_they_are_in() {
    let mut world = World::new();
    let from = world.puppet();
    let to = world.puppet_with(few(2));
    assert_eq!(world.send(from, to, 1), Ok(()));
    assert_eq!(world.send(from, to, 2), Ok(()));
    assert_eq!(world.send(from, to, 3), Err(SendError::Full));
    world.run();
    // Now they are in the inner half.
    assert_eq!(world.send(from, to, 4), Err(SendError::Full));
    world.with(to, |process, system| {
        process.take(0);
        process.publish_stats(system);
    });
    assert_eq!(world.send(from, to, 5), Ok(()));
    assert_eq!(world.send(from, to, 6), Err(SendError::Full));
    assert_eq!(tags(&world.inbox(to)), [2, 5]);
    assert_eq!(world.send(from, to, 7), Ok(()));
}

#[test]
fn a_turn_frees_capacity() {
    let mut world = World::new();
    let spec = exuvia_process::SpawnSpec::new(code(|_, _| {}), few(2).into(), Payload::empty());
    let to = world.system.spawn(spec).expect("the table has a free slot");
    for round in 0..3 {
        world.run();
        assert_eq!(world.send(Pid::NONE, to, 1), Ok(()), "round {round}");
        assert_eq!(world.send(Pid::NONE, to, 2), Ok(()), "round {round}");
        assert_eq!(world.send(Pid::NONE, to, 3), Err(SendError::Full));
    }
}

#[test]
fn bytes_are_limited_too() {
    let mut world = World::new();
    let record = size_of::<Envelope>() as u64;
    let to = world.puppet_with(Limits {
        mailbox_bytes: 2 * record + 100,
        ..Limits::default()
    });
    let send = |world: &World, bytes: usize| {
        let payload = Payload::from(vec![0; bytes]);
        let message = Envelope::message(Pid::NONE, 0, payload);
        world.system.send(to, message)
    };
    assert_eq!(
        send(&world, 101 + size_of::<Envelope>()),
        Err(SendError::Full)
    );
    assert_eq!(send(&world, 60), Ok(()));
    assert_eq!(send(&world, 41), Err(SendError::Full));
    world.run();
    assert_eq!(send(&world, 41), Err(SendError::Full));
    assert_eq!(send(&world, 40), Ok(()));
    assert_eq!(world.inbox(to).len(), 2);
    assert_eq!(send(&world, 60), Ok(()));
}

#[test]
fn limits_reject_neither_signals_nor_requested_messages() {
    let mut world = World::new();
    let [server, watched] = world.puppets();
    let to = world.puppet_with(few(1));
    let reference = world.request(to, server, 0);
    let monitor = world.monitor(to, watched);
    world.trap(to);
    world.send(server, to, 1).expect("accepted");
    assert_eq!(world.send(server, to, 2), Err(SendError::Full));
    assert_eq!(
        world.with(server, |process, system| {
            let reference = process.new_reference();
            process.request(system, to, reference, 2, Payload::empty())
        }),
        Err(SendError::Full)
    );

    let request = world.inbox(server).remove(0);
    world.reply(server, &request, 3);
    world.link(watched, to);
    world.exit(watched, FAILED);
    world.run();
    let inbox = world.with(to, |process, _| {
        (0..process.inbox_len())
            .map(|at| process.peek(at).cloned().expect("it is there"))
            .map(|message| (message.kind, message.reference))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        inbox,
        [
            (Kind::Message, 0),
            (Kind::Reply, reference),
            (Kind::Exit, 0),
            (Kind::Down, monitor)
        ]
    );
    // No record is left of a refused request.
    assert_eq!(world.relations(server), (0, 0, 0));
    world.kill(server, to);
    world.run();
    assert_eq!(world.end_of(to), Some(Reason::KILLED.0));
}

#[test]
fn exit_and_down_messages_take_no_capacity_from_messages() {
    let mut world = World::new();
    let to = world.puppet_with(few(2));
    for _ in 0..4 {
        let watched = world.puppet();
        world.monitor(to, watched);
        world.run();
        world.exit(watched, FAILED);
    }
    assert_eq!(world.send(Pid::NONE, to, 1), Ok(()));
    world.run();
    assert_eq!(world.send(Pid::NONE, to, 2), Ok(()));
    assert_eq!(world.send(Pid::NONE, to, 3), Err(SendError::Full));
    assert_eq!(world.inbox(to).len(), 6);
}

#[test]
fn signals_in_transit_take_no_capacity_from_messages() {
    let mut world = World::new();
    let [from, _] = world.puppets::<2>();
    let to = world.puppet_with(few(1));
    for _ in 0..5 {
        world.monitor(from, to);
    }
    assert_eq!(world.send(from, to, 1), Ok(()));
    assert_eq!(world.send(from, to, 2), Err(SendError::Full));
}

#[test]
fn changed_limits_apply_at_once() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    world.send(from, to, 1).expect("accepted");
    world.with(to, |process, system| {
        process.set_limits(system, few(1).into())
    });
    assert_eq!(world.send(from, to, 2), Err(SendError::Full));
    world.with(to, |process, system| {
        process.set_limits(system, few(2).into())
    });
    assert_eq!(world.send(from, to, 3), Ok(()));
    assert_eq!(tags(&world.inbox(to)), [1, 3]);
}

#[test]
fn a_childs_limits_are_never_above_its_parents() {
    let parent = Limits {
        memory: 100,
        mailbox_messages: 10,
        mailbox_bytes: 1000,
        message_bytes: 50,
        children: 3,
        tables: 70,
        priority: Priority::Normal,
        files: 5,
        ..Limits::default()
    };
    assert_eq!(Limits::default().at_most(&parent), parent);
    let asked = Limits {
        memory: 60,
        mailbox_messages: 20,
        mailbox_bytes: 600,
        message_bytes: 80,
        children: 1,
        tables: 80,
        priority: Priority::High,
        files: 6,
        ..Limits::default()
    };
    let expected = Limits {
        memory: 60,
        mailbox_messages: 10,
        mailbox_bytes: 600,
        message_bytes: 50,
        children: 1,
        tables: 70,
        priority: Priority::Normal,
        files: 5,
        ..Limits::default()
    };
    assert_eq!(asked.clone().at_most(&parent), expected);
    assert_eq!(expected.clone().at_most(&parent), expected);
}

// ---- generations ----------------------------------------------------------

#[test]
fn messages_for_the_old_pid_do_not_reach_the_new_process_of_the_slot() {
    let mut world = World::new();
    let [from, old] = world.puppets();
    world.send(from, old, 1).expect("accepted");
    world.exit(old, Reason::NORMAL);
    let new = world.successor(old);
    assert_ne!(new, old);
    assert!(!world.is_alive(old));
    assert_eq!(world.system.pid(old.slot()), Some(new));

    assert_eq!(world.send(from, old, 2), Err(SendError::Dead));
    world.kill(from, old);
    world.exit_signal(from, old, FAILED);
    let control = |_: &mut _, _: &_| panic!("not for this process");
    assert!(world.system.control(old, control).is_err());
    world.system.wake(old);
    assert_eq!(world.scheduled(), 0);

    world.send(from, new, 3).expect("accepted");
    assert_eq!(tags(&world.inbox(new)), [3]);
}

#[test]
fn a_slot_serves_many_generations() {
    let mut world = World::new();
    let mut last = world.puppet();
    let from = world.puppet();
    for _ in 0..100 {
        world.send(from, last, 1).expect("accepted");
        world.exit(last, Reason::NORMAL);
        let next = world.successor(last);
        assert_eq!(next.generation(), last.generation() + 1);
        assert_eq!(world.send(from, last, 2), Err(SendError::Dead));
        assert!(world.inbox(next).is_empty());
        last = next;
    }
    assert_eq!(world.system.table.alive(), 2);
}

#[test]
fn pids_of_other_nodes_and_unused_slots_are_unknown() {
    let world = World::new();
    let unused = Pid::new(world.system.node(), 40_000, 0);
    for pid in [Pid::NONE, Pid::new(99, 0, 0), unused] {
        assert_eq!(world.send(Pid::NONE, pid, 1), Err(SendError::Unknown));
        assert!(!world.is_alive(pid));
    }
}

#[test]
fn a_control_runs_at_the_beginning_of_a_turn_and_in_order() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    let seen = Arc::new(Mutex::new(None));
    world.send(from, to, 1).expect("accepted");
    let result = seen.clone();
    let control = move |process: &mut Process<()>, _: &_| {
        *result.lock().expect("no test panics with it") = Some(process.inbox_len());
    };
    world.system.control(to, control).expect("it lives");
    world.send(from, to, 2).expect("accepted");
    world.run();
    assert_eq!(*seen.lock().expect("no test panics with it"), Some(1));
}

/// If a process takes over signals in the middle of a handler, a control among them waits until no
/// code of the process runs. It hides nothing from that code: a message behind it is there, and no
/// backlog is pending, for which a `receive` without a timeout would suspend the process.
#[test]
fn a_control_does_not_run_in_the_middle_of_a_turn_and_hides_no_message() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = |world: &World| {
        let result = seen.clone();
        let control = move |process: &mut Process<()>, _: &_| {
            let mut seen = result.lock().expect("no test panics with it");
            seen.push(process.inbox_len());
        };
        world.system.control(to, control).expect("it lives");
    };
    let mut running = world.take_own(to);
    world.send(from, to, 1).expect("accepted");
    log(&world);
    world.send(from, to, 2).expect("accepted");
    for _ in 0..3 {
        assert!(running.drain_new_signals(&world.system).is_none());
        assert_eq!(running.inbox_len(), 2);
        assert!(running.has_pending_signals() && !running.has_backlog());
    }
    log(&world);
    world.send(from, to, 3).expect("accepted");
    for _ in 0..3 {
        assert!(running.drain_new_signals(&world.system).is_none());
        assert_eq!(running.inbox_len(), 3);
    }
    log(&world);
    assert!(seen.lock().expect("no test panics with it").is_empty());
    world.send(from, to, 4).expect("accepted");
    world.put_own(running);
    world.run();
    // The last control was not taken over in the middle of the turn: it is before message 4.
    assert_eq!(*seen.lock().expect("no test panics with it"), [3, 3, 3]);
    assert_eq!(tags(&world.inbox(to)), [1, 2, 3, 4]);
}

#[test]
fn a_control_for_a_process_that_terminates_first_is_dropped() {
    let mut world = World::new();
    let to = world.puppet();
    let guard = Arc::new(());
    let held = guard.clone();
    let running = world.take_own(to);
    let control = move |_: &mut _, _: &_| panic!("it runs on nothing: {held:?}");
    world.system.control(to, control).expect("it lives");
    world.put_own(running);
    world.exit(to, Reason::NORMAL);
    assert_eq!(Arc::strong_count(&guard), 1);
}

#[test]
fn trimming_loses_nothing() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    world.send(from, to, 1).expect("accepted");
    world.run();
    world.send(from, to, 2).expect("accepted");
    world.with(to, |process, system| process.trim(system));
    assert_eq!(tags(&world.inbox(to)), [1, 2]);
    world.with(to, |process, system| process.trim(system));
    world.send(from, to, 3).expect("accepted");
    assert_eq!(tags(&world.inbox(to)), [3]);
}

/// Senders of signals that no limit counts must wait, so that these do not accumulate at a process
/// that does not run.
#[test]
fn a_send_to_a_congested_process_reports_it() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    let slept = world.take_own(to);
    let mut links = 0;
    while !world.system.is_congested(to) {
        assert!(links < 100_000, "it is never congested");
        assert!(!world.with(from, |process, _| process.take_backpressure()));
        world.link(from, to);
        world.unlink(from, to);
        links += 1;
    }
    assert!(world.with(from, |process, _| process.take_backpressure()));
    assert!(!world.with(from, |process, _| process.take_backpressure()));
    // Nothing was lost, and when it has taken these over it is not congested any more.
    world.put_own(slept);
    world.run();
    assert!(!world.system.is_congested(to));
    assert_eq!(world.relations(from), (0, 0, 0));
    assert_eq!(world.relations(to), (0, 0, 0));
    world.link(from, to);
    assert!(!world.with(from, |process, _| process.take_backpressure()));
    // Payloads have more weight.
    let slept = world.take_own(to);
    let large = Payload::new(&[0; 16 << 20]);
    world.with(from, |process, system| {
        process.reply(system, to, 1, 0, large)
    });
    assert!(world.with(from, |process, _| process.take_backpressure()));
    world.put_own(slept);
    // Messages have their own limits.
    world.run();
    for tag in 0..50_000 {
        world.send(from, to, tag).expect("it is accepted");
    }
    assert!(!world.system.is_congested(to));
    // A dead process is not waited for.
    world.exit(to, Reason::NORMAL);
    assert!(!world.system.is_congested(to));
}

#[test]
fn a_process_that_does_not_take_its_exit_messages_loses_its_links() {
    let mut world = World::new();
    let [from, to] = world.puppets();
    world.trap(to);
    let exits = |world: &mut World, count| {
        for _ in 0..count {
            let exit = Signal::Exit {
                from,
                reason: ExitReason::with(FAILED.0, b"why"),
                linked: false,
            };
            world.system.signal(to, exit).expect("it lives");
        }
        world.run();
    };
    exits(&mut world, 1_001);
    // The first 1,000 have the details, the others do not.
    let lengths: Vec<_> = world.examine(to, |process| {
        (0..1_001)
            .filter_map(|at| process.peek(at))
            .map(|m| (m.reason, m.payload.len()))
            .collect()
    });
    assert!(lengths[..1_000].iter().all(|m| *m == (FAILED.0, 3)));
    assert_eq!(lengths[1_000..], [(FAILED.0, 0)]);
    exits(&mut world, limits::LINKS - 1_002);
    assert!(world.system.may_be_linked(to));
    exits(&mut world, 1);
    assert!(!world.system.may_be_linked(to));
    assert!(world.system.may_be_linked(from));
    world.with(to, |process, system| {
        process.take(0);
        process.publish_stats(system);
    });
    assert!(world.system.may_be_linked(to));
    // Messages do not count: they have their own limit.
    world.send(from, to, 1).expect("it is accepted");
    world.run();
    assert!(world.system.may_be_linked(to));
}
