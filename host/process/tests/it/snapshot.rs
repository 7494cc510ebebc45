//! Capturing processes and restoring them: on a new node, and on the node where they were.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
    assert!(world.look(linked, |process| process.is_linked(pid)));
    assert!(world.look(pid, |process| process.is_linked(linked)));
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

type Once = Box<dyn FnOnce(&System<()>) + Send>;

/// Acts once, at the moment when a process is scheduled: in the middle of what schedules it.
#[derive(Default)]
struct WhenScheduled {
    system: Weak<System<()>>,
    act: Mutex<Option<Once>>,
}

impl WhenScheduled {
    /// Returns a node, and what acts in it. The test runs its processes.
    fn new() -> (Arc<System<()>>, Arc<WhenScheduled>) {
        let mut hook = None;
        let system = Arc::new_cyclic(|system| {
            hook = Some(Arc::new(WhenScheduled {
                system: system.clone(),
                ..WhenScheduled::default()
            }));
            System::new(7, PROCESSES, 1, Clock::manual())
        });
        let hook = hook.expect("it was made");
        system.connect(hook.clone());
        (system, hook)
    }

    /// Acts the next time. What it returns will be there.
    fn act<R: Send + 'static>(
        &self,
        act: impl FnOnce(&System<()>) -> R + Send + 'static,
    ) -> Arc<Mutex<Option<R>>> {
        let result = Arc::new(Mutex::new(None));
        let there = result.clone();
        let act = Box::new(move |system: &System<()>| {
            *there.lock().unwrap() = Some(act(system));
        });
        *self.act.lock().unwrap() = Some(act);
        result
    }
}

impl Schedule for WhenScheduled {
    fn schedule(&self, _: u32) {
        let act = self.act.lock().unwrap().take();
        if let (Some(act), Some(system)) = (act, self.system.upgrade()) {
            act(&system);
        }
    }
}

fn spec() -> SpawnSpec<()> {
    SpawnSpec::new(Body::Guest(()), Limits::default().into(), Payload::empty())
}

/// Takes the private half of a process that is scheduled.
fn take_scheduled(system: &System<()>, pid: Pid) -> Box<Process<()>> {
    let slot = system.table.slot(pid.slot()).unwrap();
    assert!(slot.state.transition_to_running());
    slot.take_process().unwrap()
}

/// Lets a process rest.
fn put_idle(system: &System<()>, process: Box<Process<()>>) {
    let slot = system.table.slot(process.pid().slot()).unwrap();
    slot.put_process(process);
    let _ = slot.state.transition_to_idle();
}

#[test]
fn a_process_is_not_restored_before_all_are_notified_of_its_exit() {
    let (system, hook) = WhenScheduled::new();
    let parent = system.spawn(spec()).unwrap();
    let child = SpawnSpec {
        parent,
        link: true,
        ..spec()
    };
    let child = system.spawn(child).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let mut child = take_scheduled(&system, child);
    let snapshot = child.capture(&system, guest).expect("it is at rest");
    // The parent is scheduled by the first notification.
    let again = snapshot.clone();
    let result = hook.act(move |system| system.restore(&again, ()));
    let _ = system.terminate(child, &ExitReason::new(FAILED));
    let ending = Some(Err(RestoreError::Ending));
    assert_eq!(*result.lock().unwrap(), ending);
    assert_eq!(system.restore(&snapshot, ()), Ok(snapshot.pid));

    // The same holds for a reserved pid that is given up.
    let pid = system.reserve(&Limits::default().into()).unwrap();
    put_idle(&system, take_scheduled(&system, parent));
    let monitor = Signal::Monitor {
        from: parent,
        reference: 5,
    };
    system.signal(pid, monitor).unwrap();
    let reserved = ProcessSnapshot { pid, ..snapshot };
    let again = reserved.clone();
    let result = hook.act(move |system| system.restore(&again, ()));
    system.abandon(pid);
    assert_eq!(*result.lock().unwrap(), ending);
    assert_eq!(system.restore(&reserved, ()), Ok(pid));
}

#[test]
fn a_process_is_not_restored_while_it_notifies_many_in_parts() {
    let mut world = World::in_parts_of(2);
    let pid = world.puppet();
    for peer in world.puppets::<5>() {
        world.link(peer, pid);
        world.trap(peer);
    }
    world.run();
    let snapshot = capture(&mut world, pid);
    world.exit(pid, FAILED);
    assert!(!world.is_alive(pid));
    let ending = Err(RestoreError::Ending);
    assert_eq!(world.system.restore(&snapshot, ()), ending);
    world.run();
    restore(&world, &snapshot);
    assert_eq!(world.relations(pid), (5, 0, 0));
}

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

