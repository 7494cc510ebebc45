//! What is refused, and that the message names it.

use exuvia_instrument::{
    InstrumentError, MAX_BLOCKS, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS, MAX_IMPORTS,
    MAX_NESTED_LOOPS, MAX_OPERANDS, MAX_SETS_BY_BLOCKS, MAX_STARTUP, MAX_VARIABLES_BY_BLOCKS,
    instrument,
};

fn refusal(text: &str) -> InstrumentError {
    let wasm = wat::parse_str(text).unwrap();
    instrument(&wasm).expect_err("refused")
}

#[test]
fn unsupported_features_are_rejected_by_name() {
    for (text, feature) in [
        ("(module (memory 1 1 shared))", "threads or shared memory"),
        (
            "(module (memory 1) (func i32.const 0 i32.const 0 i32.atomic.store))",
            "threads or shared memory",
        ),
        ("(module (memory i64 1))", "64-bit memory"),
        ("(module (memory 1) (memory 1))", "more than one memory"),
        (
            "(module (tag) (func try throw 0 catch_all end))",
            "exceptions of the old proposal",
        ),
        (
            r#"(module (import "env" "thrown" (tag)))"#,
            "imported tags of exceptions",
        ),
        ("(module (table 1 exnref))", "other than funcref"),
        (
            "(module (global (mut exnref) (ref.null exn)))",
            "other than funcref",
        ),
        (
            "(module (elem exnref (ref.null exn)))",
            "other than funcref",
        ),
        (
            r#"(module (func (export "f") (param exnref)))"#,
            "other than funcref",
        ),
        (
            r#"(module (import "env" "f" (func (result externref))))"#,
            "other than funcref",
        ),
        ("(module (type (struct (field i32))))", "garbage-collected"),
        (
            "(module (type $f (func)) (func (param (ref $f)) local.get 0 call_ref $f))",
            "typed function references",
        ),
        ("(module (table 1 externref))", "other than funcref"),
        (
            "(module (global (mut externref) (ref.null extern)))",
            "other than funcref",
        ),
    ] {
        let error = refusal(text);
        assert!(
            matches!(error, InstrumentError::Unsupported { feature: f, .. } if f.contains(feature)),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("does not support"));
    }
}

#[test]
fn input_that_is_not_a_core_module_is_rejected() {
    assert!(matches!(
        instrument(b"").unwrap_err(),
        InstrumentError::NotWasm { hint } if hint.contains("empty")
    ));
    assert!(matches!(
        instrument(b"\x7fELF....").unwrap_err(),
        InstrumentError::NotWasm { hint } if hint.contains("native")
    ));
    let component = wat::parse_str("(component)").unwrap();
    assert!(matches!(
        instrument(&component).unwrap_err(),
        InstrumentError::Component
    ));
    assert!(matches!(
        instrument(b"\0asm").unwrap_err(),
        InstrumentError::Invalid { .. }
    ));
}

