//! Spawning: relations from the first moment, starts, reserved pids, limits; and termination.

use std::sync::Arc;

use exuvia_process::{
    Body, ExitReason, Kind, Limits, Payload, Pid, Reason, Requester, RunState, SpawnError,
    SpawnSpec,
};

use crate::world::{FAILED, PROCESSES, World, code, facts, tags};

/// Spawns a child of `parent`, as a host call would.
fn child(
    world: &mut World,
    parent: Pid,
    link: bool,
    monitor: bool,
    start: bool,
) -> (Pid, u64, u64) {
    world.with(parent, |process, system| {
        let monitored = process.new_reference();
        let started = process.new_reference();
        let spec = SpawnSpec {
            parent,
            link,
            monitor: monitor.then_some(monitored),
            starter: start.then_some(started),
            counted: process.children().admit(u32::MAX),
            ..SpawnSpec::new(Body::Guest(()), process.limits().clone(), Payload::empty())
        };
        let pid = system.spawn(spec).expect("the table has a free slot");
        let references: Vec<u64> = (monitor.then_some(monitored))
            .into_iter()
            .chain(start.then_some(started))
            .collect();
        process.add_child(pid, link, &references);
        (pid, monitored, started)
    })
}

#[test]
fn a_child_is_linked_from_the_first_moment() {
    let mut world = World::new();
    let parent = world.puppet();
    world.trap(parent);
    let (pid, ..) = child(&mut world, parent, true, false, false);
    // It terminates before it has run.
    world.exit(pid, FAILED);
    let exit = (Kind::Exit, pid, 0, FAILED.0);
    assert_eq!(facts(&world.inbox(parent)), [exit]);

    let (pid, ..) = child(&mut world, parent, true, false, false);
    world.exit(parent, FAILED);
    world.run();
    assert_eq!(world.end_of(pid), Some(FAILED.0));
}

#[test]
fn a_child_without_a_link_continues() {
    let mut world = World::new();
    let parent = world.puppet();
    let (pid, ..) = child(&mut world, parent, false, true, false);
    world.exit(parent, FAILED);
    world.run();
    assert!(world.is_alive(pid));
    assert_eq!(world.relations(pid), (0, 0, 0));
}

#[test]
fn a_child_is_monitored_from_the_first_moment() {
    let mut world = World::new();
    let parent = world.puppet();
    let (pid, monitored, _) = child(&mut world, parent, false, true, false);
    world.exit(pid, Reason::NORMAL);
    let down = (Kind::Down, pid, monitored, Reason::NORMAL.0);
    assert_eq!(facts(&world.inbox(parent)), [down]);
}

#[test]
fn children_are_counted_until_they_end() {
    let mut world = World::new();
    let parent = world.puppet();
    let count = world.with(parent, |process, _| process.children());
    let (first, ..) = child(&mut world, parent, true, true, true);
    let (second, ..) = child(&mut world, parent, false, false, false);
    assert_eq!(count.alive(), 2);
    world.exit(first, Reason::NORMAL);
    assert_eq!(count.alive(), 1);
    world.kill(parent, second);
    world.run();
    assert_eq!(count.alive(), 0);
    // The counters may outlive the parent.
    let (third, ..) = child(&mut world, parent, false, false, false);
    world.exit(parent, Reason::NORMAL);
    assert_eq!(count.alive(), 1);
    world.exit(third, Reason::NORMAL);
    assert_eq!(count.alive(), 0);
}

// ---- starts ---------------------------------------------------------------

#[test]
fn a_start_is_acknowledged_once() {
    let mut world = World::new();
    let parent = world.puppet();
    let (pid, _, started) = child(&mut world, parent, false, false, true);
    let init = world.inbox(pid).remove(0);
    assert_eq!((init.kind, init.sender), (Kind::Init, parent));
    let acknowledge = |world: &mut World, status| {
        world.with(pid, |process, system| {
            assert_eq!(process.is_starting(), status == 0);
            process.acknowledge(system, status, Payload::new(b"ready"))
        })
    };
    assert!(acknowledge(&mut world, 0));
    assert!(!acknowledge(&mut world, 300));
    let answers = world.inbox(parent);
    assert_eq!(facts(&answers), [(Kind::Reply, pid, started, 0)]);
    assert_eq!(tags(&answers), [0]);
    assert_eq!(answers[0].payload.as_slice(), b"ready");
    world.exit(pid, FAILED);
    assert!(world.inbox(parent).is_empty(), "the start was answered");
}

