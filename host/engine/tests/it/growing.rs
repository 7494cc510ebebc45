//! Processes that grow their memory, as any with an allocator does: the frames
//! that they leave are resized for the next process, and unused ones are freed.

use std::sync::atomic::Ordering;

use exuvia_process::Pid;

use crate::world::{Answer, Setup, World, answering};

/// Grows by so many pages as the tag says. Answers how many there were, if what is new
/// was all zero at its ends, and leaves something there.
fn growing() -> String {
    answering(
        "",
        r#"(local $size i32) (local $first i32) (local $last i32) (local $was i64)
           (local.set $size (memory.grow (local.get $tag)))
           (if (local.get $tag) (then
             (local.set $first (i32.shl (local.get $size) (i32.const 16)))
             (local.set $last (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))
             (local.set $was (i64.or (i64.load (local.get $first)) (i64.load (local.get $last))))
             (i64.store (local.get $first) (i64.const -1))
             (i64.store (local.get $last) (i64.const -1))
             (if (i64.ne (local.get $was) (i64.const 0)) (then (return (i64.const -1))))))
           (i64.extend_i32_u (local.get $size))"#,
        "",
    )
}

fn made(world: &World) -> u64 {
    world.executor.metrics().frames_made.load(Ordering::Relaxed)
}

/// One after another; each finds the memory of a new process.
fn spawn_and_kill(world: &World, count: u32, pages: impl Fn(u32) -> u32) {
    for number in 0..count {
        let pid = world.spawn("m");
        assert_eq!(world.ask(pid, pages(number), &[]).number(), 2);
        world.kill(pid);
        assert!(world.settle(10));
        world.forget_heard();
    }
}

#[test]
fn new_processes_that_grow_reuse_the_same_frames() {
    let world = World::new(Setup::default());
    world.deploy("m", &growing());
    spawn_and_kill(&world, 5_000, |_| 1);
    let counts = world.executor.frames();
    assert!(made(&world) <= 2 && counts.live <= 2, "{counts:?}");
}

/// One that grows much does not enlarge the others, nor the other way round.
#[test]
fn new_processes_that_grow_differently_reuse_the_same_frames() {
    let world = World::new(Setup::default());
    world.deploy("m", &growing());
    spawn_and_kill(&world, 200, |number| number * 7 % 5);
    assert!(made(&world) <= 2);
}

/// Those that are paged out come back in the size that they had, into frames of any.
#[test]
fn processes_of_many_sizes_take_turns_in_few_frames() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    world.deploy("m", &growing());
    let pids: Vec<Pid> = (0..24).map(|_| world.spawn("m")).collect();
    let sizes = |number: usize| number as u32 % 5;
    for (number, pid) in pids.iter().enumerate() {
        assert_eq!(world.ask(*pid, sizes(number), &[]).number(), 2);
    }
    for _ in 0..3 {
        for (number, pid) in pids.iter().enumerate() {
            let size = u64::from(2 + sizes(number));
            assert_eq!(world.ask(*pid, 0, &[]).number(), size);
        }
    }
    assert!(world.executor.metrics().page_ins.load(Ordering::Relaxed) > 24);
    // As many as there may be, and those that were outdated once: see `stack`.
    assert!(made(&world) <= 16, "{} frames", made(&world));
    // Somebody new is of no size but the base's, and what lies beyond is out of reach.
    spawn_and_kill(&world, 20, |number| number % 6);
}

/// The pages that one leaves behind the end stay with the frame: when the next process grows over them,
/// what it writes there takes no page fault, and is part of its image all the same.
#[test]
fn what_a_process_writes_where_an_earlier_one_has_grown_is_kept() {
    let world = World::new(Setup {
        frames: 1,
        ..Setup::default()
    });
    let guest = answering(
        "",
        r#"(if (local.get $tag) (then
             (drop (memory.grow (i32.const 1)))
             (i64.store (i32.const 131072) (i64.extend_i32_u (local.get $tag)))
             (i64.store (i32.const 135168) (i64.extend_i32_u (local.get $tag)))))
           (i64.add (i64.load (i32.const 131072)) (i64.load (i32.const 135168)))"#,
        "",
    );
    world.deploy("m", &guest);
    let mut pids = Vec::new();
    for number in 1..20 {
        let pid = world.spawn("m");
        assert_eq!(world.ask(pid, number, &[]).number(), 2 * u64::from(number));
        world.kill(pid);
        assert!(world.settle(10));
        let pid = world.spawn("m");
        assert_eq!(
            world.ask(pid, 100 + number, &[]).number(),
            2 * u64::from(100 + number)
        );
        pids.push((pid, 100 + number));
    }
    for _ in 0..2 {
        for (pid, number) in &pids {
            assert_eq!(world.ask(*pid, 0, &[]).number(), 2 * u64::from(*number));
        }
    }
    assert!(world.executor.metrics().page_ins.load(Ordering::Relaxed) > 19);
}

