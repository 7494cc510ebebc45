//! A reused frame is indistinguishable from a fresh instance: random programs give
//! the same replies when many processes share four frames as when each has a
//! fresh frame.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use exuvia_engine::{EngineConfig, MemoryLayout, Method};
use exuvia_process::Limits;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::world::{Answer, Setup, World, answering, cases, is_long};

/// One step of a handler. `acc` is a local that everything is mixed into.
#[derive(Clone, Debug)]
enum Step {
    Load {
        at: u32,
        width: u8,
    },
    Store {
        at: u32,
        width: u8,
    },
    Global(u8),
    Grow(u8),
    Fill {
        at: u32,
        length: u32,
    },
    Copy {
        from: u32,
        to: u32,
        length: u32,
    },
    /// Takes room on the stack, writes it, calls on, reads it.
    Stack(u8),
    Indirect(u8),
    /// Runs long enough to be preempted.
    Spin(u16),
    /// Reads behind the end of memory, which traps.
    BeyondIf(u8, u32),
    /// Leaves the stack pointer where it must not be, then traps.
    TrapIf(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<u32>;
    prop_oneof![
        4 => (at(), 0u8..4).prop_map(|(at, width)| Step::Load { at, width }),
        6 => (at(), 0u8..4).prop_map(|(at, width)| Step::Store { at, width }),
        3 => (0u8..6).prop_map(Step::Global),
        3 => (0u8..3).prop_map(Step::Grow),
        // Where the maximum allows it, at once to near the largest size in the arena, or out of it.
        1 => (55u8..69).prop_map(Step::Grow),
        1 => (at(), 0u32..120_000).prop_map(|(at, length)| Step::Fill { at, length }),
        1 => (at(), at(), 0u32..100_000).prop_map(|(from, to, length)| Step::Copy { from, to, length }),
        2 => (0u8..8).prop_map(Step::Stack),
        1 => any::<u8>().prop_map(Step::Indirect),
        1 => (0u16..20_000).prop_map(Step::Spin),
        1 => (0u8..4, 0u32..0x4_0000).prop_map(|(chance, at)| Step::BeyondIf(chance, at)),
        1 => any::<u8>().prop_map(Step::TrapIf),
    ]
}

/// Mixes the value on the stack into `acc`.
const MIX: &str = "(local.set $acc (i64.xor (i64.mul (local.get $acc) (i64.const 0x100000001b3)) (local.get $x)))";

fn emit(step: &Step) -> String {
    let mixed = |value: &str| format!("(local.set $x {value}) {MIX}\n");
    let place = |at: u32, room: u32| {
        format!(
            "(call $place (i32.const {}) (i32.const {room}))",
            at.cast_signed()
        )
    };
    match step {
        Step::Load { at, width } => {
            let load =
                ["i64.load8_u", "i64.load16_s", "i64.load32_u", "i64.load"][usize::from(*width)];
            mixed(&format!("({load} {})", place(*at, 8)))
        }
        Step::Store { at, width } => {
            let store =
                ["i64.store8", "i64.store16", "i64.store32", "i64.store"][usize::from(*width)];
            format!("({store} {} (local.get $acc))\n", place(*at, 8))
        }
        Step::Global(0) => "(global.set $g0 (i32.wrap_i64 (local.get $acc)))\n".into(),
        Step::Global(1) => "(global.set $g1 (local.get $acc))\n".into(),
        Step::Global(2) => "(global.set $g2 (f32.add (global.get $g2) (f32.const 0.5)))\n".into(),
        Step::Global(3) => "(global.set $g3 (f64.reinterpret_i64 (local.get $acc)))\n".into(),
        Step::Global(4) => "(global.set $g4 (i64x2.splat (local.get $acc)))\n".into(),
        Step::Global(_) => mixed("(call $globals)"),
        Step::Grow(pages) => mixed(&format!(
            "(i64.extend_i32_s (memory.grow (i32.const {pages})))"
        )),
        Step::Fill { at, length } => format!(
            "(memory.fill {} (i32.wrap_i64 (local.get $acc)) (i32.const {length}))\n",
            place(*at, *length)
        ),
        Step::Copy { from, to, length } => format!(
            "(memory.copy {} {} (i32.const {length}))\n",
            place(*to, *length),
            place(*from, *length)
        ),
        Step::Stack(depth) => mixed(&format!(
            "(call $deep (i32.const {depth}) (local.get $acc))"
        )),
        Step::Indirect(slot) => mixed(&format!(
            "(call_indirect (type $unary) (local.get $acc) (i32.const {}))",
            slot % 3
        )),
        Step::Spin(turns) => format!(
            "(local.set $n (i32.const {turns})) (loop $l (if (local.get $n) (then
               (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br $l))))\n"
        ),
        // One time in four it traps, and else the end is where it was.
        Step::BeyondIf(chance, at) => format!(
            "(if (i64.eq (i64.and (local.get $acc) (i64.const 3)) (i64.const {chance}))
               (then (drop (i32.load8_u (i32.add (i32.shl (memory.size) (i32.const 16)) (i32.const {at})))) unreachable))\n"
        ),
        Step::TrapIf(chance) => format!(
            "(if (i64.eq (i64.and (local.get $acc) (i64.const 255)) (i64.const {chance}))
               (then (global.set $__stack_pointer (i32.const 99)) unreachable))\n"
        ),
    }
}