#[test]
fn a_child_that_ends_before_it_acknowledges_gives_a_down() {
    let mut world = World::new();
    let parent = world.puppet();
    let (pid, monitored, started) = child(&mut world, parent, false, true, true);
    world.run();
    world.exit(pid, FAILED);
    let mut downs = facts(&world.inbox(parent));
    downs.sort_by_key(|(_, _, reference, _)| *reference != monitored);
    assert_eq!(
        downs,
        [
            (Kind::Down, pid, monitored, FAILED.0),
            (Kind::Down, pid, started, FAILED.0)
        ]
    );
    assert_eq!(world.relations(parent), (0, 0, 0));
}

#[test]
fn an_acknowledgement_passes_a_full_mailbox() {
    let mut world = World::new();
    let parent = world.puppet_with(Limits {
        mailbox_messages: 1,
        ..Limits::default()
    });
    let (pid, _, started) = child(&mut world, parent, false, false, true);
    world.send(pid, parent, 1).expect("accepted");
    assert!(world.send(pid, parent, 2).is_err());
    assert!(world.with(pid, |process, system| process.acknowledge(
        system,
        0,
        Payload::empty()
    )));
    assert_eq!(
        facts(&world.inbox(parent))[1],
        (Kind::Reply, pid, started, 0)
    );
}

#[test]
fn a_starter_that_gave_up_gets_nothing() {
    let mut world = World::new();
    let parent = world.puppet();
    let (pid, _, started) = child(&mut world, parent, false, false, true);
    world.demonitor(parent, started, true);
    assert!(world.with(pid, |process, system| process.acknowledge(
        system,
        0,
        Payload::empty()
    )));
    world.exit(pid, FAILED);
    assert!(world.inbox(parent).is_empty());
}

/// No process waits for it, but the process has not started before it acknowledges.
#[test]
fn a_start_without_a_waiting_starter_is_acknowledged_once_too() {
    let mut world = World::new();
    let parent = world.puppet();
    let (plain, ..) = child(&mut world, parent, false, false, false);
    let orphan = world.puppet();
    for pid in [plain, orphan] {
        let mut acknowledge = || {
            world.with(pid, |process, system| {
                process.acknowledge(system, 0, Payload::empty())
            })
        };
        assert!(acknowledge());
        assert!(!acknowledge());
        assert!(!world.examine(pid, exuvia_process::Process::is_starting));
    }
    assert!(world.inbox(parent).is_empty());
    // An orphan without relations keeps no record of any.
    assert_eq!(world.relations(orphan), (0, 0, 0));
}

// ---- reserved pids --------------------------------------------------------

