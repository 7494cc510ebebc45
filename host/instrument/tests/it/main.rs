//! The rewriting pass under real wasmtime: programs give the same results, the
//! host gets its chances, and bulk operations, blocking calls, backtraces and
//! refusals are as documented.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod harness;
mod mail;
mod refusals;
mod reports;
mod robust;

use harness::{End, Guest, rewrite};
use proptest::prelude::*;
use wasmtime::{Trap, Val, WasmBacktrace};

/// Name, text, and calls with their arguments. Each call is made in the plain and
/// in the rewritten module, one after another in the same instance.
type Program = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static [i32])],
);

const PROGRAMS: &[Program] = &[
    (
        "fib",
        r#"(module (func $fib (export "run") (param i32) (result i32)
            local.get 0 i32.const 2 i32.lt_s
            if (result i32) local.get 0
            else
                local.get 0 i32.const 1 i32.sub call $fib
                local.get 0 i32.const 2 i32.sub call $fib
                i32.add
            end))"#,
        &[("run", &[1]), ("run", &[15])],
    ),
    (
        "exceptions: within a function, through others, from a call that never returns, thrown again",
        r#"(module
            (tag $number (param i32 i64))
            (tag $other)
            (func $throws (param i32)
                (if (i32.rem_u (local.get 0) (i32.const 3))
                    (then (throw $number (local.get 0) (i64.const 7))))
                (throw $other))
            (func $deep (param i32) (param i32)
                (if (local.get 0)
                    (then (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
                    (else (call $throws (local.get 1)))))
            (func $again (param i32) (result i32) (local $e exnref)
                (block $h (result exnref)
                    (try_table (catch_all_ref $h) (call $deep (i32.const 5) (local.get 0)) (unreachable))
                    (unreachable))
                (local.set $e)
                (throw_ref (local.get $e)))
            (func $plain (param i32) (result i32) (local i32)
                ;; A loop without a call that returns, around one that throws.
                (loop $l
                    (local.set 1 (i32.add (local.get 1) (i32.const 1)))
                    (block $caught
                        (try_table (catch_all $caught)
                            (br_if $caught (i32.and (local.get 1) (i32.const 1)))
                            (call $throws (local.get 1))
                            (unreachable)))
                    (br_if $l (i32.lt_u (local.get 1) (local.get 0))))
                (local.get 1))
            (func $itself (param i32) (result i32)
                (loop $l
                    (block $caught
                        (try_table (catch $other $caught) (throw $other)))
                    (br_if $l (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))
                (local.get 0))
            (func (export "run") (param i32) (result i32 i64)
                (drop (call $plain (local.get 0)))
                (drop (call $itself (local.get 0)))
                (block $n (result i32 i64)
                    (block $o
                        (try_table (catch $number $n) (catch $other $o)
                            (return (call $again (local.get 0)) (i64.const 0)))
                        (unreachable))
                    (i32.const -1) (i64.const -1))))"#,
        &[("run", &[1]), ("run", &[3]), ("run", &[50])],
    ),
    (
        "loops within loops, with and without calls, and locals of many types",
        r#"(module
            (func $add (param i32 i32) (result i32)
                block loop br 1 end end
                local.get 0 local.get 1 i32.add)
            (func (export "run") (param i32) (result i64) (local f64 i32 i64 i32)
                loop $outer
                    local.get 0 local.set 2
                    loop $plain
                        loop $inner
                            local.get 3 i64.const 3 i64.mul i64.const 1 i64.add local.set 3
                            local.get 2 i32.const 1 i32.sub local.tee 2
                            i32.const 3 i32.rem_u br_if $inner
                        end
                        local.get 2 i32.const 0 i32.gt_s br_if $plain
                    end
                    local.get 4 local.get 0 call $add local.set 4
                    local.get 0 i32.const 1 i32.sub local.tee 0 br_if $outer
                end
                local.get 4 i64.extend_i32_u local.get 3 i64.add))"#,
        &[("run", &[1]), ("run", &[20])],
    ),
    (
        "a loop with parameters and results, left by br_table and return",
        r#"(module (func (export "run") (param i32) (result i32)
            i32.const 100
            loop $l (param i32) (result i32)
                i32.const 1 i32.sub
                block $b (param i32) (result i32)
                    block $a (param i32) (result i32)
                        local.get 0 i32.const 1 i32.sub local.tee 0
                        i32.const 3 i32.and
                        br_table $a $b $l $a
                    end
                    i32.const 2 i32.mul
                    local.get 0 i32.eqz if i32.const 7 return end
                end
                local.get 0 i32.const 0 i32.gt_s br_if $l
            end))"#,
        &[("run", &[1]), ("run", &[5]), ("run", &[100])],
    ),
    (
        "a call that never returns inside a loop",
        r#"(module
            (func $panic (param i32) unreachable)
            (func (export "run") (param i32) (result i32) (local i32)
                loop
                    local.get 1 i32.const 90 i32.gt_s
                    if i32.const 1 call $panic unreachable end
                    local.get 1 i32.const 3 i32.add local.set 1
                    local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
                end
                local.get 1))"#,
        &[("run", &[10]), ("run", &[100])],
    ),
    (
        "tail calls, direct and through a table",
        r#"(module
            (type $t (func (param i32 i32) (result i32)))
            (table funcref (elem $even $odd))
            (func $even (type $t)
                local.get 0 i32.eqz if i32.const 1 return end
                local.get 0 i32.const 1 i32.sub local.get 1 return_call $odd)
            (func $odd (type $t)
                local.get 0 i32.eqz if i32.const 0 return end
                local.get 0 i32.const 1 i32.sub local.get 1
                local.get 1 return_call_indirect (type $t))
            (func (export "run") (param i32) (result i32)
                local.get 0 i32.const 0 return_call $even))"#,
        &[("run", &[0]), ("run", &[7]), ("run", &[100000])],
    ),
    (
        "state in hidden globals and memory, set up by start",
        r#"(module
            (memory (export "memory") 1)
            (global $g (mut i64) (i64.const 5))
            (global $v (mut v128) (v128.const i64x2 1 2))
            (func $start
                i64.const 40 global.set $g
                i32.const 8 i32.const 17 i32.const 100 memory.fill)
            (start $start)
            (func (export "run") (param i32) (result i64)
                global.get $g local.get 0 i64.extend_i32_s i64.add global.set $g
                global.get $v global.get $v i64x2.add global.set $v
                global.get $v i64x2.extract_lane 1
                i32.const 8 i64.load i64.add
                global.get $g i64.add))"#,
        &[("run", &[2]), ("run", &[-3])],
    ),
    (
        "bulk operations on tables and passive segments",
        r#"(module
            (memory (export "memory") 1)
            (table $t 200 funcref)
            (data $d "exuvia leaves its shell")
            (elem $e func $one $two)
            (func $one (result i32) i32.const 1)
            (func $two (result i32) i32.const 2)
            (func (export "run") (param i32) (result i32)
                i32.const 16 i32.const 0 local.get 0 memory.init $d
                i32.const 3 i32.const 0 i32.const 2 table.init $t $e
                i32.const 100 i32.const 0 local.get 0 table.copy $t $t
                ref.func $two local.get 0 table.grow $t drop
                i32.const 150 ref.func $one local.get 0 table.fill $t
                i32.const 16 i32.load
                local.get 0 i32.const 98 i32.add call_indirect $t (result i32)
                i32.add))"#,
        &[("run", &[5]), ("run", &[6]), ("run", &[23]), ("run", &[90])],
    ),
    (
        "traps of every sort",
        r#"(module
            (memory (export "memory") 1)
            (table 2 funcref)
            (func (export "divide") (param i32) (result i32)
                i32.const 1 local.get 0 i32.div_s)
            (func (export "load") (param i32) (result i32) local.get 0 i32.load)
            (func (export "indirect") (param i32) local.get 0 call_indirect))"#,
        &[
            ("divide", &[0]),
            ("divide", &[1]),
            ("load", &[65533]),
            ("indirect", &[1]),
            ("indirect", &[2]),
        ],
    ),
];

