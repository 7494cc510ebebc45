//! What is no module for processes is refused, with the cause and the fix.

use exuvia_engine::{EngineConfig, LoadError};
use exuvia_process::Reason;

use crate::world::{Answer, Setup, World, answering, engine};

fn world() -> World {
    World::new(Setup::default())
}

fn refusal(world: &World, wasm: &[u8]) -> String {
    match world.engine.load(wasm) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.to_string(),
    }
}

fn refused(wat: &str) -> String {
    refusal(&world(), &wat::parse_str(wat).unwrap())
}

/// A module of these parts, without those that are left out.
fn parts(memory: &str, abi: &str, run: &str, more: &str) -> String {
    format!("(module {more} {memory} {abi} {run})")
}

const MEMORY: &str = r#"(memory (export "memory") 1)"#;
const ABI: &str = r#"(global (export "exuvia_abi") i32 (i32.const 1))"#;
const RUN: &str = r#"(func (export "run") (result i32) (i32.const 0))"#;

#[test]
fn the_smallest_module_is_accepted() {
    let world = world();
    let wat = parts(MEMORY, ABI, RUN, "");
    world.engine.load(&wat::parse_str(wat).unwrap()).unwrap();
    let function = r#"(func (export "exuvia_abi") (result i32) (i32.const 1))"#;
    let wat = parts(MEMORY, function, RUN, "");
    world.engine.load(&wat::parse_str(wat).unwrap()).unwrap();
}

#[test]
fn anything_but_a_core_module_is_rejected() {
    let world = world();
    for bytes in [
        &b""[..],
        b"\0",
        b"hello",
        b"#!/bin/sh\n",
        b"\x7fELF\x02\x01\x01",
    ] {
        let error = refusal(&world, bytes);
        assert!(error.contains("not a Wasm module"), "{error}");
    }
    let error = refused("(component)");
    assert!(error.contains("component"), "{error}");
}

#[test]
fn wasm_text_is_assembled_or_rejected_with_the_position() {
    let world = world();
    let text = format!(
        ";; as it is written\n{}",
        include_str!("../../../../guest-sdk/wat/echo.wat")
    );
    world.engine.load(text.as_bytes()).unwrap();
    let error = refusal(&world, text.replace("i32.store", "i32.stare").as_bytes());
    assert!(
        error.contains("cannot be assembled: line ") && error.contains("unknown operator"),
        "{error}"
    );
}

