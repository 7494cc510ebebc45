//! Modules with state that an image cannot hold: they run, and stay in
//! their frames. And modules whose initialization differs between processes.

use exuvia_engine::EngineConfig;

use crate::world::{Answer, Setup, World, answering, engine};

fn small() -> World {
    World::new(Setup {
        frames: 4,
        ..Setup::default()
    })
}

/// Changes its table (tag 1), or drops a segment (tag 2); answers what the
/// table's first function does.
const CHANGING: &str = r#"
    (if (i32.eq (local.get $tag) (i32.const 1)) (then (table.set (i32.const 0) (ref.func $two))))
    (if (i32.eq (local.get $tag) (i32.const 2)) (then (data.drop $more)))
    (if (i32.eq (local.get $tag) (i32.const 3)) (then
      (memory.init $more (i32.const 8192) (i32.const 0) (i32.const 4))))
    (call_indirect (type $number) (i32.const 0))"#;
const TABLE: &str = r#"
    (type $number (func (result i64)))
    (table 1 4 funcref) (elem (i32.const 0) $one) (elem declare func $two)
    (data $more "more")
    (func $one (type $number) (i64.const 1))
    (func $two (type $number) (i64.const 2))"#;

#[test]
fn a_changed_table_stays_with_its_process() {
    let world = small();
    let version = world.deploy("table", &answering("", CHANGING, TABLE));
    let reasons = version.artifact.resident_only();
    assert!(
        reasons.iter().any(|r| r.contains("changes table 0")),
        "{reasons:?}"
    );
    assert!(
        reasons.iter().any(|r| r.contains("drops data segment 1")),
        "{reasons:?}"
    );
    world.deploy("plain", &answering("", "(i64.const 5)", ""));
    let changed = world.spawn("table");
    assert_eq!(world.ask(changed, 1, &[]).number(), 2);
    let dropped = world.spawn("table");
    assert_eq!(world.ask(dropped, 2, &[]).number(), 1);
    for _ in 0..20 {
        let plain = world.spawn("plain");
        assert_eq!(world.ask(plain, 0, &[]).number(), 5);
    }
    assert_eq!(world.ask(changed, 0, &[]).number(), 2);
    assert!(matches!(world.ask(dropped, 3, &[]), Answer::Down(4, _)));
    world.kill(changed);
    assert!(world.settle(100));
    // Nobody gets what they changed.
    let fresh = world.spawn("table");
    assert_eq!(world.ask(fresh, 3, &[]).number(), 1);
}

/// As many of them as there is room for must not stop everybody else.
#[test]
fn resident_processes_leave_frames_to_others() {
    let world = small();
    world.deploy("table", &answering("", CHANGING, TABLE));
    world.deploy("plain", &answering("", "(i64.const 5)", ""));
    let plain = world.spawn("plain");
    for _ in 0..20 {
        let pid = world.spawn("table");
        world.request(pid, 1, &[]);
    }
    for _ in 0..2_000 {
        world.turn();
    }
    assert_eq!(world.ask(plain, 0, &[]).number(), 5);
}

#[test]
fn a_module_that_asks_for_the_clock_is_initialized_for_each_process() {
    let world = small();
    world.advance(1_000);
    let imports = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))"#;
    let wat = answering(
        imports,
        "(i64.load (i32.const 8192))",
        r#"(func $begin (i64.store (i32.const 8192) (call $clock (i32.const 0)))) (start $begin)"#,
    );
    world.deploy("born", &wat);
    let mut pids = Vec::new();
    for n in 0..10u64 {
        let pid = world.spawn("born");
        let born = (1_000 + n) * 1_000_000;
        assert_eq!(world.ask(pid, 0, &[]).number(), born);
        pids.push((pid, born));
        world.advance(1);
    }
    for (pid, born) in pids {
        assert_eq!(world.ask(pid, 0, &[]).number(), born);
    }
}

/// What start does only once in an instance would fail for the second process in a frame.
#[test]
fn a_start_function_can_drop_its_segments_and_ask_for_the_clock() {
    let world = small();
    let imports = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))"#;
    let wat = answering(
        imports,
        "(i64.load (i32.const 8192))",
        r#"(data $once "\2a\00\00\00\00\00\00\00")
           (func $begin
             (drop (call $clock (i32.const 0)))
             (memory.init $once (i32.const 8192) (i32.const 0) (i32.const 8))
             (data.drop $once))
           (start $begin)"#,
    );
    let version = world.deploy("once", &wat);
    assert!(!version.artifact.resident_only().is_empty());
    for _ in 0..10 {
        let pid = world.spawn("once");
        assert_eq!(world.ask(pid, 0, &[]).number(), 42);
        world.kill(pid);
        assert!(world.settle(100));
    }
}

/// Initialization takes as much memory as it gets: that is the same for the
/// base, for every frame, and whoever was in the frame before.
#[test]
fn initialization_finds_the_same_memory_limit_every_time() {
    for clock in ["", "(drop (call $clock (i32.const 0)))"] {
        let world = World::new(Setup {
            frames: 4,
            engine: EngineConfig {
                memory: 5 << 16,
                ..engine()
            },
            ..Setup::default()
        });
        let imports = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))"#;
        let greedy = format!(
            r#"(func (export "_initialize") {clock}
                 (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))"#
        );
        let wat = answering(imports, "(i64.extend_i32_u (memory.size))", &greedy);
        world.deploy("greedy", &wat);
        for round in 0..10 {
            let pid = world.spawn("greedy");
            assert_eq!(world.ask(pid, 0, &[]).number(), 5, "{clock} {round}");
            if round % 2 == 0 {
                world.kill(pid);
                assert!(world.settle(100));
            }
        }
    }
}

/// What it finds when it is loaded says nothing of later processes.
#[test]
fn an_initialization_that_fails_ends_its_process_alone() {
    // Between three years and six after the clock began to count.
    const LATE: &str = "(i32.and (i64.gt_u (local.get $now) (i64.const 100000000000000000))
        (i64.lt_u (local.get $now) (i64.const 200000000000000000)))";
    for (fails, says) in [
        ("(unreachable)", "unreachable"),
        ("(loop $l (br $l))", "reductions"),
    ] {
        let world = small();
        let initialize = format!(
            r#"(func (export "_initialize") (local $now i64)
              (local.set $now (call $clock (i32.const 0)))
              (if {LATE} (then {fails})))"#
        );
        let clock = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))"#;
        world.deploy("m", &answering(clock, "(i64.const 7)", &initialize));
        let first = world.spawn("m");
        assert_eq!(world.ask(first, 0, &[]).number(), 7);
        world.advance(150_000_000_000);
        let second = world.spawn("m");
        let Answer::Down(_, text) = world.ask(second, 0, &[]) else {
            panic!("it began: {fails}");
        };
        assert!(text.contains("initialization failed"), "{text}");
        assert!(text.contains(says), "{text}");
        assert_eq!(world.ask(first, 0, &[]).number(), 7);
        let counts = world.executor.frames();
        assert_eq!(
            (counts.blocked, counts.live + counts.vacant),
            (0, counts.slots)
        );
    }
}
