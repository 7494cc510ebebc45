//! What one process leaves in a frame, no other ever sees: however the first
//! one left it.

use exuvia_engine::{EngineConfig, MemoryLayout, Method};
use exuvia_process::Kind;

use crate::world::{Answer, Setup, World, answering};

/// Tags of requests. The secret is the byte 0xA5.
const FILL: u32 = 1;
const COUNT: u32 = 2;
const PAGES: u32 = 3;
const GROW_AND_FILL: u32 = 4;
const TRAP: u32 = 5;
const SLEEP: u32 = 6;
const SPIN: u32 = 7;
const EXIT: u32 = 8;

fn guest() -> String {
    answering(
        r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
           (import "exuvia" "exit" (func $exit (param i32 i32 i32)))"#,
        r#"(block $exits (block $spin (block $sleeps (block $trap (block $grow (block $pages (block $count (block $fill
             (br_table $fill $fill $count $pages $grow $trap $sleeps $spin $exits (local.get $tag)))
           (return (call $fill))) (return (call $count))) (return (i64.extend_i32_u (memory.size))))
           (drop (memory.grow (i32.const 2))) (return (call $fill)))
           (drop (call $fill)) (global.set $__stack_pointer (i32.const 16)) (unreachable))
           (drop (call $fill)) (drop (call $sleep (i64.const 1000000))) (return (i64.const 0)))
           (drop (call $fill)) (global.set $__stack_pointer (i32.const 64)) (loop $l (br $l)))
           (drop (call $fill)) (call $exit (i32.const 256) (i32.const 0) (i32.const 0)) unreachable"#,
        r#"(global $__stack_pointer (mut i32) (i32.const 4096))
           (global $a (mut i64) (i64.const 5))
           (global $b (mut f64) (f64.const 1.5))
           (func $fill (result i64)
             (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 4096))
             (memory.fill (i32.const 4608) (i32.const 0xa5)
               (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4608)))
             (global.set $a (i64.const 0xa5a5a5a5a5a5a5a5))
             (global.set $b (f64.const 0.25))
             (i64.const 1))
           (func $count (result i64) (local $at i32) (local $n i64)
             (loop $l
               (local.set $n (i64.add (local.get $n) (i64.extend_i32_u
                 (i32.eq (i32.load8_u (local.get $at)) (i32.const 0xa5)))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               ;; Where messages are: a reference may have such a byte, and nobody fills it.
               (if (i32.eq (local.get $at) (i32.const 4096)) (then (local.set $at (i32.const 4608))))
               (br_if $l (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
             (if (i64.ne (global.get $a) (i64.const 5)) (then (return (i64.const -1))))
             (if (f64.ne (global.get $b) (f64.const 1.5)) (then (return (i64.const -2))))
             (local.get $n))"#,
    )
}

/// How written pages are found, and how memories lie: a packed one is reset and shrinks in other ways
/// than a wide one.
type Way = (Method, MemoryLayout);

const WAYS: [Way; 6] = [
    (Method::Scan, MemoryLayout::Packed),
    (Method::Bits, MemoryLayout::Packed),
    (Method::Compare, MemoryLayout::Packed),
    (Method::Scan, MemoryLayout::Wide),
    (Method::Bits, MemoryLayout::Wide),
    (Method::Compare, MemoryLayout::Wide),
];

fn world((method, layout): Way) -> World {
    let world = World::new(Setup {
        frames: 4,
        engine: EngineConfig {
            page_map: Some(method),
            layout,
            ..EngineConfig::default()
        },
        ..Setup::default()
    });
    world.deploy("secret", &guest());
    world
}

/// More new processes than there are frames: none sees the secret, and all
/// begin with the memory that a process begins with.
fn no_frame_has(world: &World, way: Way, how: &str) {
    for _ in 0..10 {
        let pid = world.spawn("secret");
        assert_eq!(world.ask(pid, COUNT, &[]).number(), 0, "{way:?}, {how}");
        assert_eq!(world.ask(pid, PAGES, &[]).number(), 2, "{way:?}, {how}");
    }
}

#[test]
fn a_paged_out_process_leaves_no_memory_behind() {
    for way in WAYS {
        let world = world(way);
        let pids: Vec<_> = (0..6).map(|_| world.spawn("secret")).collect();
        for pid in &pids {
            assert_eq!(world.ask(*pid, FILL, &[]).number(), 1);
        }
        no_frame_has(&world, way, "paged out");
        // And it finds its own memory again: all but the header, the buffers
        // and the dead stack.
        for pid in pids {
            let count = world.ask(pid, COUNT, &[]);
            assert_eq!(count, Answer::Reply((-1i64).to_le_bytes().to_vec()));
        }
    }
}

#[test]
fn a_process_that_grew_leaves_no_memory_behind() {
    for way in WAYS {
        let world = world(way);
        for _ in 0..6 {
            let pid = world.spawn("secret");
            assert_eq!(world.ask(pid, GROW_AND_FILL, &[]).number(), 1);
        }
        no_frame_has(&world, way, "paged out after growth");
    }
}

/// A frame whose memory has grown must not pass for one of the first size.
#[test]
fn a_process_that_grew_and_ended_leaves_no_larger_memory_behind() {
    for way in WAYS {
        let world = world(way);
        for _ in 0..4 {
            let pid = world.spawn("secret");
            assert_eq!(world.ask(pid, GROW_AND_FILL, &[]).number(), 1);
            world.kill(pid);
            assert!(world.settle(1000));
        }
        no_frame_has(&world, way, "killed after growth");
    }
}

#[test]
fn a_process_that_trapped_or_exited_leaves_no_memory_behind() {
    for way in WAYS {
        for tag in [TRAP, EXIT] {
            let world = world(way);
            for _ in 0..6 {
                let pid = world.spawn("secret");
                assert!(matches!(world.ask(pid, tag, &[]), Answer::Down(..)));
            }
            no_frame_has(&world, way, "trapped");
        }
    }
}

#[test]
fn a_process_killed_while_suspended_leaves_no_memory_behind() {
    for way in WAYS {
        for tag in [SLEEP, SPIN] {
            let world = world(way);
            for _ in 0..4 {
                let victim = world.spawn("secret");
                let reference = world.request(victim, tag, &[]);
                world.link(victim);
                for _ in 0..50 {
                    world.turn();
                }
                assert_eq!(world.answer(reference), Answer::Nothing);
                world.kill(victim);
                assert!(world.settle(1000));
                assert!(matches!(world.answer(reference), Answer::Down(2, _)));
                let told = world.heard(|m| m.kind == Kind::Exit && m.sender == victim);
                assert_eq!(told.unwrap().reason, 2);
            }
            assert_eq!(
                world.executor.frames().blocked,
                0,
                "no process blocks any more"
            );
            no_frame_has(&world, way, "killed while suspended");
        }
    }
}
