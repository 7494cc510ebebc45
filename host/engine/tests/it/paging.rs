//! Few frames and many modules: which process gets a frame, and that one always does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_abi::{Code, Reason};
use exuvia_engine::Method;
use exuvia_process::{Limits, Pid};

use crate::world::{Answer, Setup, World, answering};

/// As few as there can be: two versions get two each, and two may block.
fn small() -> World {
    World::new(Setup {
        frames: 4,
        ..Setup::default()
    })
}

/// Counts its requests, and answers `thousands` and the count. Tag 9 sleeps.
fn counting(thousands: u64) -> String {
    answering(
        r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#,
        &format!(
            r#"(if (i32.eq (local.get $tag) (i32.const 9)) (then
                 (return (i64.extend_i32_s (call $sleep (i64.const 1000))))))
               (i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
               (i64.add (i64.const {}) (i64.load (i32.const 8192)))"#,
            thousands * 1000
        ),
        "",
    )
}

fn born(world: &World, module: &str, thousands: u64) -> Pid {
    let pid = world.spawn(module);
    assert_eq!(world.ask(pid, 0, &[]).number(), thousands * 1000 + 1);
    pid
}

/// A place that is listed for one version and gets a frame of another: the
/// first version must not page that one out for a frame of its own.
#[test]
fn a_reused_slot_is_not_taken_for_the_version_before() {
    let world = small();
    world.deploy("a", &counting(1));
    world.deploy("b", &counting(2));
    world.deploy("c", &counting(3));
    // Two frames of `a` come to rest, and their processes end.
    for pid in [born(&world, "a", 1), born(&world, "a", 1)] {
        world.kill(pid);
    }
    assert!(world.settle(100));
    // `b` fills the node, `c` gets the places that `a` had.
    let others = [
        (born(&world, "b", 2), 2),
        (born(&world, "b", 2), 2),
        (born(&world, "c", 3), 3),
        (born(&world, "c", 3), 3),
    ];
    let again: Vec<Pid> = (0..6).map(|_| born(&world, "a", 1)).collect();
    for count in 2..5 {
        for pid in &again {
            assert_eq!(world.ask(*pid, 0, &[]).number(), 1000 + count);
        }
        for (pid, thousands) in others {
            assert_eq!(world.ask(pid, 0, &[]).number(), thousands * 1000 + count);
        }
    }
}

/// The version with most frames has none to give, since its processes block:
/// then another gives one, and there are not more frames than are kept.
#[test]
fn a_version_with_most_frames_that_cannot_give_one_is_skipped() {
    let world = small();
    for thousands in 1..10 {
        world.deploy(&format!("m{thousands}"), &counting(thousands));
    }
    for _ in 0..2 {
        world.request(world.spawn("m1"), 9, &[]);
    }
    assert!(world.settle(100));
    let counts = world.executor.frames();
    assert_eq!((counts.live, counts.blocked), (2, 2));
    // Each module wants a frame, more modules than there are places.
    for thousands in 2..10 {
        born(&world, &format!("m{thousands}"), thousands);
        assert!(world.executor.frames().live <= 4);
    }
    // And so does the version with most.
    let pid = born(&world, "m1", 1);
    assert_eq!(world.ask(pid, 0, &[]).number(), 1002);
    assert!(world.executor.frames().live <= 4);
}

/// A process of a resident-only module keeps its frame anyway: it takes no
/// second place of those that may block when it does.
#[test]
fn a_process_that_keeps_its_frame_anyway_can_always_block() {
    let world = small();
    let wat = answering(
        r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))"#,
        r#"(table.set (i32.const 0) (ref.func $f))
           (i64.extend_i32_s (call $sleep (i64.const 1000)))"#,
        "(table 1 4 funcref) (elem declare func $f) (func $f)",
    );
    world.deploy("table", &wat);
    world.deploy("plain", &counting(1));
    let asked: Vec<u64> = (0..2)
        .map(|_| world.request(world.spawn("table"), 0, &[]))
        .collect();
    assert!(world.settle(100));
    for reference in &asked {
        assert_eq!(world.answer(*reference), Answer::Nothing);
    }
    assert_eq!(world.executor.frames().blocked, 2);
    // All others are told.
    let limit = (Code::Limit as i64).cast_unsigned();
    assert_eq!(world.ask(world.spawn("plain"), 9, &[]).number(), limit);
    world.advance(1000);
    assert!(world.settle(100));
    for reference in asked {
        assert_eq!(world.answer(reference).number(), 0);
    }
    assert_eq!(world.executor.frames().blocked, 2);
}