/// A program: a handler for each of the tags from 0 on, WAITING instead of
/// REST if so chosen, one message an entry if so chosen.
#[derive(Clone, Debug)]
struct Program {
    handlers: Vec<Vec<Step>>,
    waits: bool,
    one_by_one: bool,
    init: Vec<Step>,
    /// The most pages of its memory.
    most_pages: u64,
}

/// The most pages of most programs, and of the others. Those leave the arena, whose largest places have
/// 64 pages.
const FEW_PAGES: u64 = 9;
const MANY_PAGES: u64 = 70;

fn program() -> impl Strategy<Value = Program> {
    let steps = || prop::collection::vec(step(), 1..8);
    let handlers = prop::collection::vec(steps(), 1..4);
    // Few, since their checksums take longer. Each has a handler that grows much.
    let large = prop_oneof![7 => Just(None), 1 => (60u8..68).prop_map(Some)];
    (handlers, any::<bool>(), any::<bool>(), steps(), large).prop_map(
        |(mut handlers, waits, one_by_one, init, large)| {
            if let Some(pages) = large {
                handlers[0].insert(0, Step::Grow(pages));
            }
            Program {
                handlers,
                waits,
                one_by_one,
                init: init
                    .into_iter()
                    .filter(|step| !matches!(step, Step::TrapIf(_) | Step::BeyondIf(..)))
                    .collect(),
                most_pages: large.map_or(FEW_PAGES, |_| MANY_PAGES),
            }
        },
    )
}

fn wat(program: &Program) -> String {
    let mut handlers = String::new();
    let mut dispatch = String::new();
    for (number, steps) in program.handlers.iter().enumerate() {
        let body: String = steps.iter().map(emit).collect();
        handlers += &format!(
            "(func $h{number} (param $acc i64) (result i64) (local $x i64) (local $n i32)\n{body} (local.get $acc))\n"
        );
        dispatch += &format!(
            "(if (i32.eq (local.get $tag) (i32.const {number})) (then (local.set $acc (call $h{number} (local.get $acc)))))\n"
        );
    }
    let init: String = program.init.iter().map(emit).collect();
    let rest = i32::from(program.waits);
    let most_pages = program.most_pages;
    let next = if program.one_by_one {
        format!("(return (i32.const {rest}))")
    } else {
        "(br $next)".into()
    };
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (type $unary (func (param i64) (result i64)))
  (memory (export "memory") 2 {most_pages})
  (table 3 funcref)
  (elem (i32.const 0) $triple $negate $triple)
  (global $__stack_pointer (mut i32) (i32.const 4096))
  (global $g0 (mut i32) (i32.const 7))
  (global $g1 (mut i64) (i64.const -7))
  (global $g2 (mut f32) (f32.const 0.25))
  (global $g3 (mut f64) (f64.const -0))
  (global $g4 (mut v128) (v128.const i64x2 1 2))
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 4096) "\30")
  (data (i32.const 4700) "some data in the middle of a page")
  (data (i32.const 70000) "and some in another")
  (func $triple (type $unary) (i64.mul (local.get 0) (i64.const 3)))
  (func $negate (type $unary) (i64.sub (i64.const 0) (local.get 0)))
  ;; A place above the buffers with so much room behind it.
  (func $place (param $at i32) (param $room i32) (result i32)
    (i32.add (i32.const 4608) (i32.rem_u (local.get $at)
      (i32.sub (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4608))
        (local.get $room)))))
  (func $globals (result i64)
    (i64.xor (i64.xor (i64.extend_i32_u (global.get $g0)) (global.get $g1))
      (i64.xor (i64.extend_i32_u (i32.reinterpret_f32 (global.get $g2)))
        (i64.xor (i64.reinterpret_f64 (global.get $g3))
          (i64.xor (i64x2.extract_lane 0 (global.get $g4))
            (i64.rotl (i64x2.extract_lane 1 (global.get $g4)) (i64.const 9)))))))
  (func $deep (param $depth i32) (param $v i64) (result i64) (local $sp i32)
    (local.set $sp (i32.sub (global.get $__stack_pointer) (i32.const 128)))
    (global.set $__stack_pointer (local.get $sp))
    (i64.store offset=40 (local.get $sp) (local.get $v))
    (if (local.get $depth) (then
      (local.set $v (call $deep (i32.sub (local.get $depth) (i32.const 1)) (i64.rotl (local.get $v) (i64.const 5))))))
    (local.set $v (i64.add (local.get $v) (i64.load offset=40 (local.get $sp))))
    (global.set $__stack_pointer (i32.add (local.get $sp) (i32.const 128)))
    (local.get $v))
  (func $checksum (result i64) (local $at i32) (local $x i64) (local $acc i64)
    (local.set $at (i32.const 4608))
    (loop $l
      (local.set $x (i64.load (local.get $at)))
      {MIX}
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))
    (local.get $acc))
  {handlers}
  (func (export "warm_up") (local $acc i64) (local $x i64) (local $n i32)
    (local.set $acc (i64.const 12345))
    {init})
  (func (export "run") (result i32) (local $tag i32) (local $acc i64)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const {rest}))))
      (if (i32.gt_u (i32.load (i32.const 4100)) (i32.const 1)) (then
        (local.set $tag (i32.load (i32.const 4128)))
        (local.set $acc (i64.load (i32.const 4224)))
        {dispatch}
        (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
          (i64.store (i32.const 4160) (local.get $acc))
          (i64.store (i32.const 4168) (call $checksum))
          (i64.store (i32.const 4176) (call $globals))
          (i32.store (i32.const 4184) (memory.size))
          (i32.store (i32.const 4188) (global.get $__stack_pointer))
          (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 4160) (i32.const 32)))))))
      {next})
    unreachable))"#
    )
}