#[test]
fn no_pid_comes_again_on_a_node_that_a_set_of_processes_is_restored_on() {
    let mut old = World::new();
    let pids = old.puppets::<4>();
    let mut used = pids.to_vec();
    // A slot that has had many processes is not in the set.
    old.exit(pids[1], Reason::NORMAL);
    for _ in 0..3 {
        let next = old.successor(pids[1]);
        used.push(next);
        old.exit(next, Reason::NORMAL);
    }
    let set = [0, 3].map(|at| (capture(&mut old, pids[at]), ()));
    let least = old.system.table.next_generation();
    let mut world = World::new();
    world.system.table.raise_generations(least);
    for result in world.system.restore_all(set.clone()) {
        assert!(result.is_ok(), "{result:?}");
    }
    assert_eq!(world.system.table.next_generation(), least);
    world.exit(pids[0], Reason::NORMAL);
    for _ in 0..PROCESSES - 1 {
        let pid = world.puppet();
        assert!(!used.contains(&pid), "{pid}");
    }
    // Those of the set may come again, as before.
    let [_, (last, ())] = set;
    world.exit(last.pid, Reason::NORMAL);
    restore(&world, &last);
}

/// Spawns a child with long arguments, which counts.
fn spawn_counted(world: &mut World, parent: Pid, limits: &Limits) -> Pid {
    world.with(parent, |process, system| {
        let spec = SpawnSpec {
            parent: process.pid(),
            counted: process.children().admit(9),
            charge: process.charge_arguments(system, 2_000),
            limits: limits.clone().into(),
            ..SpawnSpec::new(
                Body::Guest(()),
                process.limits().clone(),
                Payload::new(&[1; 2_000]),
            )
        };
        assert!(spec.counted.is_some() && spec.charge.is_some());
        system.spawn(spec).expect("there is a slot")
    })
}

#[test]
fn counts_and_charges_of_a_set_hold_from_the_first_turn_on() {
    let mut old = World::new();
    let limits = Limits {
        descendants: 2,
        mailbox_bytes: 3_000,
        ..Limits::default()
    };
    let parent = old.puppet_with(limits.clone());
    let child = spawn_counted(&mut old, parent, &limits);
    let grandchild = spawn_counted(&mut old, child, &limits);
    old.run();
    // In any order.
    let set = [grandchild, parent, child].map(|pid| (capture(&mut old, pid), ()));
    let mut world = World::new();
    let restored = world.system.restore_all(set);
    assert_eq!(restored, [Ok(grandchild), Ok(parent), Ok(child)]);
    for (pid, children) in [(parent, 1), (child, 1), (grandchild, 0)] {
        world.with(pid, |process, system| {
            assert_eq!(process.children().alive(), children, "{pid}");
            // The limit on descendants of the topmost one is reached.
            assert!(process.children().admit(9).is_none());
            let charge = process.charge_arguments(system, 2_000);
            assert_eq!(charge.is_some(), children == 0, "{pid}");
        });
    }
    world.exit(grandchild, Reason::NORMAL);
    world.with(child, |process, system| {
        assert!(process.children().admit(9).is_some());
        assert!(process.charge_arguments(system, 2_000).is_some());
    });
}

#[test]
fn a_parent_that_lives_is_charged_for_the_arguments_of_a_restored_child() {
    let mut world = World::new();
    let limits = Limits {
        mailbox_bytes: 3_000,
        ..Limits::default()
    };
    let parent = world.puppet_with(limits.clone());
    let child = spawn_counted(&mut world, parent, &limits);
    world.run();
    let snapshot = capture(&mut world, child);
    let is_charged = |world: &mut World| {
        world.with(parent, |process, system| {
            process.charge_arguments(system, 2_000).is_none()
        })
    };
    world.exit(child, Reason::NORMAL);
    assert!(!is_charged(&mut world));
    restore(&world, &snapshot);
    world.run();
    assert!(is_charged(&mut world));
    world.exit(child, Reason::NORMAL);
    assert!(!is_charged(&mut world));
}

#[test]
fn a_restored_child_counts_among_its_parents_children_again() {
    let mut world = World::new();
    let parent = world.puppet();
    let child = world.with(parent, |process, system| {
        let spec = SpawnSpec {
            parent: process.pid(),
            counted: process.children().admit(9),
            ..SpawnSpec::new(
                exuvia_process::Body::Guest(()),
                process.limits().clone(),
                Payload::new(b"arguments"),
            )
        };
        system.spawn(spec).expect("there is a slot")
    });
    world.run();
    let snapshot = capture(&mut world, child);
    assert_eq!(snapshot.inbox[0].payload.as_slice(), b"arguments");
    let count = |world: &mut World| world.with(parent, |process, _| process.children().alive());
    assert_eq!(count(&mut world), 1);
    world.exit(child, Reason::NORMAL);
    assert_eq!(count(&mut world), 0);
    restore(&world, &snapshot);
    world.run();
    assert_eq!(count(&mut world), 1);
    let again = capture(&mut world, child);
    assert_eq!(again, snapshot);
    world.exit(child, Reason::NORMAL);
    assert_eq!(count(&mut world), 0);
}

