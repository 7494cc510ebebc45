//! What a process is charged: as many reductions as it has used, however often
//! it was suspended meanwhile.

use exuvia_process::Pid;

use crate::world::{Setup, World, answering};

const SLEEP: &str = r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#;

/// What one request costs whose handler goes round a loop `tag` times more than
/// once, and sleeps before it if that is asked for.
fn cost(world: &World, pid: Pid, rounds: u32) -> u64 {
    let before = world.reductions(pid);
    let reference = world.request(pid, rounds, &[]);
    assert!(world.settle(100_000));
    world.advance(2);
    assert!(world.settle(100_000));
    assert_eq!(world.answer(reference).number(), u64::from(rounds));
    world.reductions(pid) - before
}

fn spinning(first: &str) -> String {
    let handle = format!(
        "(local $n i32) {first} (local.set $n (local.get $tag))
        (loop $l (br_if $l (i32.ge_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
        (i64.extend_i32_u (local.get $tag))"
    );
    answering(SLEEP, &handle, "")
}

#[test]
fn each_iteration_costs_one_however_often_the_loop_yields() {
    for first in ["", "(drop (call $sleep (i64.const 1)))"] {
        let world = World::new(Setup::default());
        world.deploy("spins", &spinning(first));
        let pid = world.spawn("spins");
        assert!(world.settle(100));
        let least = cost(&world, pid, 0);
        for rounds in (3_980..4_020).chain([1, 10, 8_000, 12_345, 100_000]) {
            let more = cost(&world, pid, rounds) - least;
            assert_eq!(more, u64::from(rounds), "{first}");
        }
    }
}

/// Whatever ends a process in the middle: what it has used up to then counts.
#[test]
fn a_process_killed_in_a_loop_was_charged_for_its_slices() {
    let world = World::new(Setup::default());
    world.deploy("spins", &spinning(""));
    let pid = world.spawn("spins");
    assert!(world.settle(100));
    let before = world.reductions(pid);
    world.request(pid, 1_000_000, &[]);
    while world.reductions(pid) < before + 20_000 {
        assert!(world.turn(), "it rests");
    }
    // By whole slices, but for the one with the start of the handler.
    let slices = world.reductions(pid) / 4_000;
    world.kill(pid);
    assert!(world.settle(100));
    assert!(!world.system.is_alive(pid));
    assert!((5..=6).contains(&slices), "{slices}");
}