#[test]
fn abi_and_schema_cannot_be_mutable_globals() {
    let world = world();
    let mutable = |name: &str| format!(r#"(global (export "{name}") (mut i32) (i32.const 1))"#);
    for (wat, name) in [
        (parts(MEMORY, &mutable("exuvia_abi"), RUN, ""), "exuvia_abi"),
        (
            parts(MEMORY, ABI, RUN, &mutable("exuvia_schema")),
            "exuvia_schema",
        ),
    ] {
        let error = refusal(&world, &wat::parse_str(wat).unwrap());
        let told = format!("the export `{name}` is a mutable global");
        assert!(error.contains(&told), "{error}");
    }
}

#[test]
fn every_prefix_of_a_module_is_rejected() {
    let world = world();
    let wasm = wat::parse_str(answering("", "(i64.const 1)", "")).unwrap();
    world.engine.load(&wasm).unwrap();
    let mut accepted = 0;
    for end in 0..wasm.len() {
        // A cut before the data or the custom sections leaves a valid module.
        // All others fail, and never by a panic.
        accepted += u32::from(world.engine.load(&wasm[..end]).is_ok());
    }
    assert!(accepted <= 2, "{accepted} of {} prefixes", wasm.len());
}

#[test]
fn missing_and_wrong_exports_are_named() {
    let run = |signature: &str, body: &str| format!(r#"(func (export "run") {signature} {body})"#);
    let hook = |name: &str, signature: &str| {
        format!(r#"(func (export "{name}") {signature} unreachable)"#)
    };
    for (wat, name) in [
        (parts("", ABI, RUN, ""), "memory"),
        (parts("(memory 1)", ABI, RUN, ""), "memory"),
        (
            parts(
                r#"(global (export "memory") i32 (i32.const 1))"#,
                ABI,
                RUN,
                "",
            ),
            "memory",
        ),
        (parts(MEMORY, "", RUN, ""), "exuvia_abi"),
        (
            parts(
                MEMORY,
                r#"(global (export "exuvia_abi") i64 (i64.const 1))"#,
                RUN,
                "",
            ),
            "exuvia_abi",
        ),
        (
            parts(
                MEMORY,
                &hook("exuvia_abi", "(param i32) (result i32)"),
                RUN,
                "",
            ),
            "exuvia_abi",
        ),
        (parts(MEMORY, ABI, "", ""), "run"),
        (parts(MEMORY, ABI, &run("", ""), ""), "run"),
        (
            parts(
                MEMORY,
                ABI,
                &run("(param i32) (result i32)", "(i32.const 0)"),
                "",
            ),
            "run",
        ),
        (
            parts(MEMORY, ABI, &run("(result i64)", "(i64.const 0)"), ""),
            "run",
        ),
        (
            parts(
                MEMORY,
                ABI,
                r#"(global (export "run") i32 (i32.const 0))"#,
                "",
            ),
            "run",
        ),
        (parts(MEMORY, ABI, RUN, &hook("save", "")), "save"),
        (
            parts(MEMORY, ABI, RUN, &hook("load", "(param i32) (result i32)")),
            "load",
        ),
        (
            parts(MEMORY, ABI, RUN, &hook("_initialize", "(result i32)")),
            "_initialize",
        ),
        (
            parts(MEMORY, ABI, RUN, &hook("warm_up", "(param i32)")),
            "warm_up",
        ),
    ] {
        let world = world();
        let error = world
            .engine
            .load(&wat::parse_str(&wat).unwrap())
            .unwrap_err();
        assert!(
            matches!(&error, LoadError::Export { name: found, .. } if *found == name),
            "{wat}: {error}"
        );
    }
}

#[test]
fn another_abi_version_is_rejected_with_its_number() {
    for (version, abi) in [
        (2, r#"(global (export "exuvia_abi") i32 (i32.const 2))"#),
        (
            -1,
            r#"(func (export "exuvia_abi") (result i32) (i32.const -1))"#,
        ),
    ] {
        let error = refused(&parts(MEMORY, abi, RUN, ""));
        assert!(error.contains(&format!("version {version}")), "{error}");
        assert!(error.contains("version 1"), "{error}");
    }
}

#[test]
fn imports_that_do_not_exist_are_named() {
    for (import, wanted) in [
        (
            r#"(import "env" "puts" (func (param i32)))"#,
            &["env.puts", "linker"][..],
        ),
        (
            r#"(import "wasi_snapshot_preview1" "fd_teleport" (func (param i32) (result i32)))"#,
            &["wasi_snapshot_preview1.fd_teleport", "no such function"],
        ),
        (
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32)))"#,
            &["wasi_snapshot_preview1.fd_write", "one i32"],
        ),
        (
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64) (result i32)))"#,
            &["wasi_snapshot_preview1", "fd_write", "i64"],
        ),
        (
            r#"(import "wasi_snapshot_preview1" "fd_write" (global i32))"#,
            &["wasi_snapshot_preview1.fd_write", "function"],
        ),
        (
            r#"(import "exuvia" "teleport" (func))"#,
            &["exuvia.teleport", "no such host call"],
        ),
        (
            r#"(import "exuvia" "send" (func (param i32)))"#,
            &["exuvia.send", "(i32, i32, i32, i32)"],
        ),
        (r#"(import "exuvia" "self" (global i32))"#, &["exuvia.self"]),
        (
            r#"(import "exuvia" "receive" (func (param i32) (result i64)))"#,
            &["exuvia.receive"],
        ),
        (r#"(import "other" "t" (table 1 funcref))"#, &["other.t"]),
    ] {
        let error = refused(&parts(MEMORY, ABI, RUN, import));
        for text in wanted {
            assert!(error.contains(text), "{import}: {error}");
        }
    }
    let error = refused(&parts(
        r#"(import "env" "memory" (memory 1))(export "memory" (memory 0))"#,
        ABI,
        RUN,
        "",
    ));
    assert!(error.contains("memory"), "{error}");
}

