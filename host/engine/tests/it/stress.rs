//! Everything at once: several threads, modules and versions, few frames, and
//! processes that are asked, killed, trapped, blocked, preempted, grown,
//! crossed and paged out in an order that a seed draws. Whatever the order of
//! the threads: each process has seen exactly its messages in their order, and
//! no frame is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use exuvia_code::Version;
use exuvia_engine::{Artifact, FrameCounts};
use exuvia_process::{Envelope, Payload, Pid};

use crate::world::{Setup, World, cases};

const THREADS: usize = 3;
const FRAMES: usize = 6;
/// Rounds of each driver, and messages of each round.
const ROUNDS: usize = 60;
const MESSAGES: usize = 60;

/// What a message makes a process do: the low bits of its tag.
const NOTE: u32 = 0;
const GROW: u32 = 1;
const SPIN: u32 = 2;
const SLEEP: u32 = 3;
const SELECT: u32 = 4;
const TRAP: u32 = 5;
const TELL: u32 = 6;

/// Mixes each message's tag into a sum, which it keeps in a global, in memory
/// and at the end of memory, and takes from all three. `$more` differs between
/// versions and is never called. Pid of whom it tells: the payload.
fn guest(version: u32, more: &str) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 2 6)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (global $sum (mut i64) (i64.const 0))
  (data (i32.const 4096) "\30")
  (func $end (result i32) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 64)))
  ;; Says the sum in the reply, unless its three copies differ.
  (func $sum (result i64)
    (if (i64.ne (i64.load (i32.const 8192)) (global.get $sum)) (then (return (i64.const -1))))
    (if (i64.ne (i64.load (call $end)) (global.get $sum)) (then (return (i64.const -2))))
    (global.get $sum))
  (func $keep (param $sum i64)
    (global.set $sum (local.get $sum))
    (i64.store (i32.const 8192) (local.get $sum))
    (i64.store (call $end) (local.get $sum)))
  (func $note (param $tag i32)
    (call $keep (i64.add
      (i64.mul (call $sum) (i64.const 0x100000001b3))
      (i64.extend_i32_u (local.get $tag)))))
  (func $spin (local $n i32)
    (local.set $n (i32.const 9000))
    (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  (func $handle (param $tag i32) (local $op i32)
    (local.set $op (i32.and (local.get $tag) (i32.const 7)))
    (call $note (local.get $tag))
    (if (i32.eq (local.get $op) (i32.const {GROW})) (then
      (i64.store (call $end) (i64.const 0))
      (drop (memory.grow (i32.const 1)))
      (call $keep (global.get $sum))))
    (if (i32.eq (local.get $op) (i32.const {SPIN})) (then (call $spin)))
    (if (i32.eq (local.get $op) (i32.const {SLEEP})) (then (drop (call $sleep (i64.const 1)))))
    (if (i32.eq (local.get $op) (i32.const {SELECT})) (then
      (i32.store (i32.const 5000) (i32.const 48))
      (drop (call $receive (i32.const 5000) (i32.const 5100) (i32.const 64)
        (i64.const 1) (i32.const 1) (i64.const 0xffffffff)))))
    (if (i32.eq (local.get $op) (i32.const {TRAP})) (then (call $spin) (unreachable)))
    (if (i32.eq (local.get $op) (i32.const {TELL})) (then
      (drop (call $send (i32.const 4224) (i32.const 7) (i32.const 0) (i32.const 0))))))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 2)) (then
        (call $handle (i32.load (i32.const 4128)))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        (i64.store (i32.const 4160) (call $sum))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 4160) (i32.const 8)))))
      (br $next))
    unreachable)
  (func (result i32) (i32.const {version}))
  {more})"#
    )
}

/// Its image is valid in all versions.
fn carried(version: u32) -> String {
    guest(version, r#"(@custom "exuvia.layout" "one")"#)
}

/// Its state goes through `save` and `load`; the memory that it had grown by is
/// not part of it.
fn migrated(version: u32) -> String {
    guest(
        version,
        r#"(func (export "save") (result i32)
             (i64.store (i32.const 9000) (call $sum))
             (call $put (i32.const 9000) (i32.const 8)))
           (func (export "load") (param i32 i32) (result i32)
             (drop (call $get (i32.const 9000) (i32.const 8)))
             (call $keep (i64.load (i32.const 9000)))
             (i32.const 0))"#,
    )
}

/// Cannot be paged out.
fn resident(version: u32) -> String {
    guest(
        version,
        r#"(table 1 4 funcref) (elem declare func $spin)
           (func (table.set (i32.const 0) (ref.func $spin)))"#,
    )
}

/// Seeds of a test; `EXUVIA_TEST_LONG=1` asks for twenty times as many.
fn seeds(few: u32) -> std::ops::RangeInclusive<u64> {
    1..=u64::from(cases(few).cases)
}

/// A small generator, so that the test needs no other crate.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// A process as its driver knows it.
struct Known {
    pid: Pid,
    sum: u64,
}

impl Known {
    fn born(world: &World, random: &mut Random) -> Known {
        let module = ["reused", "reused", "migrated", "other"][random.below(4)];
        Known {
            pid: world.spawn(module),
            sum: 0,
        }
    }

    fn send(&mut self, world: &World, tag: u32, payload: &[u8]) {
        let envelope = Envelope::message(Pid::NONE, tag, Payload::new(payload));
        world.system.send(self.pid, envelope).unwrap();
        let tag = u64::from(tag);
        self.sum = self.sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(tag);
    }
}

