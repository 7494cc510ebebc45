//! What modules of languages with a runtime need to start: a start that all processes share although it asks
//! for what differs between them, constants that only an initialized runtime can return, and imports that a
//! host need not have.

use exuvia_abi::{Code, Pid};

use crate::world::{Setup, World, answering};

const ASK: &str = r#"(import "exuvia" "random" (func $random (param i32 i32) (result i32)))
  (import "exuvia" "clock" (func $clock (param i32) (result i64)))
  (import "wasi_snapshot_preview1" "random_get" (func $wasi_random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $wasi_clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $folder (param i32 i32) (result i32)))"#;

/// Asks for all that may differ between processes, and keeps the answers at 6000.
const START: &str = r#"
  (func $start
    (drop (call $random (i32.const 6000) (i32.const 8)))
    (drop (call $random (i32.const 6008) (i32.const 8)))
    (i64.store (i32.const 6016) (call $clock (i32.const 0)))
    (i64.store (i32.const 6024) (call $clock (i32.const 1)))
    (if (call $wasi_random (i32.const 6032) (i32.const 8)) (then unreachable))
    (if (call $wasi_clock (i32.const 1) (i64.const 0) (i32.const 6040)) (then unreachable))
    (if (call $wasi_clock (i32.const 0) (i64.const 0) (i32.const 6048)) (then unreachable))
    (if (call $args (i32.const 6056) (i32.const 6060)) (then unreachable))
    (if (call $environ (i32.const 6064) (i32.const 6068)) (then unreachable))
    (i32.store (i32.const 6072) (call $folder (i32.const 3) (i32.const 6076))))
  (func (export "_initialize") (call $start))
  (func (export "warm_up") (call $start))
  (func (export "exuvia_shared_start"))"#;

/// Replies with the word at an address that the tag says; from 9000 on with what the host says now.
const HANDLE: &str = r#"
  (if (i32.eq (local.get $tag) (i32.const 9000)) (then (return (call $clock (i32.const 1)))))
  (if (i32.eq (local.get $tag) (i32.const 9001)) (then
    (drop (call $wasi_random (i32.const 7000) (i32.const 8)))
    (return (i64.load (i32.const 7000)))))
  (i64.load (local.get $tag))"#;

#[test]
fn a_shared_start_is_the_same_for_all_processes_whatever_it_asks_for() {
    let world = World::new(Setup::default());
    let version = world.deploy("m", &answering(ASK, HANDLE, START));
    assert_eq!(version.artifact.start_differs_by(), None);
    let (one, two) = (world.spawn("m"), world.spawn("m"));
    let at = |pid, address| world.ask(pid, address, &[]).number();
    for address in (6000..6080).step_by(8) {
        assert_eq!(at(one, address), at(two, address), "{address}");
    }
    for clock in [6016, 6024, 6040, 6048] {
        // Not 0, which Go takes for a clock that fails.
        assert_eq!(at(one, clock), 1, "{clock}");
    }
    let drawn = [at(one, 6000), at(one, 6008), at(one, 6032)];
    assert!(drawn.iter().all(|number| *number != 0), "{drawn:?}");
    assert_ne!(drawn[0], drawn[1], "they do not repeat");
    // No arguments, no environment, no folder: 8 is BADF.
    assert_eq!(
        (at(one, 6056), at(one, 6064), at(one, 6072) & 0xffff_ffff),
        (0, 0, 8)
    );
    // Afterwards everything is real again.
    world.advance(1);
    assert_ne!(at(one, 9000), 0);
    assert_ne!(at(one, 9001), at(two, 9001));
}

