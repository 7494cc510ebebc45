//! Generations of slots, counts of children, and charges of a set of snapshots.

use super::*;

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
    assert_eq!(world.system.table.raise_generations(least), Ok(()));
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

/// Spawns a child that counts, without a limit of its own.
fn spawn_child(world: &mut World, parent: Pid) -> Pid {
    let child = world.with(parent, |process, system| {
        let counted = process.children().admit(9);
        assert!(counted.is_some());
        let limits = Limits::default().into();
        let spec = SpawnSpec {
            parent,
            counted,
            ..SpawnSpec::new(Body::Guest(()), limits, Payload::empty())
        };
        system.spawn(spec).expect("there is a slot")
    });
    world.run();
    child
}

/// Returns whether the limits allow a process one more child.
fn may_spawn(world: &mut World, pid: Pid) -> bool {
    world.with(pid, |process, _| process.children().admit(9).is_some())
}

/// A process that may have so many descendants, its child and its grandchild.
fn family(world: &mut World, descendants: u32) -> [Pid; 3] {
    let parent = world.puppet_with(Limits {
        descendants,
        ..Limits::default()
    });
    let child = spawn_child(world, parent);
    [parent, child, spawn_child(world, child)]
}

#[test]
fn what_a_restored_subtree_starts_counts_for_a_parent_that_is_not_in_the_set() {
    for spawns in [1, 2] {
        let mut world = World::new();
        let pids @ [parent, child, grandchild] = family(&mut world, 2);
        let set = [child, grandchild].map(|pid| (capture(&mut world, pid), ()));
        world.exit(grandchild, Reason::NORMAL);
        world.exit(child, Reason::NORMAL);
        let restored = world.system.restore_all(set);
        assert_eq!(restored, [Ok(child), Ok(grandchild)]);
        world.run();
        // The child counts; the grandchild does not, but all that either starts.
        let new = spawn_child(&mut world, pids[spawns]);
        for pid in [new, grandchild, child, parent] {
            assert!(!may_spawn(&mut world, pid), "{pid}");
        }
        // All counts end with the processes.
        for pid in [grandchild, new, child] {
            world.exit(pid, Reason::NORMAL);
        }
        world.with(parent, |process, _| {
            assert_eq!(process.children().alive(), 0);
            let all: Vec<_> = (0..9).map_while(|_| process.children().admit(9)).collect();
            assert_eq!(all.len(), 2);
        });
    }
}

#[test]
fn a_restored_process_that_spawns_before_its_parents_turn_does_not_escape_the_limit() {
    let mut world = World::new();
    let [parent, child, grandchild] = family(&mut world, 2);
    world.exit(grandchild, Reason::NORMAL);
    let snapshot = capture(&mut world, child);
    world.exit(child, Reason::NORMAL);
    restore(&world, &snapshot);
    let early = world.with(child, |process, _| process.children().admit(9));
    assert!(early.is_some());
    // It does not forget that it counts if it is captured then.
    assert!(capture(&mut world, child).counted);
    world.run();
    let late = world.with(child, |process, _| process.children().admit(9));
    assert!(late.is_some());
    assert!(!may_spawn(&mut world, child) && !may_spawn(&mut world, parent));
    drop((early, late));
    assert!(may_spawn(&mut world, child));
}

#[test]
fn a_process_that_is_restored_when_its_parent_is_at_the_limit_starts_nothing() {
    let mut world = World::new();
    let [parent, child, grandchild] = family(&mut world, 2);
    world.exit(grandchild, Reason::NORMAL);
    let snapshot = capture(&mut world, child);
    world.exit(child, Reason::NORMAL);
    let others = [parent; 2].map(|parent| spawn_child(&mut world, parent));
    restore(&world, &snapshot);
    world.run();
    assert!(!may_spawn(&mut world, child));
    // It is not counted itself.
    world.exit(others[0], Reason::NORMAL);
    let new = spawn_child(&mut world, child);
    assert!(!may_spawn(&mut world, child) && !may_spawn(&mut world, parent));
    for pid in [new, child, others[1]] {
        world.exit(pid, Reason::NORMAL);
    }
    let [one, two] = [parent; 2].map(|parent| spawn_child(&mut world, parent));
    assert!(one != two && !may_spawn(&mut world, parent));
}
