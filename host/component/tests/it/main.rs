//! What a component becomes, and why it does not become anything. What it does then is tested by the node, with this
//! counter and with the guests of the conformance suite.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use exuvia_component::{ComponentError, fuse, is_component};
use proptest::prelude::*;
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, Validator};

const COUNTER: &str = include_str!("counter.wat");

fn counter(from: &str, to: &str) -> Result<Vec<u8>, ComponentError> {
    assert!(COUNTER.contains(from), "`{from}` is not in the counter");
    fuse(&wat::parse_str(COUNTER.replace(from, to)).unwrap())
}

#[track_caller]
fn refused(from: &str, to: &str) -> String {
    counter(from, to).unwrap_err().to_string()
}

/// The names of a module's exports, and the modules that it imports from.
fn outside(wasm: &[u8]) -> (Vec<(String, ExternalKind)>, Vec<String>) {
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.unwrap();
                    exports.push((export.name.to_owned(), export.kind));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.unwrap();
                    assert!(matches!(import.ty, TypeRef::Func(_)), "{}", import.name);
                    imports.push(import.module.to_owned());
                }
            }
            _ => {}
        }
    }
    imports.dedup();
    (exports, imports)
}

#[test]
fn a_component_becomes_one_module_of_the_abi() {
    let component = wat::parse_str(COUNTER).unwrap();
    assert!(is_component(&component));
    let wasm = fuse(&component).unwrap();
    assert!(!is_component(&wasm));
    Validator::new().validate_all(&wasm).unwrap();
    let (exports, imports) = outside(&wasm);
    for (name, kind) in [
        ("memory", ExternalKind::Memory),
        ("exuvia_abi", ExternalKind::Global),
        ("run", ExternalKind::Func),
        ("save", ExternalKind::Func),
        ("load", ExternalKind::Func),
        ("exuvia_schema", ExternalKind::Func),
        ("__stack_pointer", ExternalKind::Global),
    ] {
        let found = exports.iter().filter(|(of, _)| of == name);
        assert_eq!(
            found.map(|(_, kind)| *kind).collect::<Vec<_>>(),
            [kind],
            "{name}"
        );
    }
    assert_eq!(imports, ["exuvia", "wasi_snapshot_preview1"]);
}

/// What tools write before the module or behind it stays: the state's description, for one.
#[test]
fn its_own_sections_are_the_modules() {
    let mut component = wat::parse_str(COUNTER).unwrap();
    let body = b"\x0cexuvia.state{}";
    component.extend([0, u8::try_from(body.len()).unwrap()]);
    component.extend(body);
    let wasm = fuse(&component).unwrap();
    let found = Parser::new(0).parse_all(&wasm).any(|payload| {
        matches!(payload.unwrap(), Payload::CustomSection(section)
            if section.name() == "exuvia.state" && section.data() == b"{}")
    });
    assert!(found);
}

#[test]
fn what_is_in_the_way_is_named() {
    let missing = refused(
        r#"(func (export "save") (result (list u8))"#,
        r#"(func (export "saved") (result (list u8))"#,
    );
    assert!(missing.contains("does not export `save`"), "{missing}");
}

#[test]
fn exports_of_another_type_are_refused() {
    let why = refused(
        r#"(func (export "save") (result (list u8))
    (canon lift (core func $actor "save") (memory (core memory $library "memory"))))"#,
        r#"(func (export "save") (param "a" u32) (canon lift (core func $actor "add")))"#,
    );
    assert!(
        why.contains("`save` is lowered to (i32) -> (), not to () -> (i32)"),
        "{why}"
    );
}