/// What the outside does.
#[derive(Clone, Debug)]
enum Event {
    Ask(usize, u32, u64),
    Send(usize, u32, u64),
    /// Runs a few turns, so that kills and requests meet processes halfway.
    Turns(u8),
    Kill(usize),
}

/// `kills`: how many of about twenty events end a process, which another one succeeds.
fn event(processes: usize, kills: u32) -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..processes, 0u32..3, any::<u64>()).prop_map(|(p, t, v)| Event::Ask(p, t, v)),
        4 => (0..processes, 0u32..3, any::<u64>()).prop_map(|(p, t, v)| Event::Send(p, t, v)),
        2 => any::<u8>().prop_map(Event::Turns),
        kills => (0..processes).prop_map(Event::Kill),
    ]
}

const PROCESSES: usize = 9;

/// The memory limit of a process, in pages. Growth is denied at different sizes.
fn limit(program: &Program, number: u64) -> u64 {
    match program.most_pages > FEW_PAGES && !number.is_multiple_of(3) {
        // From 63 to 70.
        true => 62 + number,
        false => 3 + number % 7,
    }
}

/// Plays the events; answers all that could be seen, and how many processes were born. `fresh`: whoever
/// is born later gets a fresh frame.
fn play(world: &World, program: &Program, events: &[Event], fresh: bool) -> (Vec<Answer>, u64) {
    let version = world.deploy("p", &wat(program));
    let limits: Vec<_> = (0..PROCESSES as u64)
        .map(|number| {
            Arc::new(Limits {
                memory: limit(program, number) << 16,
                ..Limits::default()
            })
        })
        .collect();
    let count = Cell::new(0);
    let born = |n: usize| {
        count.set(count.get() + 1);
        if fresh {
            world.executor.forget(&version.artifact);
        }
        let pid = world.spawn_with("p", &limits[n]);
        // It takes its frame now.
        let reference = world.request(pid, 9, &[]);
        while world.answer(reference) == Answer::Nothing && world.turn() {}
        (pid, world.answer(reference))
    };
    let mut answers = Vec::new();
    let mut pids = Vec::new();
    for n in 0..PROCESSES {
        let (pid, answer) = born(n);
        pids.push(pid);
        answers.push(answer);
    }
    for event in events {
        match event {
            Event::Ask(n, tag, value) => {
                let answer = world.ask(pids[*n], *tag, &value.to_le_bytes());
                let dead = matches!(answer, Answer::Down(..));
                answers.push(answer);
                if dead {
                    let (pid, answer) = born(*n);
                    pids[*n] = pid;
                    answers.push(answer);
                }
            }
            Event::Send(n, tag, value) => world.send(pids[*n], *tag, &value.to_le_bytes()),
            Event::Turns(turns) => {
                let _ = world.settle(u32::from(*turns));
                // Only where memory is bounded this does anything.
                let _ = world.executor.trim_frames();
            }
            Event::Kill(n) => {
                world.kill(pids[*n]);
                let (pid, answer) = born(*n);
                pids[*n] = pid;
                answers.push(answer);
            }
        }
    }
    for pid in &pids {
        answers.push(world.ask(*pid, 9, &[]));
    }
    (answers, count.get())
}