// ---- against a model -----------------------------------------------------------

#[derive(Clone, Debug)]
enum Act {
    Send(usize, usize, u32),
    Link(usize, usize),
    Unlink(usize, usize),
    Monitor(usize, usize),
    Demonitor(usize, usize),
    Request(usize, usize),
    Receive(usize),
    Reply(usize),
    Timer(usize, usize, u64),
    Advance(u64),
    Name(usize, u8),
    Join(usize, u8),
    Trap(usize),
    Exit(usize),
    /// The processes take their turns.
    Run,
}

const MANY: usize = 5;

fn act() -> impl Strategy<Value = Act> {
    let (a, b) = (0..MANY, 0..MANY);
    let two = (a.clone(), b);
    prop_oneof![
        4 => (two.clone(), any::<u32>()).prop_map(|((a, b), tag)| Act::Send(a, b, tag)),
        3 => two.clone().prop_map(|(a, b)| Act::Link(a, b)),
        1 => two.clone().prop_map(|(a, b)| Act::Unlink(a, b)),
        2 => two.clone().prop_map(|(a, b)| Act::Monitor(a, b)),
        1 => (a.clone(), any::<usize>()).prop_map(|(a, at)| Act::Demonitor(a, at)),
        3 => two.clone().prop_map(|(a, b)| Act::Request(a, b)),
        2 => a.clone().prop_map(Act::Receive),
        2 => a.clone().prop_map(Act::Reply),
        2 => (two, 1..9u64).prop_map(|((a, b), delay)| Act::Timer(a, b, delay)),
        1 => (1..4u64).prop_map(Act::Advance),
        1 => (a.clone(), 0..4u8).prop_map(|(a, name)| Act::Name(a, name)),
        1 => (a.clone(), 0..3u8).prop_map(|(a, name)| Act::Join(a, name)),
        1 => a.clone().prop_map(Act::Trap),
        1 => a.prop_map(Act::Exit),
        2 => Just(Act::Run),
    ]
}

/// The node and its processes; those that have ended do nothing.
struct Story {
    world: World,
    pids: [Pid; MANY],
    /// The references that each process has monitors under.
    monitors: Vec<(usize, u64)>,
}

impl Story {
    fn pid(&self, at: usize) -> Option<Pid> {
        Some(self.pids[at]).filter(|pid| self.world.is_alive(*pid))
    }

    fn act(&mut self, act: &Act) -> Option<()> {
        match *act {
            Act::Send(from, to, tag) => {
                let (from, to) = (self.pid(from)?, self.pid(to)?);
                self.world.send(from, to, tag).expect("accepted");
            }
            Act::Link(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.link(a, b);
            }
            Act::Unlink(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.unlink(a, b);
            }
            Act::Monitor(a, b) => {
                let (from, to) = (self.pid(a)?, self.pid(b)?);
                let reference = self.world.monitor(from, to);
                self.monitors.push((a, reference));
            }
            Act::Demonitor(a, at) => {
                let pid = self.pid(a)?;
                let mine: Vec<_> = self.monitors.iter().filter(|(by, _)| *by == a).collect();
                let (_, reference) = **mine.get(at % mine.len().max(1))?;
                self.world.demonitor(pid, reference, true);
            }
            Act::Request(a, b) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                self.world.request(a, b, 50);
            }
            Act::Receive(a) => {
                let pid = self.pid(a)?;
                self.world.with(pid, |process, _| process.take(0));
            }
            Act::Reply(a) => {
                let pid = self.pid(a)?;
                let taken = self.world.with(pid, |process, _| {
                    let at = (0..process.inbox_len())
                        .find(|at| process.peek(*at).is_some_and(|m| m.kind == Kind::Request))?;
                    process.take(at)
                });
                self.world.reply(pid, &taken?, 51);
            }
            Act::Timer(a, b, delay) => {
                let (a, b) = (self.pid(a)?, self.pid(b)?);
                set_timer(&mut self.world, a, b, delay * MS, 60);
            }
            Act::Advance(time) => {
                self.world.system.clock.advance(time * MS);
                self.world.system.fire_timers(0);
            }
            Act::Name(a, name) => {
                let pid = self.pid(a)?;
                let _ = self.world.system.register(&format!("name {name}"), pid);
            }
            Act::Join(a, name) => {
                let pid = self.pid(a)?;
                let _ = self.world.system.join(&format!("group {name}"), pid);
            }
            Act::Trap(a) => {
                let pid = self.pid(a)?;
                self.world.trap(pid);
            }
            Act::Exit(a) => {
                let pid = self.pid(a)?;
                self.world.exit(pid, FAILED);
            }
            Act::Run => self.world.run(),
        }
        Some(())
    }

    /// Captures all processes when nothing is in transit any more.
    fn capture(&mut self) -> Vec<ProcessSnapshot> {
        self.world.run();
        let living: Vec<Pid> = (0..MANY).filter_map(|at| self.pid(at)).collect();
        living
            .into_iter()
            .map(|pid| capture(&mut self.world, pid))
            .collect()
    }

    /// Captures all processes on their way to rest: what the capture of one sends to another that
    /// was captured before is lost.
    fn capture_in_transit(&mut self) -> Vec<ProcessSnapshot> {
        let mut found = Vec::new();
        for at in 0..MANY {
            if let Some(pid) = self.pid(at) {
                found.extend(try_capture(&mut self.world, pid).ok());
            }
        }
        found
    }
}

