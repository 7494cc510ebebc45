//! What the report says about a module.

use exuvia_instrument::{ExternType, Instrumented, ValueType};

use crate::harness::rewrite;

fn report(text: &str) -> Instrumented {
    rewrite(text).1
}

/// Exports of a module: name, kind, index.
fn exports(wasm: &[u8]) -> Vec<(String, wasmparser::ExternalKind, u32)> {
    let mut found = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let wasmparser::Payload::ExportSection(section) = payload.unwrap() {
            for export in section {
                let export = export.unwrap();
                found.push((export.name.to_owned(), export.kind, export.index));
            }
        }
    }
    found
}

#[test]
fn hidden_state_is_exported_without_moving_an_index() {
    use wasmparser::ExternalKind::{Func, Global, Table};
    let output = report(
        r#"(module
            (import "env" "log" (func (param i32)))
            (import "env" "base" (global i32))
            (global (mut i32) (i32.const 1))
            (global i64 (i64.const 2))
            (global (export "shown") (mut f32) (f32.const 3))
            (table 4 10 funcref)
            (memory (export "memory") 2 9)
            (func $begin)
            (start $begin))"#,
    );
    let mut expected = vec![
        ("shown", Global, 3),
        ("memory", wasmparser::ExternalKind::Memory, 0),
        ("exuvia:g1", Global, 1),
        ("exuvia:t0", Table, 0),
        ("exuvia:reductions", Global, 4),
        ("exuvia:mail", Global, 5),
        ("exuvia:host", Table, 1),
        ("exuvia:start", Func, 1),
    ];
    let mut found = exports(&output.wasm);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by_key(|export| export.0);
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(name, kind, index)| (name.to_owned(), kind, index))
        .collect();
    assert_eq!(found, expected);

    let globals: Vec<_> = output
        .mutable_globals
        .iter()
        .map(|global| (global.index, global.export.as_str(), global.value))
        .collect();
    assert_eq!(
        globals,
        [
            (1, "exuvia:g1", ValueType::I32),
            (3, "shown", ValueType::F32)
        ]
    );
    assert_eq!(output.start, Some(1));
    assert_eq!(output.first_added_function, 2);
    let memory = output.memory.unwrap();
    assert_eq!(
        (memory.minimum, memory.maximum, memory.imported),
        (2, Some(9), false)
    );
    let table = &output.tables[0];
    assert_eq!(
        (table.minimum, table.maximum, table.mutable),
        (4, Some(10), false)
    );
    assert_eq!(output.imports.len(), 2);
    assert_eq!(output.imports[0].module, "env");
    assert!(
        matches!(&output.imports[0].ty, ExternType::Function(ty) if ty.to_string() == "(i32) -> ()")
    );
    assert!(output.exports.iter().any(|export| export.name == "memory"));
    assert!(output.resident_only.is_empty());
}

#[test]
fn the_output_has_no_start_section() {
    let output = report("(module (func $f) (start $f))");
    for payload in wasmparser::Parser::new(0).parse_all(&output.wasm) {
        assert!(!matches!(
            payload.unwrap(),
            wasmparser::Payload::StartSection { .. }
        ));
    }
}

#[test]
fn the_stack_pointer_is_found_by_name_or_export() {
    let of = |text: &str| report(text).stack_pointer;
    let found = of(r#"(module (global i32 (i32.const 1))
            (global $__stack_pointer (mut i32) (i32.const 1048576))
            (memory 20) (data (i32.const 1048576) "x"))"#)
    .unwrap();
    assert_eq!((found.index, found.export.as_str()), (1, "exuvia:g1"));
    assert_eq!((found.initial, found.stack_first), (Some(1_048_576), true));
    let found = of(
        r#"(module (global (export "__stack_pointer") (mut i32) (i32.const 66560))
            (memory 20) (data (i32.const 1024) "x") (data (i32.const 70000) "y"))"#,
    )
    .unwrap();
    assert_eq!(
        (found.export.as_str(), found.stack_first),
        ("__stack_pointer", false)
    );
    // Without data nobody can tell what lies below.
    let found = of("(module (global $__stack_pointer (mut i32) (i32.const 66560)) (memory 20))");
    assert!(!found.unwrap().stack_first);
    assert_eq!(of("(module (global $other (mut i32) (i32.const 1)))"), None);
}

