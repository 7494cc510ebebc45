//! Registered names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use exuvia_abi::{Pid, limits};
use exuvia_process::{NameError, Reason};

use crate::world::{FAILED, World};

#[test]
fn a_name_finds_its_process() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    assert_eq!(world.system.register("counter", one), Ok(()));
    assert_eq!(world.system.names.find("counter"), Some(one));
    assert_eq!(
        world.system.register("counter", other),
        Err(NameError::Taken)
    );
    assert_eq!(world.system.names.find("nobody"), None);
}

#[test]
fn registering_again_changes_nothing() {
    let mut world = World::new();
    let one = world.puppet();
    assert_eq!(world.system.register("counter", one), Ok(()));
    assert_eq!(world.system.register("counter", one), Ok(()));
    assert_eq!(world.system.register("second", one), Ok(()));
    let names = world.system.names.of(one);
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    assert_eq!(names, ["counter", "second"]);
}

#[test]
fn an_unregistered_name_is_free() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    assert_eq!(world.system.register("counter", one), Ok(()));
    assert_eq!(world.system.names.remove("counter"), Some(one));
    assert_eq!(world.system.names.remove("counter"), None);
    assert_eq!(world.system.names.find("counter"), None);
    assert_eq!(world.system.register("counter", other), Ok(()));
    // The former owner's exit does not remove it from the new one.
    world.exit(one, FAILED);
    assert_eq!(world.system.names.find("counter"), Some(other));
}

#[test]
fn the_names_of_an_ended_process_are_free_and_resolve_to_nothing() {
    let mut world = World::new();
    let [one, watcher] = world.puppets();
    assert_eq!(world.system.register("counter", one), Ok(()));
    assert_eq!(world.system.register("second", one), Ok(()));
    world.monitor(watcher, one);
    world.run();
    world.exit(one, FAILED);
    assert_eq!(world.system.names.find("counter"), None);
    assert_eq!(world.system.names.find("second"), None);
    assert!(world.system.names.of(one).is_empty());
    assert_eq!(world.system.register("counter", one), Err(NameError::Dead));
    assert_eq!(world.system.names.find("counter"), None);

    let new = world.successor(one);
    assert!(world.system.names.of(new).is_empty());
    assert_eq!(world.system.register("counter", new), Ok(()));
    world.exit(new, Reason::NORMAL);
    assert_eq!(world.system.names.find("counter"), None);
}

#[test]
fn the_length_of_names_is_limited() {
    let mut world = World::new();
    let one = world.puppet();
    let longest = "n".repeat(255);
    assert_eq!(world.system.register(&longest, one), Ok(()));
    for wrong in ["", &"n".repeat(256)] {
        assert_eq!(world.system.register(wrong, one), Err(NameError::Invalid));
    }
}

#[test]
fn a_reserved_pid_can_have_a_name() {
    let world = World::new();
    let pid = world
        .system
        .reserve(&exuvia_process::Limits::default().into())
        .expect("the table has a free slot");
    assert_eq!(world.system.register("soon", pid), Ok(()));
    assert_eq!(world.system.names.find("soon"), Some(pid));
    world.system.abandon(pid);
    assert_eq!(world.system.names.find("soon"), None);
}

#[test]
fn the_names_of_a_process_are_limited() {
    let mut world = World::new();
    let [one, other] = world.puppets();
    for n in 0..limits::NAMES {
        assert_eq!(world.system.register(&format!("n{n}"), one), Ok(()));
    }
    let full = Err(NameError::TooMany);
    assert_eq!(world.system.register("one more", one), full);
    assert_eq!(world.system.names.find("one more"), None);
    assert_eq!(world.system.register("n5", one), Ok(()), "it has that");
    assert_eq!(world.system.register("one more", other), Ok(()));
    assert_eq!(
        world.system.register("one more", one),
        Err(NameError::Taken)
    );
    assert_eq!(world.system.names.remove("n7"), Some(one));
    assert_eq!(world.system.register("another", one), Ok(()));
    assert_eq!(world.system.register("yet another", one), full);
    world.exit(one, FAILED);
    assert_eq!(world.system.register("another", other), Ok(()));
}

/// Whoever learns that a process has ended may use its name at once.
#[test]
fn a_process_that_is_dead_to_others_has_no_name() {
    const ROUNDS: u64 = 20_000;
    const NONE: u64 = u64::MAX - 1;
    const OVER: u64 = u64::MAX;
    let world = World::new();
    let system = &world.system;
    let limits = exuvia_process::Limits::default().into();
    // The local part of the pid of this round.
    let current = AtomicU64::new(NONE);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let pid = system.reserve(&limits).expect("the table has a free slot");
                assert_eq!(system.register("one", pid), Ok(()), "round {round}");
                current.store(pid.local, Ordering::Release);
                system.abandon(pid);
            }
            current.store(OVER, Ordering::Release);
        });
        loop {
            match current.load(Ordering::Acquire) {
                NONE => {}
                OVER => break,
                local => {
                    let node = system.node();
                    let pid = Pid { node, local };
                    while system.is_alive(pid) {}
                    assert_ne!(system.names.find("one"), Some(pid));
                }
            }
        }
    });
}