fn values(arguments: &[i32]) -> Vec<Val> {
    arguments.iter().map(|value| Val::I32(*value)).collect()
}

#[test]
fn instrumented_programs_give_the_same_results() {
    for (name, text, calls) in PROGRAMS {
        let (wasm, output) = rewrite(text);
        for slice in [0, 1, 7, 4_000] {
            let mut plain = Guest::plain(&wasm);
            let mut metered = Guest::metered(&output, slice);
            if output.start.is_some() {
                metered.call(exuvia_instrument::EXPORT_START, &[]);
            }
            for (export, arguments) in *calls {
                let expected = plain.call(export, &values(arguments));
                let got = metered.call(export, &values(arguments));
                assert_eq!(
                    got, expected,
                    "{name}: {export}{arguments:?}, slice {slice}"
                );
            }
            if plain
                .instance
                .get_memory(&mut plain.store, "memory")
                .is_some()
            {
                assert_eq!(plain.bytes(), metered.bytes(), "{name}");
            }
        }
    }
}

#[test]
fn long_loops_yield() {
    for (name, text) in [
        ("loop", r#"(module (func (export "run") loop br 0 end))"#),
        (
            "loop with a call",
            r#"(module (func $leaf) (func (export "run") loop call $leaf br 0 end))"#,
        ),
        (
            "tail recursion",
            r#"(module (func $f (export "run") return_call $f))"#,
        ),
        (
            "tail recursion through a table",
            r#"(module (table funcref (elem $f))
                (func $f (export "run") i32.const 0 return_call_indirect))"#,
        ),
    ] {
        let (_, output) = rewrite(text);
        let mut guest = Guest::metered(&output, 10);
        assert_eq!(guest.call_for("run", &[], 1_000), End::Unfinished, "{name}");
        assert!(guest.store.data().yields >= 998, "{name}");
    }
}