/// One thread's processes: nobody else sends to them, so their order is known.
fn drive(world: &World, seed: u64, sink: Pid) -> Vec<Known> {
    let mut random = Random(seed);
    let mut known: Vec<Known> = (0..20).map(|_| Known::born(world, &mut random)).collect();
    for round in 0..ROUNDS {
        for _ in 0..MESSAGES {
            let at = random.below(known.len());
            let number = u32::try_from(random.below(1 << 20)).unwrap() << 3;
            match random.below(100) {
                0 => {
                    world.kill(known[at].pid);
                    known[at] = Known::born(world, &mut random);
                }
                1 => {
                    known[at].send(world, number | TRAP, &[]);
                    known[at] = Known::born(world, &mut random);
                }
                2..5 => known[at].send(world, number | GROW, &[]),
                5..10 => known[at].send(world, number | SPIN, &[]),
                10..14 => known[at].send(world, number | SLEEP, &[]),
                14..18 => known[at].send(world, number | SELECT, &[]),
                18..30 => known[at].send(world, number | TELL, &sink.to_bytes()),
                _ => known[at].send(world, number | NOTE, &[]),
            }
        }
        // Half of the rounds meet an empty queue.
        while round % 2 == 0 && world.has_work() {
            std::thread::yield_now();
        }
    }
    known
}

/// Runs processes until all drivers are done. Time passes too.
fn work(world: &World, drivers: &AtomicUsize) {
    let mut turns = 0_u64;
    while drivers.load(Ordering::Acquire) > 0 {
        if !world.turn() {
            std::thread::yield_now();
        }
        turns += 1;
        if turns.is_multiple_of(64) {
            world.advance(1);
        }
    }
}

/// Commits one version after the other, and gives up frames meanwhile.
fn swap(world: &World, versions: &[Arc<Version<Artifact>>], drivers: &AtomicUsize, seed: u64) {
    let mut random = Random(seed);
    while drivers.load(Ordering::Acquire) > 0 {
        let version = &versions[random.below(versions.len())];
        match random.below(8) {
            0 | 1 => world.commit(version),
            2 => world.executor.prepare(&version.artifact, 1),
            3 => drop(world.executor.trim_frames()),
            _ => {}
        }
        for _ in 0..200 {
            std::thread::yield_now();
        }
    }
}

fn stress(seed: u64, probation: u32) {
    let world = World::new(Setup {
        frames: FRAMES,
        probation,
        ..Setup::default()
    });
    let mut versions = Vec::new();
    for version in 0..3 {
        versions.push(world.deploy("reused", &carried(version)));
        versions.push(world.deploy("migrated", &migrated(version)));
    }
    world.deploy("other", &carried(9));
    world.deploy("resident", &resident(0));
    let mut keeps = Known {
        pid: world.spawn("resident"),
        sum: 0,
    };
    let mut sink = Known {
        pid: world.spawn("other"),
        sum: 0,
    };
    keeps.send(&world, NOTE, &[]);
    sink.send(&world, NOTE, &[]);
    assert!(world.settle(100));
    let drivers = AtomicUsize::new(2);
    let (shared, running, to) = (&world, &drivers, sink.pid);
    let failed = AtomicBool::new(false);
    let mut known = std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || work(shared, running));
        }
        let versions = &versions;
        scope.spawn(move || swap(shared, versions, running, seed ^ 0x5bd1));
        let driving: Vec<_> = (1..3)
            .map(|n| {
                let failed = &failed;
                scope.spawn(move || {
                    let drive = || drive(shared, seed.wrapping_mul(n) | 1, to);
                    let known = std::panic::catch_unwind(std::panic::AssertUnwindSafe(drive));
                    failed.fetch_or(known.is_err(), Ordering::Relaxed);
                    // The others end whatever happened here.
                    running.fetch_sub(1, Ordering::Release);
                    known.unwrap_or_default()
                })
            })
            .collect();
        let known = driving.into_iter().map(|driver| driver.join().unwrap());
        known.flatten().collect::<Vec<_>>()
    });
    assert!(!failed.into_inner(), "seed {seed}: a driver failed");
    // What is left to do, on one thread.
    for _ in 0..10_000 {
        assert!(world.settle(10_000_000), "seed {seed}: no end");
        if world.executor.frames().blocked == 1 {
            break;
        }
        world.advance(1);
    }
    let counts = world.executor.frames();
    assert_eq!(counts.blocked, 1, "seed {seed}: {counts:?}");
    assert_eq!(counts.live + counts.vacant, counts.slots, "seed {seed}");
    known.push(keeps);
    let alive = world.system.table.alive();
    assert_eq!(
        alive,
        known.len() + 2,
        "seed {seed}: the client and the sink"
    );
    for (index, known) in known.iter().enumerate() {
        let sum = world.ask(known.pid, 0, &[]).number();
        assert_eq!(sum, known.sum, "seed {seed}: process {index}");
    }
    world.ask(sink.pid, 0, &[]).number();
    for known in &known {
        world.kill(known.pid);
    }
    world.kill(sink.pid);
    assert!(world.settle(100_000));
    let counts = world.executor.frames();
    // Nobody is in a frame, so all that live are free.
    let expected = FrameCounts {
        free: counts.live,
        blocked: 0,
        vacant: counts.slots - counts.live,
        ..counts
    };
    assert_eq!(counts, expected, "seed {seed}");
    world.executor.clear();
    let counts = world.executor.frames();
    assert_eq!(
        (counts.live, counts.vacant),
        (0, counts.slots),
        "seed {seed}"
    );
    assert!(world.seen.stuck.lock().is_empty(), "seed {seed}");
}

#[test]
fn nothing_is_lost_under_load() {
    for seed in seeds(5) {
        stress(seed * 0x9e37_79b9, 0);
    }
}

#[test]
fn nothing_is_lost_in_probation_under_load() {
    for seed in seeds(5) {
        stress(seed * 0x85eb_ca6b, 2);
    }
}