#[test]
fn an_invalid_function_is_named_with_its_offset() {
    let wasm = wat::parse_str(
        r#"(module (import "env" "log" (func)) (func $fine) (func $broken (result i32) i64.const 1))"#,
    )
    .unwrap();
    match instrument(&wasm).unwrap_err() {
        InstrumentError::Invalid {
            function, offset, ..
        } => {
            assert_eq!(function.unwrap().to_string(), "function 2 (`broken`)");
            assert!(offset > 8 && offset < wasm.len());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn reserved_names_are_rejected() {
    let error = refusal(r#"(module (func (export "exuvia:start")))"#);
    assert!(error.to_string().contains("`exuvia:start`"), "{error}");
    let error = refusal(r#"(module (import "exuvia:host" "f" (func)))"#);
    assert!(error.to_string().contains("`exuvia:host`"), "{error}");
    // What the pass wrote is refused as input.
    let once = instrument(&wat::parse_str("(module)").unwrap()).unwrap();
    assert!(matches!(
        instrument(&once.wasm).unwrap_err(),
        InstrumentError::Reserved { .. }
    ));
}

#[test]
fn a_blocking_import_must_return_i32() {
    let error = refusal(r#"(module (import "exuvia" "sleep" (func (param i64))))"#);
    assert!(
        error.to_string().contains("`exuvia.sleep`") && error.to_string().contains("(i64) -> ()"),
        "{error}"
    );
}

#[test]
fn exceeded_limits_are_errors() {
    let tables = "(table 1 funcref)".repeat(100);
    assert!(matches!(
        refusal(&format!("(module {tables})")),
        InstrumentError::TooMany {
            what: "tables",
            count: 101,
            limit: 100
        }
    ));
    // It fits as it is, and passes the limit once it is metered.
    let code = format!("{}{}", "loop end ".repeat(16_000), "nop ".repeat(2_000_000));
    match refusal(&format!("(module (func) (func $big {code}))")) {
        InstrumentError::FunctionTooLarge {
            function, bytes, ..
        } => {
            assert_eq!(function.to_string(), "function 1 (`big`)");
            assert!(bytes > MAX_FUNCTION_BYTES);
        }
        other => panic!("{other}"),
    }
}

/// A function's size tells little of what its locals cost: so many are declared
/// in five bytes.
#[test]
fn locals_are_limited_per_function_and_per_module() {
    let local = "(local i32)".repeat(50_000);
    let one = format!("(func {local})");
    let code = "i32.const 77777 drop ".repeat(350_000);
    match refusal(&format!("(module (func) (func $both {local} {code}))")) {
        InstrumentError::FunctionTooLarge {
            function,
            locals,
            bytes,
            limit,
            ..
        } => {
            assert_eq!(function.to_string(), "function 1 (`both`)");
            assert!(locals == 50_000 && bytes < limit, "{locals} {bytes}");
        }
        other => panic!("{other}"),
    }
    let many = one.repeat(170);
    match refusal(&format!("(module {many} (func $last))")) {
        error @ InstrumentError::CodeTooLarge { .. } => {
            assert!(error.to_string().contains("with function 167"), "{error}");
        }
        other => panic!("{other}"),
    }
    let few = one.repeat(100);
    let fits = instrument(&wat::parse_str(format!("(module {few})")).unwrap()).unwrap();
    assert!(fits.code_bytes > 100 * 50_000 * 8);
}

#[test]
fn the_largest_allowed_function_is_accepted() {
    let code = "nop ".repeat(2_000_000);
    instrument(&wat::parse_str(format!("(module (func {code}))")).unwrap()).unwrap();
}

/// The function's fault, and what the message says it has too much of.
fn too_complex(text: &str) -> (String, &'static str, u64, u64) {
    match refusal(text) {
        InstrumentError::FunctionTooComplex {
            function,
            what,
            count,
            limit,
        } => (function.to_string(), what, count, limit),
        other => panic!("{other}"),
    }
}

fn accepted(text: &str) {
    instrument(&wat::parse_str(text).unwrap()).unwrap();
}

/// The register allocator took 50 s for 5,000 blocks that each set one of 1,000 locals.
#[test]
fn sets_of_locals_that_live_over_many_blocks_are_bounded() {
    let module = |locals: usize, blocks: usize, around: (&str, &str)| {
        let sets: String = (0..blocks)
            .map(|block| {
                format!(
                    "local.get 0 if i32.const {block} local.set {} end ",
                    block % locals + 1
                )
            })
            .collect();
        let uses: String = (0..locals)
            .map(|local| format!("local.get {} drop ", local + 1))
            .collect();
        let (begin, end) = around;
        let types = "i32 ".repeat(locals);
        format!("(module (func $f (param i32) (local {types}) {begin} {sets} {uses} {end}))")
    };
    for around in [("", ""), ("loop", "local.get 0 br_if 0 end")] {
        let (function, what, count, limit) = too_complex(&module(1_000, 5_000, around));
        assert_eq!(function, "function 0 (`f`)");
        assert!(what.starts_with("sets of locals"), "{what}");
        assert!(count > limit && limit == MAX_SETS_BY_BLOCKS, "{count}");
        accepted(&module(100, 5_000, around));
    }
    // Their values are kept until a later iteration, though each is set and used in one block.
    let kept: String = (1..=1_000)
        .map(|local| {
            let get = format!("local.get {local} ");
            format!("local.get 0 if i32.const 1 local.set {local} end {get} i32.eqz if end ")
        })
        .collect();
    let types = "i32 ".repeat(1_000);
    let (_, what, ..) = too_complex(&format!(
        "(module (func (param i32) (local {types}) loop {kept} {kept} local.get 0 br_if 0 end))"
    ));
    assert!(what.starts_with("sets of locals"), "{what}");
}

/// Compilers without optimisation give each intermediate value a local of its own.
#[test]
fn locals_of_single_blocks_count_for_these() {
    let blocks: String = (0..1_500)
        .map(|block| {
            let locals = (block * 5 + 1)..(block * 5 + 6);
            let uses = |local| format!("local.get 0 local.set {local} local.get {local} drop ");
            format!(
                "local.get 0 if {} end ",
                locals.map(uses).collect::<String>()
            )
        })
        .collect();
    let types = "i32 ".repeat(8_000);
    accepted(&format!(
        "(module (func (param i32) (local {types}) loop {blocks} local.get 0 br_if 0 end))"
    ));
}

/// What a module's initialization is made of is code, though the module has none.
#[test]
fn steps_of_the_initialization_are_bounded() {
    let many = |text: &str, count: usize| (0..count).map(|_| text).collect::<String>();
    let module = |items: &str| {
        format!(
            "(module (import \"a\" \"b\" (global $g i32)) (memory 1) (table 1 funcref) (func $f) {items})"
        )
    };
    let most = MAX_STARTUP as usize;
    let sum = |count| {
        format!(
            "(global i32 i32.const 1 {})",
            many("i32.const 1 i32.add ", count)
        )
    };
    let too_many = [
        many(
            "(data (i32.add (i32.const 0) (i32.const 1)) \"a\")",
            most / 4 + 1,
        ),
        many("(data (global.get $g) \"a\")", most / 2 + 1),
        (0..most + 1)
            .map(|n| format!("(data (i32.const {}) \"a\")", n * 2_000))
            .collect(),
        format!("(elem (global.get $g) func {})", many("$f ", most)),
        format!(
            "(elem (i32.const 0) funcref {})",
            many("(ref.func $f) ", most / 2 + 1)
        ),
        sum(most / 2),
    ];
    for items in too_many {
        match refusal(&module(&items)) {
            InstrumentError::TooMany { what, limit, .. } => {
                assert!(what.contains("initialization"), "{what}");
                assert_eq!(limit, MAX_STARTUP);
            }
            other => panic!("{other}"),
        }
    }
    // As Go's linker writes them.
    let near: String = (0..90_000)
        .map(|n| format!("(data (i32.const {}) \"abcdefgh\")", n * 24))
        .collect();
    accepted(&format!("(module (memory 40) {near})"));
    accepted(&module(&sum(1_000)));
}

/// Of more things that a function loads from or stores to, the compiler loses count.
#[test]
fn imports_and_globals_are_bounded() {
    let imports = "(import \"exuvia\" \"now\" (func))".repeat(MAX_IMPORTS as usize + 1);
    let globals = "(global i32 (i32.const 0))".repeat(MAX_GLOBALS as usize - 1);
    for (items, kind) in [(imports, "imports"), (globals, "globals")] {
        match refusal(&format!("(module {items})")) {
            InstrumentError::TooMany { what, .. } => assert_eq!(what, kind),
            other => panic!("{other}"),
        }
    }
}

/// Instructions that become several blocks, or calls, count as these.
#[test]
fn bulk_instructions_and_module_initializers_are_bounded() {
    let copies = |count: usize| {
        let code = "i32.const 0 i32.const 0 i32.const 0 table.copy 0 0 ".repeat(count);
        format!("(module (table 1 funcref) (func) (func $big {code}))")
    };
    let (function, what, ..) = too_complex(&copies(MAX_BLOCKS as usize / 8 + 1));
    assert_eq!(function, "function 1 (`big`)");
    assert!(what.starts_with("blocks"), "{what}");
    accepted(&copies(5_000));
    let entries = |count: usize| {
        let entries = "0 ".repeat(count);
        format!("(module (table 1 funcref) (func) (elem func {entries}))")
    };
    match refusal(&entries(MAX_STARTUP as usize + 1)) {
        InstrumentError::TooMany { what, .. } => assert!(what.contains("passive"), "{what}"),
        other => panic!("{other}"),
    }
    accepted(&entries(50_000));
    // The trampolines of functions that pass a thousand values.
    let values = "i32 ".repeat(900);
    let passing = format!("(func (param {values}) (result {values}) unreachable) ").repeat(5_000);
    let all = format!("(module {passing} (elem declare func 0))");
    assert!(matches!(
        refusal(&all),
        InstrumentError::CodeTooLarge { .. }
    ));
}

/// Each call within `try_table` may go on at each clause around it.
#[test]
fn calls_that_may_be_caught_are_bounded() {
    let calls = |catches: usize, calls: usize| {
        let begin = "(block (try_table (catch_all 0) ".repeat(catches);
        let end = "))".repeat(catches);
        let code = "(call $f) ".repeat(calls);
        format!("(module (tag) (func $f) (func $big {begin} {code} {end}))")
    };
    let (function, what, count, limit) = too_complex(&calls(99, MAX_BLOCKS as usize / 100 + 1));
    assert_eq!(function, "function 1 (`big`)");
    assert!(what.starts_with("blocks"), "{what}");
    assert!(count > limit && limit == MAX_BLOCKS, "{count}");
    accepted(&calls(99, MAX_BLOCKS as usize / 100 - 10));
    // Outside of it they are calls like others.
    accepted(&calls(0, 5_000));
}

/// A compiler's memory grows with the product of blocks and of the values that they
/// pass: 180,000 of these have 2 MB, and took gigabytes.
#[test]
fn blocks_and_their_operands_are_bounded() {
    let blocks = |count: usize| {
        let code =
            "i32.const 0 if (result i32) i32.const 1 else i32.const 2 end drop ".repeat(count);
        format!("(module (func) (func $big {code}))")
    };
    let (function, what, count, limit) = too_complex(&blocks(MAX_BLOCKS as usize / 3 + 1));
    assert_eq!(function, "function 1 (`big`)");
    assert!(what.starts_with("blocks"), "{what}");
    assert!(count > limit && limit == MAX_BLOCKS, "{count}");
    let (_, what, count, limit) = too_complex(&blocks(5_000));
    assert!(what.starts_with("variables times blocks"), "{what}");
    assert!(count > limit && limit == MAX_VARIABLES_BY_BLOCKS, "{count}");
    accepted(&blocks(3_500));
    let locals = format!("(local {})", "i32 ".repeat(5_000));
    let code = "loop end ".repeat(5_000);
    let (_, what, ..) = too_complex(&format!("(module (func {locals} {code}))"));
    assert!(what.starts_with("variables times blocks"), "{what}");
    let wide = "i32 ".repeat(1_000);
    for block in ["block", "loop"] {
        let code = format!("{block} (type 0) end ").repeat(1_000);
        let (_, what, ..) = too_complex(&format!(
            "(module (type (func (param {wide}) (result {wide}))) (func unreachable {code} unreachable))"
        ));
        assert!(what.starts_with("variables times blocks"), "{what}");
    }
    // An interpreter's loop: the largest that are known have less than half of it.
    let code = "block block global.get 0 br_if 0 end global.get 0 br_if 0 end ".repeat(5_000);
    accepted(&format!(
        "(module (global (mut i32) (i32.const 0)) (func (local {}) {code}))",
        "i32 ".repeat(1_000)
    ));
}

#[test]
fn operands_loops_and_functions_are_bounded() {
    let deep = |count: u64| {
        let code = "i32.const 1 ".repeat(count as usize);
        let drops = "drop ".repeat(count as usize);
        format!("(module (func $deep {code} {drops}))")
    };
    let (function, what, count, limit) = too_complex(&deep(MAX_OPERANDS + 1));
    assert_eq!(function, "function 0 (`deep`)");
    assert!(what.contains("operand stack"), "{what}");
    assert_eq!((count, limit), (MAX_OPERANDS + 1, MAX_OPERANDS));
    accepted(&deep(MAX_OPERANDS));
    let nested = |count: u64| {
        let count = count as usize;
        format!(
            "(module (func {} {}))",
            "loop ".repeat(count),
            "end ".repeat(count)
        )
    };
    let (_, what, count, _) = too_complex(&nested(MAX_NESTED_LOOPS + 1));
    assert!(what.starts_with("loops inside"), "{what}");
    assert_eq!(count, MAX_NESTED_LOOPS + 1);
    accepted(&nested(MAX_NESTED_LOOPS));
    let many = "(func)".repeat(MAX_FUNCTIONS as usize);
    match refusal(&format!("(module {many})")) {
        InstrumentError::TooMany { what, count, limit } => {
            assert_eq!(
                (what, count, limit),
                ("functions", MAX_FUNCTIONS + 1, MAX_FUNCTIONS)
            );
        }
        other => panic!("{other}"),
    }
}

/// A call of two bytes may pass two thousand values.
#[test]
fn operands_of_calls_count_for_the_function() {
    let wide = "i32 ".repeat(1_000);
    let calls = "call $wide ".repeat(200);
    match refusal(&format!(
        "(module (func $wide (param {wide}) (result {wide}) unreachable) (func unreachable {calls} unreachable))"
    )) {
        error @ InstrumentError::FunctionTooLarge { calls, values, .. } => {
            assert_eq!((calls, values), (200, 400_000));
            assert!(error.to_string().contains("200 calls"), "{error}");
        }
        other => panic!("{other}"),
    }
}