#[test]
fn a_failed_initialization_is_rejected_with_its_stage() {
    let send = r#"(import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))"#;
    for (more, wanted) in [
        (
            "(func $f (loop $l (br $l))) (start $f)",
            &["start", "reductions"][..],
        ),
        (
            r#"(func (export "_initialize") (loop $l (br $l)))"#,
            &["_initialize", "reductions"],
        ),
        (
            "(func $f $boom unreachable) (start $f)",
            &["start", "unreachable"],
        ),
        (
            r#"(func (export "warm_up") (drop (i32.div_u (i32.const 1) (i32.const 0))))"#,
            &["warm_up", "divide"],
        ),
        (r#"(func $f (call $f)) (start $f)"#, &["start", "stack"]),
        (
            &*format!(
                r#"{send} (func (export "warm_up") (drop (call $send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"#
            ),
            &["warm_up", "`send` is not available"],
        ),
        (
            &*format!(
                r#"{send} (func $s (drop (call $send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))) (start $s)"#
            ),
            &["start", "`send` is not available"],
        ),
        (
            r#"(import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
            (func (export "_initialize") (drop (call $sleep (i64.const 1))))"#,
            &["_initialize", "`sleep` is not available"],
        ),
        (r#"(data (i32.const 65535) "xx")"#, &["instantiation"]),
    ] {
        let more = more.replace("$f $boom", "$f");
        let error = refused(&parts(MEMORY, ABI, RUN, &more));
        for text in wanted {
            assert!(error.contains(text), "{more}: {error}");
        }
    }
}

/// What `warm_up` leaves is the beginning of all processes, so it must not
/// depend on when or where it ran.
#[test]
fn a_warm_up_that_asks_for_the_clock_or_random_bytes_is_rejected() {
    let clock = r#"(import "exuvia" "clock" (func $ask (param i32) (result i64)))"#;
    let random = r#"(import "exuvia" "random" (func $ask (param i32 i32) (result i32)))"#;
    for (import, name, ask) in [
        (clock, "clock", "(drop (call $ask (i32.const 0)))"),
        (
            random,
            "random",
            "(drop (call $ask (i32.const 8) (i32.const 8)))",
        ),
    ] {
        let hook = |stage: &str| format!(r#"{import} (func (export "{stage}") {ask})"#);
        let error = refused(&parts(MEMORY, ABI, RUN, &hook("warm_up")));
        let call = format!("`{name}` is not available while `warm_up` runs");
        assert!(error.contains(&call), "{error}");
        assert!(error.contains("call it in `_initialize`"), "{error}");
        // There it may ask, and then there is no base that could be warmed up.
        let wat = parts(
            MEMORY,
            ABI,
            RUN,
            &format!(
                r#"{} (func (export "warm_up") unreachable)"#,
                hook("_initialize")
            ),
        );
        world()
            .engine
            .load(&wat::parse_str(wat).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // A line in the log is not refused.
    let log = r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))
        (func (export "warm_up") (drop (call $log (i32.const 3) (i32.const 0) (i32.const 0))))"#;
    let wat = parts(MEMORY, ABI, RUN, log);
    world().engine.load(&wat::parse_str(wat).unwrap()).unwrap();
}

/// Initialization is tried before there is a node: the clocks go all the same.
#[test]
fn clocks_run_during_initialization() {
    let more = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))
        (func (export "_initialize") (local $first i64)
          (if (i64.lt_s (call $clock (i32.const 1)) (i64.const 1600000000000000000)) (then unreachable))
          (if (i64.ne (call $clock (i32.const 2)) (i64.const -8)) (then unreachable))
          (local.set $first (call $clock (i32.const 0)))
          (if (i64.lt_s (local.get $first) (i64.const 0)) (then unreachable))
          (loop $l (br_if $l (i64.le_s (call $clock (i32.const 0)) (local.get $first)))))"#;
    let wat = parts(MEMORY, ABI, RUN, more);
    let world = world();
    if let Err(error) = world.engine.load(&wat::parse_str(wat).unwrap()) {
        panic!("{error}");
    }
}

#[test]
fn a_module_that_is_too_large_is_rejected_with_the_numbers() {
    let world = World::new(Setup {
        engine: EngineConfig {
            memory: 1 << 20,
            ..engine()
        },
        ..Setup::default()
    });
    let load = |memory: &str, more: &str| {
        let wat = parts(memory, ABI, RUN, more);
        world.engine.load(&wat::parse_str(wat).unwrap())
    };
    load(r#"(memory (export "memory") 16)"#, "").unwrap();
    load(r#"(memory (export "memory") 1 65536)"#, "").unwrap();
    let error = load(r#"(memory (export "memory") 17)"#, "")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1114112") && error.contains("1048576"),
        "{error}"
    );
    assert!(load(r#"(memory (export "memory") 65536)"#, "").is_err());
    for table in ["(table 2000000 funcref)", "(table 4000000000 funcref)"] {
        let error = load(MEMORY, table).unwrap_err().to_string();
        assert!(error.contains("table"), "{error}");
    }
    // Growth in start is held to the same limit.
    let greedy = "(func $f (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))) (start $f)";
    load(MEMORY, greedy).unwrap();
}

#[test]
fn a_module_that_failed_leaves_nothing_behind() {
    let world = world();
    for _ in 0..50 {
        assert!(
            world
                .engine
                .load(
                    &wat::parse_str(parts(MEMORY, ABI, RUN, "(func $f unreachable) (start $f)"))
                        .unwrap()
                )
                .is_err()
        );
    }
    world.deploy("m", &answering("", "(i64.const 9)", ""));
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), 9);
}

#[test]
fn tables_are_bounded_before_they_are_allocated() {
    let table = |count: u32, entries: u32| {
        let tables = format!("(table {entries} funcref)").repeat(count as usize);
        parts(MEMORY, ABI, RUN, "").replace(MEMORY, &format!("{tables} {MEMORY}"))
    };
    for (count, entries) in [(1, 10_000_000), (90, 1_000_000)] {
        let error = refused(&table(count, entries));
        let wanted = format!(
            "start with {} entries",
            u64::from(count) * u64::from(entries)
        );
        assert!(error.contains(&wanted), "{error}");
        assert!(
            error.contains("the limit for processes is 1048576; build it with smaller"),
            "{error}"
        );
    }
    let wat = table(1, 1_048_576);
    world().engine.load(&wat::parse_str(wat).unwrap()).unwrap();
}

/// Reductions are all that bounds these runs, so what the host does for them costs as
/// much as the guest's own work does.
/// Code without a loop calls the host as often as it is long before it checks its count. The calls
/// are charged one by one, so the run ends in the middle of it.
#[test]
fn initialization_without_a_loop_is_limited_too() {
    const RANDOM: &str =
        r#"(import "exuvia" "random" (func $random (param i32 i32) (result i32)))"#;
    const MEMORY: &str = r#"(memory (export "memory") 20)"#;
    let calls = "(drop (call $random (i32.const 0) (i32.const 65536)))".repeat(20_000);
    let run = format!("(func (export \"_initialize\") {calls})");
    let error = refused(&parts(MEMORY, ABI, RUN, RANDOM).replace(RUN, &format!("{RUN} {run}")));
    assert!(
        error.contains("did not end within 200000000 reductions"),
        "{error}"
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn host_work_during_initialization_is_bounded() {
    const LOG: &str = r#"(import "exuvia" "log" (func $log (param i32 i32 i32) (result i32)))"#;
    const RANDOM: &str =
        r#"(import "exuvia" "random" (func $random (param i32 i32) (result i32)))"#;
    const CLOCK: &str = r#"(import "exuvia" "clock" (func $clock (param i32) (result i64)))"#;
    const FILL: &str = r#"(import "wasi_snapshot_preview1" "random_get" (func $fill (param i32 i32) (result i32)))"#;
    const MEMORY: &str = r#"(memory (export "memory") 20) (table 1 funcref)"#;
    for (name, import, body) in [
        ("warm_up", "", "(memory.grow (i32.const 65535))"),
        ("warm_up", "", "(memory.grow (i32.const 0))"),
        (
            "warm_up",
            "",
            "(table.grow (ref.null func) (i32.const 2000000))",
        ),
        ("warm_up", "", "(table.grow (ref.null func) (i32.const 0))"),
        (
            "_initialize",
            LOG,
            "(call $log (i32.const 1) (i32.const 0) (i32.const 60000))",
        ),
        (
            "_initialize",
            LOG,
            "(call $log (i32.const 1) (i32.const 0) (i32.const 4000))",
        ),
        (
            "_initialize",
            LOG,
            "(call $log (i32.const 9) (i32.const 0) (i32.const 1))",
        ),
        (
            "_initialize",
            RANDOM,
            "(call $random (i32.const 0) (i32.const 65536))",
        ),
        (
            "_initialize",
            RANDOM,
            "(call $random (i32.const 0) (i32.const 4000))",
        ),
        ("_initialize", CLOCK, "(call $clock (i32.const 0))"),
        (
            "_initialize",
            FILL,
            "(call $fill (i32.const 0) (i32.const 1048576))",
        ),
        (
            "_initialize",
            FILL,
            "(call $fill (i32.const 0) (i32.const 1048577))",
        ),
        (
            "_initialize",
            FILL,
            "(call $fill (i32.const 0) (i32.const 1))",
        ),
    ] {
        let run = format!("(func (export \"{name}\") (loop $l (drop {body}) (br $l)))");
        let begun = std::time::Instant::now();
        let error = refused(&parts(MEMORY, ABI, RUN, import).replace(RUN, &format!("{RUN} {run}")));
        let took = begun.elapsed();
        assert!(
            error.contains("did not end within 200000000 reductions"),
            "{error}"
        );
        // Some of these took minutes; a loaded machine is slow too.
        assert!(took.as_secs() < 10, "{took:?} {body}");
    }
}

/// Debugging information is read when a process traps, and may say anything.
#[test]
fn garbage_in_debugging_information_harms_nothing() {
    let world = world();
    let names = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_str",
        ".debug_ranges",
        ".debug_aranges",
        ".debug_line_str",
        ".debug_rnglists",
    ];
    let mut state = 1u64;
    let mut byte = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for round in 0..200u32 {
        let mut sections = String::new();
        for name in names {
            // Small lengths and versions are more often right than others.
            let length = usize::from(byte()) % 60;
            let bytes = (0..length).map(|_| match round % 3 {
                0 => byte(),
                1 => byte() % 6,
                _ => byte() % 40,
            });
            let text: String = bytes.map(|byte| format!("\\{byte:02x}")).collect();
            sections += &format!(r#"(@custom "{name}" "{text}")"#);
        }
        let name = format!("m{round}");
        world.deploy(&name, &answering("", "unreachable", &sections));
        let Answer::Down(code, text) = world.ask(world.spawn(&name), 0, &[]) else {
            panic!("it does not trap");
        };
        assert_eq!(code, Reason::TRAP.0);
        assert!(text.contains("at handle"), "{text}");
    }
}