#[test]
fn each_entry_and_each_iteration_costs_one_reduction() {
    // Text, and how many checks its `run` passes.
    for (text, checks) in [
        (
            r#"(module (func (export "run") (local i32)
                loop local.get 0 i32.const 1 i32.add local.tee 0
                    i32.const 1000 i32.lt_s br_if 0 end))"#,
            1 + 1000,
        ),
        (
            r#"(module (func $work loop end) (func (export "run") (local i32)
                loop
                    block i32.const 1 if call $work end end
                    local.get 0 i32.const 1 i32.add local.tee 0
                    i32.const 300 i32.lt_s br_if 0
                end))"#,
            1 + 300 * 3,
        ),
        (
            r#"(module (func $work loop end) (func (export "run") (local i32 i32)
                loop $outer
                    loop $middle
                        loop $inner
                            local.get 1 i32.const 1 i32.add local.tee 1
                            i32.const 3 i32.rem_u br_if $inner
                        end
                        local.get 1 i32.const 12 i32.rem_u br_if $middle
                    end
                    call $work
                    local.get 1 i32.const 1200 i32.lt_s br_if $outer
                end
                loop $after
                    local.get 0 i32.const 1 i32.add local.tee 0
                    i32.const 77 i32.lt_s br_if $after
                end))"#,
            1 + 100 * (1 + 4 + 12 + 2) + 77,
        ),
        (
            r#"(module (func $work loop end) (func (export "run") (local i32)
                loop
                    local.get 0 i32.const 1 i32.add local.tee 0
                    i32.const 400 i32.ge_s
                    if call $work unreachable end
                    local.get 0 i32.const 399 i32.lt_s br_if 0
                end))"#,
            1 + 399,
        ),
    ] {
        let (_, output) = rewrite(text);
        // The check after the last one of a slice goes below zero: with a slice as
        // long as the program there is no yield, with one less there is one.
        for slice in [9, checks - 1, checks] {
            let mut guest = Guest::metered(&output, slice);
            assert_eq!(guest.call("run", &[]), End::Values(vec![]));
            let yields = guest.store.data().yields as i32;
            assert_eq!(yields, checks / (slice + 1), "slice {slice}: {text}");
        }
    }
}