fn world(method: Option<Method>, layout: MemoryLayout, frames: usize, frame_memory: u64) -> World {
    World::new(Setup {
        frames,
        frame_memory,
        engine: EngineConfig {
            page_map: method,
            layout,
            ..EngineConfig::default()
        },
        ..Setup::default()
    })
}

/// Whether an answer says that the guest had more pages than the largest place in the arena.
fn is_of_a_large_one(answer: &Answer) -> bool {
    let Answer::Reply(bytes) = answer else {
        return false;
    };
    u32::from_le_bytes(bytes[24..28].try_into().unwrap()) > 64
}

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    cases: Cell<u64>,
    /// Those with an answer of a guest whose memory is too large for the arena.
    large: Cell<u64>,
    /// Processes that were in no new frame.
    guests: Cell<u64>,
    /// How often a process began or went on in a frame that another one had had.
    reuses: Cell<u64>,
}

fn compare(program: &Program, events: &[Event], compared: &Compared) -> Result<(), TestCaseError> {
    let add = |count: &Cell<u64>, more: u64| count.set(count.get() + more);
    let reference = world(None, MemoryLayout::Wide, 1_000, u64::MAX);
    let (expected, _) = play(&reference, program, events, true);
    prop_assert!(expected.iter().all(|answer| *answer != Answer::Nothing));
    prop_assert_eq!(
        reference
            .executor
            .metrics()
            .page_outs
            .load(Ordering::Relaxed),
        0
    );
    // Frames whose pages are given back are as good as others.
    let little = 64 << 10;
    let ways = [Method::Scan, Method::Bits, Method::Compare];
    let ways = ways.map(|way| {
        use MemoryLayout::{Packed, Wide};
        [
            (way, Packed, u64::MAX),
            (way, Wide, u64::MAX),
            (way, Packed, little),
        ]
    });
    for (method, layout, frame_memory) in ways.into_iter().flatten() {
        let shared = world(Some(method), layout, 4, frame_memory);
        let (seen, born) = play(&shared, program, events, false);
        prop_assert_eq!(
            &seen,
            &expected,
            "{:?}, {:?}, {}",
            method,
            layout,
            frame_memory
        );
        let metrics = shared.executor.metrics();
        let page_ins = metrics.page_ins.load(Ordering::Relaxed);
        // Else nothing was tested.
        prop_assert!(page_ins > 0);
        let made = metrics.frames_made.load(Ordering::Relaxed);
        add(&compared.guests, born.saturating_sub(made));
        add(&compared.reuses, (born + page_ins).saturating_sub(made));
    }
    add(&compared.cases, 1);
    add(
        &compared.large,
        u64::from(expected.iter().any(is_of_a_large_one)),
    );
    Ok(())
}

/// `EXUVIA_TEST_LONG=1` asks for a million guests in reused frames, which takes a core twelve minutes.
#[test]
fn a_reused_frame_behaves_as_a_fresh_instance() {
    // Then there are more of them in each world, since that takes longer to make than it lives.
    let (guests, events, kills) = if is_long() {
        (1_000_000, 200, 6)
    } else {
        (0, 40, 1)
    };
    let programs = (
        program(),
        prop::collection::vec(event(PROCESSES, kills), 5..events),
    );
    let compared = Compared::default();
    loop {
        // A runner's number of cases is for its whole life.
        let mut runner = TestRunner::new(Config {
            cases: 24,
            ..cases(24)
        });
        let done = runner.run(&programs, |(program, events)| {
            compare(&program, &events, &compared)
        });
        if let Err(error) = done {
            panic!("{error}");
        }
        if compared.guests.get() >= guests {
            break;
        }
    }
    println!("{compared:?}");
}

/// The frames of one version are dropped for another's, time and again. A
/// process must never get a frame of the other: it would run the other's code.
#[test]
fn frames_that_change_their_version_run_the_right_code() {
    let world = World::new(Setup {
        frames: 4,
        processes: 64,
        ..Setup::default()
    });
    world.deploy("one", &answering("", "(i64.const 1)", ""));
    world.deploy("two", &answering("", "(i64.const 2)", ""));
    for round in 0..12 {
        for (module, number) in [("one", 1), ("two", 2)] {
            let pids: Vec<_> = (0..6).map(|_| world.spawn(module)).collect();
            // Who is asked again has a second chance, who is not is paged out.
            for pid in pids.iter().chain(&pids[..round % 4]) {
                assert_eq!(world.ask(*pid, 0, &[]).number(), number);
            }
            // Those that go leave frames that stand at the base.
            for pid in &pids[2..] {
                world.kill(*pid);
            }
            assert!(world.settle(10_000));
        }
    }
}