#[test]
fn signals_collect_at_a_reserved_pid() {
    let mut world = World::new();
    let [from, watcher] = world.puppets();
    let limits = Arc::new(Limits::default());
    let pid = world
        .system
        .reserve(&limits)
        .expect("the table has a free slot");
    assert!(world.is_alive(pid));
    world.send(from, pid, 1).expect("accepted");
    let reference = world.monitor(watcher, pid);
    world.run();
    let slot = world.system.table.slot(pid.slot()).expect("it is used");
    assert_eq!(slot.state.get(), RunState::Running);
    assert!(!slot.state.claim(), "a reserved process cannot be claimed");
    let spec = SpawnSpec::new(Body::Guest(()), limits, Payload::empty());
    world.system.start(pid, spec);
    let inbox = world.inbox(pid);
    assert_eq!(inbox[0].kind, Kind::Init);
    assert_eq!(tags(&inbox), [0, 1]);
    world.exit(pid, FAILED);
    let down = (Kind::Down, pid, reference, FAILED.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
}

#[test]
fn an_abandoned_reserved_pid_counts_as_ended() {
    let mut world = World::new();
    let [client, trapping] = world.puppets();
    world.trap(trapping);
    let limits = Arc::new(Limits::default());
    let pid = world
        .system
        .reserve(&limits)
        .expect("the table has a free slot");
    let monitor = world.monitor(client, pid);
    let request = world.request(client, pid, 1);
    world.link(trapping, pid);
    world.system.abandon(pid);
    assert!(!world.is_alive(pid));
    let noproc = Reason::NOPROC.0;
    assert_eq!(
        facts(&world.inbox(client)),
        [
            (Kind::Down, pid, monitor, noproc),
            (Kind::Down, pid, request, noproc)
        ]
    );
    assert_eq!(
        facts(&world.inbox(trapping)),
        [(Kind::Exit, pid, 0, noproc)]
    );
    // The slot is reused, and abandoning the old pid again does not affect the new process.
    let new = world.successor(pid);
    world.system.abandon(pid);
    assert!(world.is_alive(new));
}

#[test]
fn a_kill_waits_for_a_reserved_process() {
    let mut world = World::new();
    let limits = Arc::new(Limits::default());
    let pid = world
        .system
        .reserve(&limits)
        .expect("the table has a free slot");
    world.kill(Pid::NONE, pid);
    let spec = world.spec(code(|_, _| panic!("it is dead before its INIT")));
    world.system.start(pid, spec);
    world.run();
    assert_eq!(world.end_of(pid), Some(Reason::KILLED.0));
}

#[test]
fn guests_leave_some_slots_to_the_host() {
    let world = World::new();
    let limits = Arc::new(Limits::default());
    let guests = std::iter::from_fn(|| world.system.reserve_for(Requester::Guest, &limits).ok());
    let most = world.system.table.limit_of_guests();
    assert!(most < PROCESSES);
    assert_eq!(guests.count(), most);
    let hosts = std::iter::from_fn(|| world.system.reserve(&limits).ok());
    assert_eq!(hosts.count(), PROCESSES - most);
}

#[test]
fn guests_start_nothing_while_the_node_stops() {
    let world = World::new();
    let limits = Arc::new(Limits::default());
    let guest = || world.system.reserve_for(Requester::Guest, &limits);
    assert!(guest().is_ok());
    world.system.table.close_to_guests();
    assert_eq!(guest(), Err(SpawnError::TableFull));
    assert!(world.system.reserve(&limits).is_ok());
    let restart = || world.system.reserve_for(Requester::Restart, &limits);
    assert!(
        restart().is_ok(),
        "a supervisor that runs restarts its children"
    );
    // Restarts leave slots to the host, as other processes of guests do.
    let most = world.system.table.limit_of_guests();
    while restart().is_ok() {}
    assert_eq!(world.system.table.alive(), most);
}

#[test]
fn the_number_of_guests_is_bounded_by_memory() {
    let mut world = World::new();
    let old = world.puppet();
    world.system.table.admit_by(|| false);
    let limits = Arc::new(Limits::default());
    let full = Err(SpawnError::TableFull);
    assert_eq!(world.system.reserve_for(Requester::Guest, &limits), full);
    let hosts = world.system.reserve(&limits).expect("the host may");
    world.system.abandon(hosts);
    world.exit(old, Reason::NORMAL);
    // As many as there were before are possible again.
    assert!(world.system.reserve_for(Requester::Guest, &limits).is_ok());
    assert!(world.system.reserve_for(Requester::Guest, &limits).is_ok());
    assert_eq!(world.system.reserve_for(Requester::Guest, &limits), full);
}

// ---- termination ----------------------------------------------------------

#[test]
fn a_full_table_rejects_until_a_process_ends() {
    let mut world = World::new();
    let all: Vec<Pid> = (0..PROCESSES).map(|_| world.puppet()).collect();
    let spec = world.spec(Body::Guest(()));
    assert_eq!(world.system.spawn(spec), Err(SpawnError::TableFull));
    assert_eq!(world.system.table.alive(), PROCESSES);
    world.exit(all[5], Reason::NORMAL);
    let new = world.puppet();
    assert_eq!(new.slot(), all[5].slot());
}

#[test]
fn a_native_process_ends_with_its_reason_after_its_handler() {
    let mut world = World::new();
    let watcher = world.puppet();
    let pid = world.native(move |context, message| {
        if message.kind == Kind::Message {
            context.exit(ExitReason::new(FAILED));
            // Still in its handler: this is sent, before the exit.
            let note = exuvia_process::Envelope::message(context.pid(), 7, Payload::empty());
            let _ = context.system.send(watcher, note);
            context.exit(ExitReason::new(Reason::NORMAL));
        }
    });
    let reference = world.monitor(watcher, pid);
    world.send(watcher, pid, 1).expect("accepted");
    world.send(watcher, pid, 2).expect("accepted");
    world.run();
    assert_eq!(world.end_of(pid), Some(FAILED.0));
    assert_eq!(
        facts(&world.inbox(watcher)),
        [
            (Kind::Message, pid, 0, 0),
            (Kind::Down, pid, reference, FAILED.0)
        ]
    );
}

#[test]
fn a_process_that_has_ended_stays_ended_for_its_runner() {
    let mut world = World::new();
    let [watcher, victim] = world.puppets();
    world.kill(watcher, victim);
    let reference = world.monitor(watcher, victim);
    let mut process = world.take_own(victim);
    let killed = Some(ExitReason::new(Reason::KILLED));
    assert_eq!(process.drain(&world.system), killed);
    world.send(watcher, victim, 1).expect("it is not buried");
    process.trim(&world.system);
    assert_eq!(
        process.drain(&world.system),
        killed,
        "also when it looks again"
    );
    let _ = world
        .system
        .terminate(process, &ExitReason::new(Reason::KILLED));
    let down = (Kind::Down, victim, reference, Reason::NOPROC.0);
    assert_eq!(facts(&world.inbox(watcher)), [down]);
}