#[test]
fn recursion_yields_until_the_stack_ends() {
    let (_, output) = rewrite(r#"(module (func $f (export "run") call $f call $f))"#);
    let mut guest = Guest::metered(&output, 10);
    assert_eq!(guest.call("run", &[]), End::Trap(Trap::StackOverflow));
    assert!(guest.store.data().yields > 100);
}

#[test]
fn a_short_leaf_function_is_free_and_a_long_one_is_not() {
    let long = "nop ".repeat(100);
    let (_, output) = rewrite(&format!(
        r#"(module (func (export "short")) (func (export "long") {long}))"#
    ));
    let mut guest = Guest::metered(&output, 0);
    guest.call("short", &[]);
    assert_eq!(guest.store.data().yields, 0);
    guest.call("long", &[]);
    assert_eq!(guest.store.data().yields, 1);
}

/// Exports `fill`, `copy` and `copy_small`, over 5 pages with a pattern in the first.
const BULK: &str = r#"(module
    (memory (export "memory") 5)
    (func (export "pattern") (local i32)
        loop
            local.get 0 local.get 0 i32.const 2654435761 i32.mul i32.store
            local.get 0 i32.const 4 i32.add local.tee 0
            i32.const 327680 i32.lt_u br_if 0
        end)
    (func (export "fill") (param i32 i32 i32)
        local.get 0 local.get 1 local.get 2 memory.fill)
    (func (export "copy") (param i32 i32 i32)
        local.get 0 local.get 1 local.get 2 memory.copy)
    (func (export "copy_small") (param i32 i32)
        local.get 0 local.get 1 i32.const 24 memory.copy))"#;

#[test]
fn large_bulk_operations_are_charged_and_split() {
    let (_, output) = rewrite(BULK);
    let mut guest = Guest::metered(&output, 63);
    guest.call("pattern", &[]);
    for (operation, pieces) in [("fill", 5), ("copy", 4)] {
        guest.store.data_mut().yields = 0;
        let size = pieces * 65536;
        let upwards = values(&[0, 7, size]);
        assert_eq!(guest.call(operation, &upwards), End::Values(vec![]));
        // 64 reductions a piece are one more than the slice, and entry costs one.
        assert!(guest.store.data().yields >= pieces as u32, "{operation}");
    }
    guest.store.data_mut().yields = 0;
    guest.call("copy_small", &values(&[0, 100]));
    assert_eq!(guest.store.data().yields, 0);
}

#[test]
fn memory_is_charged_for_when_it_has_grown() {
    let text = r#"(module
        (memory (export "memory") 1 5)
        (func (export "grow") (param i32) (result i32) local.get 0 memory.grow)
        (func (export "none") (result i32) i32.const 0 memory.grow))"#;
    let (_, output) = rewrite(text);
    // To ask costs 32 reductions, a page 64, and entry one.
    let grown = |slice: i32, pages: i32| {
        let mut guest = Guest::metered(&output, slice);
        let answer = guest.call("grow", &values(&[pages]));
        (answer, guest.store.data().yields)
    };
    let answered = |answer: i32| End::Values(vec![format!("{:?}", Val::I32(answer))]);
    assert_eq!(grown(161, 2), (answered(1), 0));
    assert_eq!(grown(160, 2), (answered(1), 1));
    assert_eq!(grown(33, 0), (answered(1), 0));
    assert_eq!(grown(32, 0), (answered(1), 1));
    // It could not, and the host was asked.
    for pages in [5, -1] {
        assert_eq!(grown(33, pages), (answered(-1), 0));
        assert_eq!(grown(32, pages), (answered(-1), 1));
    }
    let mut guest = Guest::metered(&output, 1);
    assert_eq!(guest.call("none", &[]), answered(1));
    assert_eq!(guest.store.data().yields, 1);
}

