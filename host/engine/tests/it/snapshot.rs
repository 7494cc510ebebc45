//! Snapshots of all processes of a node, restored on a new node with the same number.

use exuvia_process::{Pid, ProcessSnapshot, RestoreError, WhyNot};

use crate::world::{Answer, ENOUGH, Setup, World, answering};

/// Counts the requests, and adds the tag to the sum that it replies with.
fn summing(global: &str) -> String {
    let handle = r#"
        (i64.store (i32.const 8192)
          (i64.add (i64.load (i32.const 8192)) (i64.extend_i32_u (local.get $tag))))
        (global.set $seen (i64.add (global.get $seen) (i64.const 1)))
        (i64.add (i64.mul (global.get $seen) (i64.const 1000000)) (i64.load (i32.const 8192)))"#;
    answering("", handle, global)
}

const GLOBAL: &str = r#"(global $seen (mut i64) (i64.const 0)) (@custom "exuvia.layout" "sum")"#;

fn world() -> World {
    World::new(Setup {
        frames: 4,
        ..Setup::default()
    })
}

fn capture(world: &World, pid: Pid) -> ProcessSnapshot {
    let snapshot = world.executor.capture(pid).expect("it is at rest");
    ProcessSnapshot::from_bytes(&snapshot.to_bytes()).expect("it is whole")
}

/// Those in frames and those that are paged out alike.
#[test]
fn all_processes_of_a_node_go_on_on_a_new_one() {
    let old = world();
    old.deploy("sum", &summing(GLOBAL));
    let pids: Vec<Pid> = (0..30).map(|_| old.spawn("sum")).collect();
    for (at, pid) in pids.iter().enumerate() {
        for _ in 0..at % 3 {
            old.ask(*pid, at as u32, &[]);
        }
    }
    // Each is linked to the next one.
    for pair in pids.windows(2) {
        let to = pair[1];
        let link = move |process: &mut exuvia_engine::GuestProcess, system: &_| {
            process.link(system, to);
        };
        old.system.control(pair[0], link).unwrap();
    }
    assert!(old.settle(ENOUGH));
    let snapshots: Vec<_> = pids.iter().map(|pid| capture(&old, *pid)).collect();
    let started = snapshots.iter().filter(|s| s.guest.state.is_some()).count();
    assert_eq!(started, 30, "those without a request have received INIT");

    let new = world();
    new.deploy("sum", &summing(GLOBAL));
    // The new node's client has the slot that the old one's had.
    let results = new.executor.restore_all(snapshots);
    assert!(
        results
            .iter()
            .eq(pids.iter().map(|pid| Ok(*pid)).collect::<Vec<_>>().iter())
    );
    assert!(new.settle(ENOUGH));
    for (at, pid) in pids.iter().enumerate() {
        let (seen, sum) = (at as u64 % 3 + 1, (at as u64 % 3) * at as u64 + 1);
        assert_eq!(new.ask(*pid, 1, &[]).number(), seen * 1_000_000 + sum);
    }
    // The links are those that were.
    new.kill(pids[15]);
    assert!(new.settle(ENOUGH));
    assert!(pids.iter().all(|pid| !new.system.is_alive(*pid)));
}

#[test]
fn an_image_of_another_base_is_refused() {
    let old = world();
    old.deploy("sum", &summing(GLOBAL));
    let pid = old.spawn("sum");
    old.ask(pid, 1, &[]);
    let snapshot = capture(&old, pid);
    // The digest of the module is the same, as if the store had mixed them up.
    let new = world();
    let other = GLOBAL.replace("const 0", "const 7");
    new.deploy("sum", &summing(&other));
    let error = new.executor.restore(&snapshot).unwrap_err();
    assert!(matches!(&error, RestoreError::State(_)), "{error}");
    assert_eq!(new.system.table.alive(), 1);
    let missing = world();
    let error = missing.executor.restore(&snapshot).unwrap_err();
    assert!(matches!(error, RestoreError::Version { .. }));
}

#[test]
fn the_state_of_a_resident_only_module_is_no_image() {
    let world = world();
    let table = r#"(table 1 4 funcref) (elem declare func $f) (func $f)"#;
    let handle = "(table.set (i32.const 0) (ref.func $f)) (i64.const 1)";
    world.deploy("table", &answering("", handle, table));
    let pid = world.spawn("table");
    assert!(matches!(world.ask(pid, 1, &[]), Answer::Reply(_)));
    let why = world.executor.capture(pid).unwrap_err();
    assert!(
        matches!(&why, WhyNot::Resident(reason) if reason.contains("table 0")),
        "{why}"
    );
}