fn story(acts: &[Act]) -> Story {
    let mut world = World::new();
    let pids = world.puppets();
    let mut story = Story {
        world,
        pids,
        monitors: Vec::new(),
    };
    for act in acts {
        story.act(act);
    }
    story
}

/// Restores all on a new node, and runs it until nothing is in transit.
fn restored(snapshots: &[ProcessSnapshot]) -> Story {
    let mut world = World::new();
    let all = snapshots.iter().map(|snapshot| (snapshot.clone(), ()));
    for (result, snapshot) in world.system.restore_all(all).iter().zip(snapshots) {
        assert_eq!(*result, Ok(snapshot.pid));
    }
    world.run();
    let mut pids = [Pid::NONE; MANY];
    for (at, snapshot) in snapshots.iter().enumerate() {
        pids[at] = snapshot.pid;
    }
    Story {
        world,
        pids,
        monitors: Vec::new(),
    }
}

/// Relations that only one side holds, once nothing is in transit.
fn one_sided(snapshots: &[ProcessSnapshot]) -> Vec<String> {
    let find = |pid: Pid| snapshots.iter().find(|snapshot| snapshot.pid == pid);
    let mut found = Vec::new();
    for it in snapshots {
        for link in &it.links {
            let other = find(link.to).is_some_and(|o| o.links.iter().any(|l| l.to == it.pid));
            if !other || link.unlinking.is_some() {
                found.push(format!("{} is linked to {}", it.pid, link.to));
            }
        }
        for monitor in &it.monitors {
            let half = (it.pid, monitor.reference);
            if !find(monitor.of).is_some_and(|other| other.watchers.contains(&half)) {
                found.push(format!("{} monitors {}", it.pid, monitor.of));
            }
        }
        for (watcher, reference) in &it.watchers {
            let is = |other: &ProcessSnapshot| {
                let mut monitors = other.monitors.iter();
                monitors.any(|m| m.reference == *reference && m.of == it.pid)
            };
            if !find(*watcher).is_some_and(is) {
                found.push(format!("{} is watched by {watcher}", it.pid));
            }
        }
    }
    found
}

proptest! {
    /// Nothing is lost or added: the restored processes are what the captured ones were.
    #[test]
    fn restored_processes_equal_the_captured_ones(acts in prop::collection::vec(act(), 0..60)) {
        let mut old = story(&acts);
        let before = old.capture();
        prop_assert_eq!(one_sided(&before), Vec::<String>::new());
        let mut new = restored(&before);
        let after = new.capture();
        prop_assert_eq!(&after, &before);
        // And they go on as the others do.
        for _ in 0..3 {
            old.act(&Act::Advance(3));
            new.act(&Act::Advance(3));
        }
        let captured = |pid: Pid| before.iter().any(|snapshot| snapshot.pid == pid);
        let rest = |story: &mut Story, pid: Pid| match story.world.is_alive(pid) {
            true => {
                let mut messages = story.world.inbox(pid);
                // A timer of a process that has ended is in no snapshot.
                messages.retain(|m| m.kind != Kind::Timer || captured(m.sender));
                facts(&messages)
            }
            false => Vec::new(),
        };
        old.world.run();
        new.world.run();
        for snapshot in &before {
            prop_assert_eq!(rest(&mut new, snapshot.pid), rest(&mut old, snapshot.pid));
        }
    }

    /// Whatever was in transit when they were captured, one after another: after the restore both
    /// sides of each relation agree, and each request has got its reply or a `DOWN`.
    #[test]
    fn relations_agree_after_any_restore(
        acts in prop::collection::vec(act(), 0..60),
        lost in any::<[bool; MANY]>(),
    ) {
        let mut snapshots = story(&acts).capture_in_transit();
        let mut lost = lost.into_iter();
        snapshots.retain(|_| lost.next() != Some(true));
        let mut new = restored(&snapshots);
        let after = new.capture();
        prop_assert_eq!(one_sided(&after), Vec::<String>::new());
    }
}