#[test]
fn an_operation_out_of_bounds_writes_nothing() {
    let (wasm, output) = rewrite(BULK);
    let mut metered = Guest::metered(&output, 10);
    let mut plain = Guest::plain(&wasm);
    metered.call("pattern", &[]);
    plain.call("pattern", &[]);
    let end = 327_680;
    for arguments in [
        [1, 7, end],
        [end - 65536 * 2, 0, 65536 * 2 + 1],
        [0, end - 65536 * 2, 65536 * 2 + 1],
        [0, 0, -1],
        [-1, 0, 1],
        [-65536, 0, 65536 * 3],
        [end + 1, 0, 0],
    ] {
        for operation in ["fill", "copy"] {
            let expected = plain.call(operation, &values(&arguments));
            let got = metered.call(operation, &values(&arguments));
            assert_eq!(got, expected, "{operation}{arguments:?}");
            assert!(plain.bytes() == metered.bytes(), "{operation}{arguments:?}");
        }
    }
}

/// Addresses and sizes around the ends of chunks and of memory.
fn edge() -> impl Strategy<Value = i32> {
    prop_oneof![
        0..400_000i32,
        (0..6i32, -3..4i32).prop_map(|(chunk, off)| chunk * 65536 + off),
        0..5_000i32,
        any::<i32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bulk_operations_behave_as_in_the_original(
        operations in prop::collection::vec((any::<bool>(), edge(), edge(), edge()), 1..16),
    ) {
        let (wasm, output) = rewrite(BULK);
        let mut plain = Guest::plain(&wasm);
        let mut metered = Guest::metered(&output, 50);
        plain.call("pattern", &[]);
        metered.call("pattern", &[]);
        for (is_fill, to, from, size) in operations {
            let name = if is_fill { "fill" } else { "copy" };
            let arguments = values(&[to, from, size]);
            prop_assert_eq!(plain.call(name, &arguments), metered.call(name, &arguments));
            prop_assert!(plain.bytes() == metered.bytes());
        }
    }
}

/// Every way to reach a blocking import.
const BLOCKING: &str = r#"(module
    (type $receive (func (param i32 i32 i32 i64 i32 i64) (result i32)))
    (import "env" "log" (func $log (param i32)))
    (import "exuvia" "receive" (func $receive (type $receive)))
    (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
    (table 3 funcref)
    (elem (i32.const 1) $receive)
    (elem declare func $receive)
    (export "exported" (func $receive))
    (func (export "direct") (result i32)
        i32.const 1 i32.const 2 i32.const 3 i64.const 4 i32.const 5 i64.const 6 call $receive
        i32.const 77 call $log)
    (func (export "tail") (result i32)
        i32.const 1 i32.const 2 i32.const 3 i64.const 4 i32.const 5 i64.const 6
        return_call $receive)
    (func (export "indirect") (result i32)
        i32.const 1 i32.const 2 i32.const 3 i64.const 4 i32.const 5 i64.const 6
        i32.const 1 call_indirect (type $receive))
    (func (export "referred") (result i32)
        i32.const 2 ref.func $receive table.set 0
        i32.const 1 i32.const 2 i32.const 3 i64.const 4 i32.const 5 i64.const 6
        i32.const 2 call_indirect (type $receive))
    (func (export "sleeps") (result i32) i64.const 9 call $sleep))"#;

#[test]
fn a_blocking_call_is_retried_until_it_returns() {
    const SUSPEND: i32 = exuvia_abi::SUSPEND;
    let (_, output) = rewrite(BLOCKING);
    for name in ["direct", "tail", "indirect", "referred", "exported"] {
        for tries in [1, 2, 4] {
            let mut guest = Guest::metered(&output, 1_000);
            let host = guest.store.data_mut();
            host.answers.extend(vec![SUSPEND; tries - 1]);
            host.answers.push_back(42);
            let arguments = match name {
                "exported" => vec![
                    Val::I32(1),
                    Val::I32(2),
                    Val::I32(3),
                    Val::I64(4),
                    Val::I32(5),
                    Val::I64(6),
                ],
                _ => vec![],
            };
            let end = guest.call(name, &arguments);
            assert_eq!(end, End::Values(vec!["I32(42)".to_owned()]), "{name}");
            let host = guest.store.data();
            assert_eq!(host.waits as usize, tries - 1, "{name}");
            assert!(
                host.calls[..tries]
                    .iter()
                    .all(|call| *call == [1, 2, 3, 4, 5, 6])
            );
        }
    }
    let mut guest = Guest::metered(&output, 1_000);
    guest.store.data_mut().answers.extend([SUSPEND, 5]);
    let end = guest.call("sleeps", &[]);
    assert_eq!(end, End::Values(vec!["I32(5)".to_owned()]));
    assert_eq!(guest.store.data().calls, [[9], [9]]);
}

#[test]
fn a_backtrace_leads_to_the_original_operators() {
    let (wasm, output) = rewrite(
        r#"(module
            (memory (export "memory") 1)
            (func $divide (param i32) (result i32)
                loop
                    local.get 0 i32.const -1 i32.add local.tee 0 br_if 0
                end
                i32.const 7 local.get 0 i32.div_s)
            (func $middle (param i32) (result i32)
                local.get 0 i32.const 1 i32.add call $divide)
            (func $fills (export "fill") (param i32)
                i32.const 0 i32.const 0 local.get 0 memory.fill)
            (func $outer (export "run") (param i32) (result i32)
                loop (result i32) local.get 0 call $middle end))"#,
    );
    let frames = |guest: &Guest| -> Vec<(Option<String>, Option<u8>)> {
        let error = guest.error.as_ref().unwrap();
        let trace = error.downcast_ref::<WasmBacktrace>().unwrap();
        let frames = trace.frames().iter().map(|frame| {
            let at = frame.module_offset().unwrap() as u32;
            let original = output.offsets.original(at);
            let added = frame.func_index() >= output.first_added_function;
            assert_eq!(original.is_none(), added);
            (
                frame.func_name().map(str::to_owned),
                original.map(|offset| wasm[offset as usize]),
            )
        });
        frames.collect()
    };
    let named = |name: &str, opcode| (Some(name.to_owned()), opcode);
    let mut guest = Guest::metered(&output, 3);
    assert_eq!(
        guest.call("run", &values(&[5])),
        End::Trap(Trap::IntegerDivisionByZero)
    );
    assert_eq!(
        frames(&guest),
        [
            named("divide", Some(0x6d)),
            named("middle", Some(0x10)),
            named("outer", Some(0x10)),
        ]
    );
    let mut guest = Guest::metered(&output, 3);
    assert_eq!(
        guest.call("fill", &values(&[70_000])),
        End::Trap(Trap::MemoryOutOfBounds)
    );
    // The helper is in the trace, under a name that says what it is.
    assert_eq!(
        frames(&guest),
        [
            named("exuvia memory.fill", None),
            named("fills", Some(0xfc))
        ]
    );
}

