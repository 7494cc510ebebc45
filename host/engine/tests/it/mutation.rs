//! Damaged modules: most are rejected. One that loads runs under the same
//! rules as any other, and does no harm.

use proptest::prelude::*;

use crate::world::{Setup, World, answering, cases};

/// A module with much in it that damage can hit.
fn seed() -> Vec<u8> {
    let wat = answering(
        r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
           (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
           (import "exuvia" "clock" (func $clock (param i32) (result i64)))
           (import "exuvia" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i32)))"#,
        r#"(if (i32.eq (local.get $tag) (i32.const 1)) (then (drop (memory.grow (i32.const 1)))))
           (if (i32.eq (local.get $tag) (i32.const 2)) (then
             (drop (call $send (i32.const 4104) (i32.const 1) (i32.const 16) (i32.const 4)))
             (drop (call $log (i32.const 3) (i32.const 4700) (i32.const 4)))
             (drop (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5000) (i32.const 0)))))
           (memory.fill (i32.const 8192) (i32.const 3) (i32.const 70000))
           (global.set $g (i64.add (global.get $g) (call_indirect (type $t) (i32.const 0))))
           (i64.add (global.get $g) (call $clock (i32.const 0)))"#,
        r#"(type $t (func (result i64)))
           (global $__stack_pointer (mut i32) (i32.const 4096))
           (global $g (mut i64) (i64.const 1))
           (table 2 funcref) (elem (i32.const 0) $one $one)
           (data (i32.const 4700) "text")
           (func $one (type $t) (local $n i32)
             (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $l (i32.lt_u (local.get $n) (i32.const 100))))
             (i64.const 1))
           (func (export "warm_up") (i64.store (i32.const 9000) (i64.const 9)))"#,
    );
    wat::parse_str(wat).unwrap()
}

/// Loads it and, if that works, runs a few of it beside an honest process.
fn survive(world: &World, wasm: &[u8]) -> bool {
    let Ok(version) = world.load("damaged", wasm) else {
        return false;
    };
    world.commit(&version);
    let pids: Vec<_> = (0..6).map(|_| world.spawn("damaged")).collect();
    let honest = world.spawn("honest");
    for tag in 0..3 {
        for pid in &pids {
            world.request(*pid, tag, b"12345678");
        }
        let _ = world.settle(300);
        world.advance(1_000);
        assert_eq!(world.ask(honest, 0, &[]).number(), 42);
    }
    for (_, reason) in world.seen.failures.lock().drain(..) {
        assert_ne!(reason.code(), exuvia_abi::Reason::INTERNAL.0, "{reason:?}");
    }
    // Children too.
    for index in world.system.table.indices() {
        if let Some(pid) = world.system.pid(index).filter(|pid| *pid != world.client()) {
            world.kill(pid);
        }
    }
    assert!(world.settle(10_000));
    assert_eq!(world.executor.frames().blocked, 0);
    world.forget_heard();
    true
}

fn world() -> World {
    let world = World::new(Setup {
        frames: 4,
        processes: 64,
        ..Setup::default()
    });
    world.deploy("honest", &answering("", "(i64.const 42)", ""));
    world
}

#[test]
fn the_seed_loads_and_runs() {
    assert!(survive(&world(), &seed()));
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn damaged_modules_are_handled(
        damages in prop::collection::vec(
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), 40),
    ) {
        let world = world();
        let seed = seed();
        for damage in damages {
            let mut wasm = seed.clone();
            for (at, byte) in damage {
                let at = at.index(wasm.len());
                wasm[at] = byte;
            }
            survive(&world, &wasm);
        }
    }
}

/// One changed bit at each tenth byte: always the same damage, so how much of it loads does not depend on chance.
#[test]
fn some_damaged_modules_load_and_run() {
    let world = world();
    let seed = seed();
    let places = || (0..seed.len()).step_by(10);
    let loaded = places()
        .filter(|&at| {
            let mut wasm = seed.clone();
            wasm[at] ^= 1;
            survive(&world, &wasm)
        })
        .count();
    // Else the random damage above would test the reader of modules only.
    assert!(
        loaded > 0 && loaded < places().count(),
        "{loaded} of {}",
        places().count()
    );
}