/// Tag 1 asks for more memory than there may be, 2 for some that there is, 4 traps, 8
/// logs before it does; in this order, in one handler.
fn growing() -> String {
    answering(
        r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
           (import "exuvia" "clock" (func $clock (param i32) (result i64)))"#,
        r#"(if (i32.and (local.get $tag) (i32.const 1)) (then
             (if (i32.ne (memory.grow (i32.const 2)) (i32.const -1)) (then (return (i64.const -1))))))
           (if (i32.and (local.get $tag) (i32.const 2)) (then
             (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (return (i64.const -2))))))
           (if (i32.and (local.get $tag) (i32.const 16)) (then (drop (call $clock (i32.const 0)))))
           (if (i32.and (local.get $tag) (i32.const 8)) (then
             (drop (call $log (i32.const 1) (i32.const 5000) (i32.const 9)))))
           (if (i32.and (local.get $tag) (i32.const 4)) (then unreachable))
           (i64.const 7)"#,
        r#"(data (i32.const 5000) "no memory")"#,
    )
}

/// How a process of three pages of memory ends that gets these requests at once.
fn end_of(tags: &[u32]) -> (i32, String) {
    let world = small();
    world.deploy("m", &growing());
    let limits = Arc::new(Limits {
        memory: 3 << 16,
        ..Limits::default()
    });
    let pid = world.spawn_with("m", &limits);
    let asked: Vec<u64> = tags
        .iter()
        .map(|tag| world.request(pid, *tag, &[]))
        .collect();
    assert!(world.settle(100));
    let (last, before) = asked.split_last().unwrap();
    for reference in before {
        assert_eq!(world.answer(*reference).number(), 7);
    }
    match world.answer(*last) {
        Answer::Down(code, text) => (code, text),
        other => panic!("it went on: {other:?}"),
    }
}

#[test]
fn a_trap_for_lack_of_memory_says_so() {
    let (code, text) = end_of(&[1 | 4]);
    assert_eq!(code, Reason::MEMORY.0);
    assert!(text.starts_with("memory could not grow"), "{text}");
    // Most languages say so first.
    let (code, text) = end_of(&[1 | 4 | 8]);
    assert_eq!(code, Reason::MEMORY.0);
    assert!(text.contains("no memory"), "{text}");
}

#[test]
fn a_trap_after_a_survived_lack_of_memory_is_a_trap() {
    // With another message; with the next host call; with less memory.
    for tags in [&[1, 4][..], &[1 | 4 | 16], &[1 | 2 | 4]] {
        let (code, text) = end_of(tags);
        assert_eq!(code, Reason::TRAP.0, "{tags:?}: {text}");
        assert!(!text.contains("memory could not grow"), "{tags:?}: {text}");
    }
}

/// Only a stack that lies below all data is dead below its pointer.
#[test]
fn data_below_the_stack_is_kept() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    let count = "(i64.store (i32.const 8192) (i64.add (i64.load (i32.const 8192)) (i64.const 1)))
        (i64.add (i64.mul (i64.load (i32.const 8192)) (i64.const 1000)) (i64.load (i32.const 1024)))";
    let stack =
        r#"(global $__stack_pointer (mut i32) (i32.const 66560)) (data (i32.const 1024) "\07")"#;
    world.deploy("m", &answering("", count, stack));
    let pids: Vec<_> = (0..8).map(|_| world.spawn("m")).collect();
    for round in 1..4 {
        for pid in &pids {
            assert_eq!(world.ask(*pid, 0, &[]).number(), round * 1000 + 7);
        }
    }
    assert!(world.executor.metrics().page_outs.load(Ordering::Relaxed) > 0);
}