#[test]
fn imports_that_no_actor_has_are_refused() {
    let why = refused(r#""exuvia:actor/host@0.1.0""#, r#""shop:cart/host@1.0.0""#);
    assert!(
        why.contains("imports `shop:cart/host@1.0.0 log`, which an actor does not have"),
        "{why}"
    );
}

#[test]
fn imports_of_another_type_are_refused() {
    let wasm = counter(CLOCK, &calling("wasi:clocks/monotonic-clock@0.2.3", "now"));
    let why = wasm.unwrap_err().to_string();
    assert!(
        why.contains("`wasi:clocks/monotonic-clock@0.2.3 now` as (i32) -> (), and this host has it as () -> (i64)"),
        "{why}"
    );
}

/// What a module exports, and nothing else declares, may be named by its code.
#[test]
fn a_reference_to_what_was_exported_is_declared() {
    let wasm = counter(
        "(global $started (mut i32) (i32.const 0))",
        r#"(global $started (mut i32) (i32.const 0))
           (func $helper (export "helper"))
           (func (export "other") (drop (ref.func $helper)))"#,
    );
    Validator::new().validate_all(&wasm.unwrap()).unwrap();
}

/// Each caller gets its lists from its own `realloc`.
#[test]
fn callers_may_have_different_reallocs() {
    let random = r#"(import "wasi:random/random@0.2.3" (instance $random
             (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#;
    let with_two = COUNTER
        .replace(CLOCK, random)
        .replace(
            r#"(core instance $host (export "log" (func $log)))"#,
            r#"(core module $second
                 (import "library" "memory" (memory 1))
                 (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768)))
               (core instance $second (instantiate $second (with "library" (instance $library))))
               (core func $bytes (canon lower (func $random "get-random-bytes")
                 (memory (core memory $library "memory")) (realloc (core func $second "realloc"))))
               (core instance $host (export "log" (func $log)) (export "bytes" (func $bytes)))"#,
        )
        .replace(
            r#"(import "host" "log" (func $log (param i32 i32 i32)))"#,
            r#"(import "host" "log" (func $log (param i32 i32 i32)))
               (import "host" "bytes" (func $bytes (param i64 i32)))
               (func (export "fetch") (call $bytes (i64.const 8) (i32.const 128)))"#,
        );
    let wasm = fuse(&wat::parse_str(&with_two).unwrap()).unwrap();
    Validator::new().validate_all(&wasm).unwrap();
    // Twice the same bytes: nothing depends on the order of a table in memory.
    assert_eq!(wasm, fuse(&wat::parse_str(&with_two).unwrap()).unwrap());
}

/// A small file that would be a very large module.
#[test]
fn a_module_that_is_instantiated_often_is_refused() {
    let mut instances = String::from("(core instance (instantiate $padding))").repeat(900);
    instances.insert_str(
        0,
        &format!(
            r#"(core module $padding (@custom "x" "{}"))"#,
            "x".repeat(200_000)
        ),
    );
    let why = refused(CLOCK, &instances);
    assert!(why.contains("bytes of instances"), "{why}");
}

#[test]
fn two_memories_cannot_become_one() {
    let why = refused(
        "(elem (i32.const 0) func $add)",
        "(memory 1) (elem (i32.const 0) func $add)",
    );
    assert!(why.contains("2 memories"), "{why}");
}

/// What is imported and never called does no harm; a call ends the process, and says of what.
#[test]
fn functions_of_wasi_that_no_actor_has_are_there() {
    let wasm = counter(
        CLOCK,
        &calling("wasi:http/outgoing-handler@0.2.3", "handle"),
    )
    .unwrap();
    let text = b"wasi:http/outgoing-handler#handle";
    assert!(wasm.windows(text.len()).any(|part| part == text));
    Validator::new().validate_all(&wasm).unwrap();
}

/// The part of the counter that does not matter for it.
const CLOCK: &str = r#"(import "wasi:clocks/wall-clock@0.2.3" (instance $clock
    (export "now" (func (result (tuple u64 u32))))))"#;

/// A module that imports a function of an interface, with a number.
fn calling(interface: &str, function: &str) -> String {
    format!(
        r#"(import "{interface}" (instance $other (export "{function}" (func (param "a" u32)))))
           (core func $function (canon lower (func $other "{function}")))
           (core module $user (import "other" "{function}" (func (param i32))))
           (core instance $lowered (export "{function}" (func $function)))
           (core instance (instantiate $user (with "other" (instance $lowered))))"#
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is in the bytes, there is an error and no panic; and what becomes a module is a valid one.
    #[test]
    fn bytes_that_are_changed_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut component = wat::parse_str(COUNTER).unwrap();
        for (at, byte) in changes {
            let at = at.index(component.len());
            component[at] = byte;
        }
        if let Ok(wasm) = fuse(&component) {
            prop_assert!(Validator::new().validate_all(&wasm).is_ok());
        }
    }

    #[test]
    fn bytes_that_end_early_do_no_harm(length in any::<prop::sample::Index>()) {
        let component = wat::parse_str(COUNTER).unwrap();
        // Without its last sections it may be one as well.
        if let Ok(wasm) = fuse(&component[..length.index(component.len())]) {
            prop_assert!(Validator::new().validate_all(&wasm).is_ok());
        }
    }
}
