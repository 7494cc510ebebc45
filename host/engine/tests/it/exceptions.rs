//! Exceptions of Wasm: they live on the stack of one entry, so they neither keep a process from being paged out
//! nor reach another one.

use exuvia_abi::Reason;
use exuvia_process::Pid;

use crate::world::{Answer, Setup, World, answering};

const CALLS: &str = r#"
  (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
  (import "exuvia" "exit" (func $exit (param i32 i32 i32)))
  (tag $number (param i32))
  (tag $other)"#;

/// Throws from `depth` calls below.
const DEEP: &str = r#"(func $deep (param $depth i32) (param $number i32)
  (if (local.get $depth) (then (call $deep (i32.sub (local.get $depth) (i32.const 1)) (local.get $number)))
    (else (throw $number (local.get $number)))))"#;

fn world(handle: &str) -> (World, Pid) {
    world_with(handle, Setup::default())
}

fn world_with(handle: &str, setup: Setup) -> (World, Pid) {
    let world = World::new(setup);
    world.deploy("throws", &answering(CALLS, handle, DEEP));
    let pid = world.spawn("throws");
    assert!(world.settle(100));
    (world, pid)
}

/// Throws `tag` times, and answers the sum of what was caught.
const SUMS: &str = r#"(local $n i32) (local $sum i64)
  (loop $next
    (if (i32.lt_u (local.get $n) (local.get $tag)) (then
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u
        (block $caught (result i32)
          (try_table (catch $number $caught) (call $deep (i32.const 3) (local.get $n)))
          (i32.const 0)))))
      (br $next))))
  (local.get $sum)"#;

fn sum(to: u64) -> u64 {
    to * (to + 1) / 2
}

/// A hundred thousand of them take far more than the heap has: it is collected meanwhile, and turns end.
#[test]
fn what_was_handled_makes_room() {
    let (world, pid) = world(SUMS);
    let before = world.reductions(pid);
    for times in [0, 1, 5, 100_000, 2] {
        let reference = world.request(pid, times, &[]);
        assert!(world.settle(100_000));
        assert_eq!(
            world.answer(reference).number(),
            sum(times.into()),
            "{times}"
        );
    }
    // Each costs 32, beside the calls and the turns of the loop.
    let used = world.reductions(pid) - before;
    assert!((3_600_000..4_200_000).contains(&used), "{used}");
}

/// Two processes take turns in one frame.
#[test]
fn a_process_that_throws_is_paged_out() {
    let count = format!(
        "(i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (block (result i64) {SUMS}))) (i64.load (i32.const 8192))"
    );
    // Locals are declared first.
    let count = count.replace("(local $n i32) (local $sum i64)", "");
    let count = format!("(local $n i32) (local $sum i64) {count}");
    let (world, first) = world_with(
        &count,
        Setup {
            frames: 4,
            ..Setup::default()
        },
    );
    let mut pids = vec![first];
    pids.extend((0..20).map(|_| world.spawn("throws")));
    for round in 1..4 {
        for pid in &pids {
            assert_eq!(world.ask(*pid, 10, &[]).number(), round * sum(10));
        }
    }
}