/// What initialization wrote is shared by all frames until a process writes there; and a frame that
/// changes hands, or has given its pages back, shows it as it was.
#[test]
fn frames_share_what_initialization_wrote_until_they_write_it() {
    const FRAMES: u64 = 4;
    const PAGES: u64 = 16;
    // From 64 KiB on, so many pages of 4 KiB hold 7 everywhere. Tag 0 writes one word in the page at
    // the middle, tag 1 sums up one word of each page.
    let wat = answering(
        "",
        r#"(local $at i32) (local $sum i64)
           (if (i32.eqz (local.get $tag)) (then
             (i64.store (i32.const 98304) (i64.add (i64.load (i32.const 98304)) (i64.const 1)))))
           (local.set $at (i32.const 65536))
           (loop $page
             (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
             (local.set $at (i32.add (local.get $at) (i32.const 4096)))
             (br_if $page (i32.lt_u (local.get $at) (i32.const 131072))))
           (local.get $sum)"#,
        r#"(func (export "_initialize")
             (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536)))"#,
    );
    let world = small();
    world.deploy("m", &wat);
    let clean = 0x0707_0707_0707_0707u64.wrapping_mul(PAGES);
    let pids: Vec<_> = (0..FRAMES).map(|_| world.spawn("m")).collect();
    for pid in &pids {
        assert_eq!(world.ask(*pid, 1, &[]).number(), clean);
    }
    // They have read it all, and a page or two is their own.
    let read = world.executor.frames();
    if world.engine.page_map() != Method::Compare {
        let all = read.live as u64 * PAGES * 4096;
        assert!(read.live > 1 && read.bytes < all / 2, "{read:?}");
    }
    for (at, pid) in pids.iter().enumerate() {
        for round in 1..=at as u64 + 1 {
            assert_eq!(world.ask(*pid, 0, &[]).number(), clean.wrapping_add(round));
        }
    }
    // Others get the frames, and give them back.
    let others: Vec<_> = (0..FRAMES).map(|_| world.spawn("m")).collect();
    for pid in &others {
        assert_eq!(world.ask(*pid, 1, &[]).number(), clean);
    }
    for (at, pid) in pids.iter().enumerate() {
        let own = clean.wrapping_add(at as u64 + 1);
        assert_eq!(world.ask(*pid, 1, &[]).number(), own);
    }
}

/// What one thread knows of a frame's pages is not true any more when a process has run in it on
/// another: what it wrote there is kept for it, and nobody else sees it.
#[test]
fn pages_written_on_another_thread_are_found() {
    const PROCESSES: usize = 6;
    // Tag 8 to 31: adds one to the first word of that page of 4 KiB. From 40 on: reads that of the
    // page 32 below.
    let wat = answering(
        "",
        r#"(local $at i32)
           (local.set $at (i32.shl (i32.and (local.get $tag) (i32.const 31)) (i32.const 12)))
           (if (i32.lt_u (local.get $tag) (i32.const 32)) (then
             (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.const 1)))))
           (i64.load (local.get $at))"#,
        "",
    );
    let world = small();
    world.deploy("m", &wat);
    let pids: Vec<_> = (0..PROCESSES).map(|_| world.spawn("m")).collect();
    let mut expected = [[0; 32]; PROCESSES];
    let write = |at: usize, page: usize| world.ask(pids[at], page as u32, &[]).number();
    let read = |at: usize, page: usize| world.ask(pids[at], 32 + page as u32, &[]).number();
    std::thread::scope(|scope| {
        // One for all rounds: to make one is a fault of ours, and then we would look anew.
        let (ask, asked) = std::sync::mpsc::channel();
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            for (at, page) in asked {
                tell.send(write(at, page)).unwrap();
            }
        });
        // All frames have been read everywhere: no read is a fault any more.
        for page in 8..32 {
            for at in (0..PROCESSES).chain((0..PROCESSES).rev()) {
                assert_eq!(read(at, page), 0);
            }
        }
        for round in 0..48 {
            let (at, page) = (round % PROCESSES, 8 + round / 2);
            // It is in a frame that this thread has used last.
            assert_eq!(read(at, page), expected[at][page]);
            let answer = match round % 4 {
                0 => write(at, page),
                _ => {
                    ask.send((at, page)).unwrap();
                    told.recv().unwrap()
                }
            };
            expected[at][page] += 1;
            assert_eq!(answer, expected[at][page]);
            // Here the frames change hands.
            for (at, pages) in expected.iter().enumerate() {
                for page in [page, 8 + round / 4] {
                    assert_eq!(read(at, page), pages[page], "round {round}, page {page}");
                }
            }
        }
        drop(ask);
    });
}