/// What lies behind the end of a frame that was made smaller is out of reach.
#[test]
fn the_end_of_memory_is_where_the_guest_sees_it() {
    let world = World::new(Setup::default());
    let beyond = answering(
        "",
        r#"(if (local.get $tag) (then (drop (memory.grow (local.get $tag)))))
           (if (i32.eqz (local.get $tag)) (then
             (return (i64.load (i32.shl (memory.size) (i32.const 16))))))
           (i64.load (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))"#,
        "",
    );
    world.deploy("m", &beyond);
    for round in 0..20 {
        let pid = world.spawn("m");
        assert_eq!(world.ask(pid, 1 + round % 4, &[]).number(), 0);
        world.kill(pid);
        assert!(world.settle(10));
        let pid = world.spawn("m");
        match world.ask(pid, 0, &[]) {
            Answer::Down(_, text) => assert!(text.contains("out of bounds"), "{text}"),
            answer => panic!("{answer:?}"),
        }
    }
    assert!(made(&world) <= 2);
}

/// `load` allocates, and so grows the memory of the process that crosses.
#[test]
fn swaps_with_a_load_that_grows_reuse_the_same_frames() {
    const PROCESSES: usize = 8;
    let version = |number: u64| {
        answering(
            r#"(import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
               (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))"#,
            &format!("(i64.add (i64.load (i32.const 131072)) (i64.const {number}))"),
            r#"(func (export "warm_up") (drop (memory.grow (i32.const 1))))
               (func (export "save") (result i32)
                 (call $put (i32.const 131072) (i32.const 8)))
               (func (export "load") (param i32 i32) (result i32)
                 (drop (memory.grow (i32.const 1)))
                 (drop (call $get (i32.const 131072) (i32.const 8)))
                 (i64.store (i32.const 131072) (i64.add (i64.load (i32.const 131072)) (i64.const 10)))
                 (i64.store (i32.const 196608) (i64.const 7))
                 (i32.const 0))"#,
        )
    };
    let world = World::new(Setup {
        frames: 64,
        ..Setup::default()
    });
    let versions: Vec<_> = (0..3)
        .map(|number| {
            let wasm = wat::parse_str(version(number)).unwrap();
            world.load("m", &wasm).unwrap()
        })
        .collect();
    world.commit(&versions[0]);
    let pids: Vec<Pid> = (0..PROCESSES).map(|_| world.spawn("m")).collect();
    let ask_all = |swaps: u64| {
        for pid in &pids {
            let answer = world.ask(*pid, 0, &[]).number();
            assert_eq!(answer, swaps * 10 + swaps % 3);
        }
        world.forget_heard();
    };
    ask_all(0);
    for swap in 1..=300 {
        world.commit(&versions[swap as usize % 3]);
        ask_all(swap);
    }
    let counts = world.executor.frames();
    // Each version has those of its processes, and one for `save`, on either stack.
    let most = 3 * 2 * (PROCESSES + 1);
    assert!(
        made(&world) <= most as u64,
        "{} frames, {counts:?}",
        made(&world)
    );
}

/// After a burst; but not while they are in use now and then.
#[test]
fn unused_frames_are_freed() {
    const MANY: usize = 60;
    let world = World::new(Setup {
        frames: 64,
        ..Setup::default()
    });
    world.deploy("m", &growing());
    let burst = |grow: u32| {
        let pids: Vec<Pid> = (0..MANY).map(|_| world.spawn("m")).collect();
        // Whoever is asked again soon has a frame of its own.
        for _ in 0..3 {
            for pid in &pids {
                let _ = world.ask(*pid, grow, &[]).number();
            }
        }
        let live = world.executor.frames().live;
        for pid in &pids {
            world.kill(*pid);
        }
        assert!(world.settle(1_000));
        world.forget_heard();
        live
    };
    let live = burst(1);
    assert!(live > 20, "{live} frames");
    let _ = world.executor.trim_frames();
    // Wanted since it was looked last.
    assert_eq!(world.executor.frames().live, live);
    let before = made(&world);
    for round in 0..20 {
        burst(round % 3);
        let _ = world.executor.trim_frames();
    }
    assert!(
        made(&world) <= before + MANY as u64,
        "{} frames",
        made(&world)
    );
    // One stays.
    let pid = world.spawn("m");
    assert_eq!(world.ask(pid, 0, &[]).number(), 2);
    for _ in 0..60 {
        let _ = world.executor.trim_frames();
    }
    let counts = world.executor.frames();
    assert!(counts.live <= 9 && counts.free > 0, "{counts:?}");
    // Nobody runs the version.
    world.kill(pid);
    assert!(world.settle(10));
    for _ in 0..60 {
        let _ = world.executor.trim_frames();
    }
    let counts = world.executor.frames();
    assert_eq!((counts.live, counts.vacant), (0, counts.slots));
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 2);
}