#[test]
fn without_it_the_start_runs_for_each_process_and_is_known_to() {
    let world = World::new(Setup::default());
    let start = START.replace(r#"(func (export "exuvia_shared_start"))"#, "");
    let version = world.deploy("m", &answering(ASK, HANDLE, &start));
    assert_eq!(version.artifact.start_differs_by(), Some("random"));
    let at = |pid| world.ask(pid, 6000, &[]).number();
    assert_ne!(at(world.spawn("m")), at(world.spawn("m")));
}

/// A runtime must be initialized before any of its functions is called.
#[test]
fn constants_are_asked_for_after_initialization_and_leave_no_trace() {
    let world = World::new(Setup::default());
    let runtime = r#"
      (func (export "_initialize") ASK (i32.store (i32.const 6000) (i32.const 1)))
      (func $constant (param $value i32) (result i32)
        (if (i32.ne (i32.load (i32.const 6000)) (i32.const 1)) (then unreachable))
        (i32.store (i32.const 6008) (i32.const 77))
        (local.get $value))
      (func (export "exuvia_abi") (result i32) (call $constant (i32.const 1)))
      (func (export "exuvia_schema") (result i32) (call $constant (i32.const 5)))"#;
    for (name, ask) in [
        ("same", ""),
        ("differs", "(drop (call $clock (i32.const 0)))"),
    ] {
        let wat = answering(ASK, HANDLE, &runtime.replace("ASK", ask))
            .replace(r#"(global (export "exuvia_abi") i32 (i32.const 1))"#, "");
        let version = world.deploy(name, &wat);
        assert_eq!(version.artifact.schema(), 5, "{name}");
        let pid = world.spawn(name);
        assert_eq!(world.ask(pid, 6000, &[]).number(), 1, "{name}");
        assert_eq!(world.ask(pid, 6008, &[]).number(), 0, "{name}");
    }
}

/// Go looks so whether there is something to do whenever it has collected garbage, and sleeps before it
/// says why it fails.
#[test]
fn a_timer_is_over_at_once_while_a_module_starts() {
    let world = World::new(Setup::default());
    let ask = r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    let start = r#"
      (func $look (param $time i64)
        (i64.store (i32.const 6000) (i64.const 77))
        (i64.store (i32.const 6024) (local.get $time))
        (i64.store (i32.const 6100) (i64.const 0))
        (if (call $poll (i32.const 6000) (i32.const 6100) (i32.const 1) (i32.const 6140)) (then unreachable)))
      (func (export "_initialize") (call $look (i64.const 0)))
      (func (export "warm_up") (call $look (i64.const 3600000000000)))"#;
    world.deploy("m", &answering(ask, "(i64.load (local.get $tag))", start));
    let pid = world.spawn("m");
    let at = |address| world.ask(pid, address, &[]).number();
    // One event, of what was subscribed to, without an error.
    assert_eq!((at(6100), at(6108), at(6140) & 0xffff_ffff), (77, 0, 1));
}

#[test]
fn an_optional_import_that_the_host_lacks_says_so_when_it_is_called() {
    let world = World::new(Setup::default());
    let imports = r#"
      (import "exuvia.optional" "levitate" (func $levitate (param i32 f64) (result i32)))
      (import "exuvia.optional" "levitate_far" (func $far (result i64)))
      (import "exuvia.optional" "land" (func $land))
      (import "exuvia.optional" "info" (func $info (param i32) (result i64)))
      (import "exuvia.optional" "sleep" (func $sleep (param i64) (result i32)))"#;
    let handle = r#"
      (call $land)
      (if (i32.eq (local.get $tag) (i32.const 0)) (then
        (return (i64.extend_i32_s (call $levitate (i32.const 1) (f64.const 2))))))
      (if (i32.eq (local.get $tag) (i32.const 1)) (then (return (call $far))))
      ;; These two it has; the second one waits.
      (if (i32.eq (local.get $tag) (i32.const 2)) (then (return (call $info (i32.const 3)))))
      (i64.extend_i32_s (call $sleep (i64.const 5)))"#;
    world.deploy("m", &answering(imports, handle, ""));
    let pid = world.spawn("m");
    let lacks = i64::from(Code::NotSupported as i32).cast_unsigned();
    assert_eq!(world.ask(pid, 0, &[]).number(), lacks);
    assert_eq!(world.ask(pid, 1, &[]).number(), lacks);
    assert_eq!(
        world.ask(pid, 2, &[]).number(),
        u64::from(exuvia_abi::ABI_MINOR)
    );
    let asleep = world.request(pid, 3, &[]);
    world.settle(100);
    world.advance(5);
    world.settle(100);
    assert_eq!(world.answer(asleep).number(), 0);
}

#[test]
fn an_optional_import_must_be_able_to_say_that_it_is_missing() {
    let world = World::new(Setup::default());
    for (import, wanted) in [
        (
            r#"(import "exuvia.optional" "levitate" (func (result f64)))"#,
            "cannot say so",
        ),
        (
            r#"(import "exuvia.optional" "levitate" (global i32))"#,
            "cannot say so",
        ),
        (
            r#"(import "exuvia.optional" "send" (func (param i32) (result i32)))"#,
            "(i32, i32, i32, i32)",
        ),
    ] {
        let wat = answering(import, "(i64.const 0)", "");
        let error = world
            .engine
            .load(&wat::parse_str(wat).unwrap())
            .unwrap_err();
        assert!(error.to_string().contains(wanted), "{import}: {error}");
    }
}

#[test]
fn a_process_knows_its_limits() {
    let world = World::new(Setup::default());
    let handle = "(call $info (local.get $tag))";
    let info = r#"(import "exuvia" "info" (func $info (param i32) (result i64)))"#;
    world.deploy("m", &answering(info, handle, ""));
    let limits = std::sync::Arc::new(exuvia_process::Limits {
        memory: 5 << 16,
        mailbox_messages: 77,
        mailbox_bytes: 123_456,
        message_bytes: 9_999,
        ..exuvia_process::Limits::default()
    });
    let pid = world.spawn_with("m", &limits);
    let known: Vec<u64> = (4..8)
        .map(|what| world.ask(pid, what, &[]).number())
        .collect();
    assert_eq!(known, [9_999, 123_456, 77, 5 << 16]);
}

fn image_bytes(world: &World, pid: Pid) -> usize {
    assert!(world.settle(100));
    let snapshot = world.executor.capture(pid).expect("it is at rest");
    snapshot.to_bytes().len()
}

/// After a large message a process is as small as before, if it says that its buffer is not needed.
#[test]
fn what_is_discarded_is_zero_and_in_no_image() {
    let world = World::new(Setup {
        frames: 4,
        ..Setup::default()
    });
    let imports = r#"(import "exuvia" "discard" (func $discard (param i32 i32) (result i32)))"#;
    // The base is not zero from 5000 to 65,536. Tag 0 fills four pages behind it and a part of it, tag 1
    // discards all of that but its first and its last byte, others are addresses.
    let handle = r#"
      (if (i32.eqz (local.get $tag)) (then
        (drop (memory.grow (i32.const 4)))
        (memory.fill (i32.const 60000) (i32.const 7) (i32.const 300000))
        (return (i64.const 0))))
      (if (i32.eq (local.get $tag) (i32.const 1)) (then
        (return (i64.extend_i32_s (call $discard (i32.const 60001) (i32.const 299998))))))
      (if (i32.eq (local.get $tag) (i32.const 2)) (then
        (return (i64.extend_i32_s (call $discard (i32.const 393216) (i32.const 1))))))
      (i64.extend_i32_u (i32.load8_u (local.get $tag)))"#;
    let more = r#"(func (export "_initialize") (memory.fill (i32.const 5000) (i32.const 9) (i32.const 60536)))"#;
    world.deploy("m", &answering(imports, handle, more));
    let pid = world.spawn("m");
    let byte = |address| world.ask(pid, address, &[]).number();
    world.ask(pid, 0, &[]);
    let full = image_bytes(&world, pid);
    assert!(full > 290_000, "{full}");
    world.ask(pid, 1, &[]);
    for (address, expected) in [
        (59_999, 9),
        (60_000, 7),
        (60_001, 0),
        (65_535, 0),
        (65_536, 0),
        (100_000, 0),
        (359_998, 0),
        (359_999, 7),
    ] {
        assert_eq!(byte(address), expected, "{address}");
    }
    // What is left is the zeros in the place of what the base has.
    let left = image_bytes(&world, pid);
    assert!(left < 6_000, "{left}");
    assert_eq!(byte(65_000), 0);
    let bad = i64::from(Code::BadPointer as i32).cast_unsigned();
    assert_eq!(byte(2), bad);
    // The next process in the frame begins from the base.
    let next = world.spawn("m");
    assert_eq!(world.ask(next, 65_000, &[]).number(), 9);
}