#[test]
fn one_that_nothing_catches_ends_its_process_alone() {
    let (world, pid) = world(
        "(if (i32.eq (local.get $tag) (i32.const 9)) (then (call $deep (i32.const 3) (i32.const 1)))) (i64.const 5)",
    );
    for _ in 0..3 {
        let other = world.spawn("throws");
        match world.ask(other, 9, &[]) {
            Answer::Down(code, text) => {
                assert_eq!(code, Reason::TRAP.0);
                assert!(
                    text.starts_with("an exception that nothing has caught"),
                    "{text}"
                );
                assert_eq!(text.matches("at deep").count(), 4, "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.ask(pid, 1, &[]).number(), 5);
    }
}

/// Traps of the host are not exceptions: no guest keeps itself from being ended.
#[test]
fn nothing_catches_an_exit_or_a_trap() {
    let (world, _) = world(
        r#"(block $caught
             (try_table (catch_all $caught)
               (if (i32.eq (local.get $tag) (i32.const 1)) (then (call $exit (i32.const 300) (i32.const 0) (i32.const 0))))
               (if (i32.eq (local.get $tag) (i32.const 2)) (then unreachable))
               (if (i32.eq (local.get $tag) (i32.const 3)) (then (drop (i32.load (i32.const -4)))))
               (loop $spin (br $spin))))
           (i64.const 5)"#,
    );
    for (tag, code) in [(1, 300), (2, Reason::TRAP.0), (3, Reason::TRAP.0)] {
        match world.ask(world.spawn("throws"), tag, &[]) {
            Answer::Down(found, text) => assert_eq!(found, code, "{tag}: {text}"),
            other => panic!("{tag}: {other:?}"),
        }
    }
    // Nor does one that runs forever keep itself from being killed.
    let pid = world.spawn("throws");
    world.request(pid, 4, &[]);
    assert!(!world.settle(50));
    world.kill(pid);
    assert!(world.settle(100));
    assert!(!world.system.is_alive(pid));
}

/// It waits in a handler while others use its module's other frames, and throws again what it has caught.
#[test]
fn an_exception_survives_a_wait() {
    let (world, pid) = world(
        r#"(local $e exnref)
           (block $again (result i32)
             (try_table (catch $number $again)
               (block $caught (result exnref)
                 (try_table (catch_all_ref $caught) (call $deep (i32.const 3) (local.get $tag)))
                 (unreachable))
               (local.set $e)
               (drop (call $sleep (i64.const 10)))
               (throw_ref (local.get $e)))
             (unreachable))
           (i64.extend_i32_u)"#,
    );
    let reference = world.request(pid, 12, &[]);
    assert!(world.settle(100));
    let others: Vec<Pid> = (0..50).map(|_| world.spawn("throws")).collect();
    let asked: Vec<u64> = (1..)
        .zip(&others)
        .map(|(tag, pid)| world.request(*pid, tag, &[]))
        .collect();
    assert!(world.settle(1_000));
    world.advance(20);
    assert!(world.settle(1_000));
    assert_eq!(world.answer(reference).number(), 12);
    for (number, reference) in (1..).zip(asked) {
        assert_eq!(world.answer(reference).number(), number);
    }
}

/// As many as one likes can be handled one after another, but not at once.
#[test]
fn more_at_once_than_fit_end_the_process_with_a_reason() {
    // Each level keeps what it caught, and throws in the next one.
    let world = World::new(Setup::default());
    let keeps = r#"(func $keeps (param $n i32) (local $e exnref)
      (block $caught (result exnref)
        (try_table (catch_all_ref $caught) (throw $number (local.get $n)))
        (unreachable))
      (local.set $e)
      (if (local.get $n) (then (call $keeps (i32.sub (local.get $n) (i32.const 1)))))
      (block $done (try_table (catch_all $done) (throw_ref (local.get $e)))))"#;
    let handle = "(call $keeps (local.get $tag)) (i64.extend_i32_u (local.get $tag))";
    world.deploy("keeps", &answering(CALLS, handle, keeps));
    let pid = world.spawn("keeps");
    assert_eq!(world.ask(pid, 500, &[]).number(), 500);
    match world.ask(pid, 2_000, &[]) {
        Answer::Down(code, text) => {
            assert_eq!(code, Reason::TRAP.0);
            assert!(
                text.starts_with("more exceptions at once than fit into 32 KiB"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.ask(world.spawn("keeps"), 500, &[]).number(), 500);
}

/// What runs before there are processes has the same heap.
#[test]
fn a_warm_up_may_throw_as_often_as_it_likes() {
    let warm = r#"(func (export "warm_up") (local $n i32)
      (loop $next
        (block $caught (try_table (catch_all $caught) (throw $other)))
        (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
      (i32.store (i32.const 8192) (local.get $n)))"#;
    let world = World::new(Setup::default());
    let handle = "(i64.load32_u (i32.const 8192))";
    world.deploy("warm", &answering(CALLS, handle, warm));
    assert_eq!(world.ask(world.spawn("warm"), 0, &[]).number(), 5_000);
}