#[test]
fn branch_hints_of_the_input_are_kept() {
    let (_, output) = rewrite(
        r#"(module (func (export "run") (param i32) (result i32)
            loop
                local.get 0 i32.const 9 i32.gt_s
                (@metadata.code.branch_hint "\00")
                if i32.const 1 return end
                local.get 0 i32.const 1 i32.add local.set 0
                br 0
            end
            i32.const 0))"#,
    );
    let mut hinted = 0;
    let mut body = None;
    let mut hints = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&output.wasm) {
        match payload.unwrap() {
            wasmparser::Payload::CustomSection(section) => {
                if let wasmparser::KnownCustom::BranchHints(reader) = section.as_known() {
                    for function in reader {
                        for hint in function.unwrap().hints {
                            hints.push(hint.unwrap().func_offset as usize);
                        }
                    }
                }
            }
            wasmparser::Payload::CodeSectionEntry(entry) => {
                body.get_or_insert(entry);
            }
            _ => {}
        }
    }
    let body = body.unwrap();
    for operator in body
        .get_operators_reader()
        .unwrap()
        .into_iter_with_offsets()
    {
        let (operator, offset) = operator.unwrap();
        let is_if = matches!(operator, wasmparser::Operator::If { .. });
        assert_eq!(is_if, hints.contains(&(offset - body.range().start)));
        hinted += u32::from(is_if);
    }
    // Entry, loop head, and the one of the input.
    assert_eq!(hinted, 3);
}