#[test]
fn state_that_cannot_be_restored_makes_a_module_resident_only() {
    let reasons = |text: &str| report(text).resident_only;
    let found = reasons(
        r#"(module (memory 1) (data $d "x") (elem $e func $f) (table 1 funcref)
            (global (mut funcref) (ref.null func))
            (func $f (export "f") data.drop $d elem.drop $e
                i32.const 0 ref.null func table.set 0))"#,
    );
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[0].contains("function 0 (`f`) drops data segment 0"),
        "{found:?}"
    );
    assert!(found[1].contains("drops element segment 0"));
    assert!(found[2].contains("changes table 0"));
    assert!(found[3].contains("global 0"));

    // The same in code that only start runs is done before the base is taken.
    let by_start = r#"(module (memory 1) (data $d "x") (table 1 funcref)
        (func $helper data.drop $d i32.const 0 ref.null func table.set 0)
        (func $begin call $helper)
        (start $begin)
        (func (export "run") REST))"#;
    let text = by_start.replace("REST", "");
    let output = report(&text);
    assert!(output.resident_only.is_empty());
    assert!(!output.tables[0].mutable);
    let output = report(&by_start.replace("REST", "call $begin"));
    assert_eq!(output.resident_only.len(), 2);
    assert!(output.tables[0].mutable);

    let found = reasons(r#"(module (import "env" "t" (table 1 funcref)))"#);
    assert_eq!(found, ["table 0 is imported"]);
}

#[test]
fn digests_and_slots_compare_versions() {
    let module = |data: &str, order: &str, global: i32| {
        report(&format!(
            r#"(module (memory 1) (table 4 funcref) (data (i32.const 8) "{data}")
                (global i32 (i32.const {global}))
                (elem (i32.const 1) {order}) (func $a) (func $b))"#
        ))
    };
    let one = module("one", "$a $b", 1);
    let same = module("one", "$a $b", 1);
    assert_eq!(one.data_digest, same.data_digest);
    assert_eq!(one.globals_digest, same.globals_digest);
    assert_eq!(one.table_slots, same.table_slots);
    let other = module("two", "$b $a", 2);
    assert_ne!(one.data_digest, other.data_digest);
    assert_ne!(one.globals_digest, other.globals_digest);
    assert_ne!(one.table_slots, other.table_slots);
    let slots = other.table_slots.unwrap();
    let slots: Vec<_> = slots
        .iter()
        .map(|slot| (slot.slot, slot.function, slot.name.as_deref()))
        .collect();
    assert_eq!(slots, [(1, 1, Some("b")), (2, 0, Some("a"))]);
    let unknown = report(
        r#"(module (import "env" "base" (global $b i32)) (table 4 funcref)
            (elem (global.get $b) func $f) (func $f))"#,
    );
    assert_eq!(unknown.table_slots, None);
}

#[test]
fn custom_sections_are_kept_or_dropped() {
    let output = report(
        r#"(module $named
            (@custom "exuvia.layout" "fingerprint")
            (@custom ".debug_info" "stale")
            (@custom "sourceMappingURL" "stale")
            (@custom "producers" "\00")
            (global (export "exuvia_abi") i32 (i32.const 1))
            (func $work (export "run") (local $counter i32)
                loop local.get $counter br_if 0 end))"#,
    );
    assert_eq!(output.layout.as_deref(), Some(&b"fingerprint"[..]));
    assert_eq!(output.abi, Some(1));
    let mut sections = Vec::new();
    let mut functions = Vec::new();
    let mut locals = 0;
    for payload in wasmparser::Parser::new(0).parse_all(&output.wasm) {
        let wasmparser::Payload::CustomSection(section) = payload.unwrap() else {
            continue;
        };
        sections.push(section.name().to_owned());
        if let wasmparser::KnownCustom::Name(names) = section.as_known() {
            for name in names {
                match name.unwrap() {
                    wasmparser::Name::Function(map) => {
                        functions.extend(map.into_iter().map(|n| n.unwrap().name.to_owned()));
                    }
                    wasmparser::Name::Local(_) => locals += 1,
                    _ => {}
                }
            }
        }
    }
    sections.sort();
    assert_eq!(
        sections,
        // What it says of itself is in the report.
        ["metadata.code.branch_hint", "name", "producers"]
    );
    assert_eq!(functions, ["work", "exuvia yield"]);
    assert_eq!(locals, 1);
}

#[test]
fn what_a_module_says_of_itself_is_reported() {
    let output = report(
        r#"(module (@custom "exuvia.state" "one") (@custom "exuvia.protocol" "messages")
            (@custom "exuvia.state" "two") (@custom "exuvia.stated" "other"))"#,
    );
    assert_eq!(output.state, b"onetwo");
    assert_eq!(output.protocol, b"messages");
    let long = "x".repeat(exuvia_abi::exports::SECTION_BYTES - 1);
    let output = report(&format!(
        r#"(module (@custom "exuvia.state" "{long}") (@custom "exuvia.state" "yz"))"#
    ));
    assert_eq!(output.state.len(), exuvia_abi::exports::SECTION_BYTES);
    assert!(output.state.ends_with(b"xy") && output.protocol.is_empty());
}

#[test]
fn only_a_constant_abi_version_counts() {
    for global in [
        r#"(global (export "exuvia_abi") (mut i32) (i32.const 1))"#,
        r#"(global (export "exuvia_abi") i64 (i64.const 1))"#,
        r#"(global (export "abi") i32 (i32.const 1))"#,
    ] {
        assert_eq!(report(&format!("(module {global})")).abi, None);
    }
}
