//! Bytes from anywhere never make the pass panic, and what it accepts gives a
//! valid module.

use exuvia_instrument::{InstrumentError, instrument};
use proptest::prelude::*;

use crate::harness::check_output;

/// A module with something of everything, as a seed for damage.
const SEED: &str = r#"(module $seed
    (type $unary (func (param i32) (result i32)))
    (import "exuvia" "receive"
        (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
    (import "env" "log" (func $log (param i32)))
    (memory (export "memory") 1 10)
    (table $t 4 8 funcref)
    (tag $thrown (param i32))
    (global $__stack_pointer (mut i32) (i32.const 1024))
    (global (export "exuvia_abi") i32 (i32.const 1))
    (data (i32.const 1024) "some data")
    (data $passive "more data")
    (elem (i32.const 0) $f $receive $g)
    (elem $e func $f)
    (start $begin)
    (@custom "exuvia.layout" "print")
    (func $begin i32.const 0 i32.const 0 i32.const 9 memory.init $passive data.drop $passive)
    (func $f (type $unary) (local $x i64)
        loop $l (result i32)
            local.get 0 i32.const 1 i32.sub local.tee 0
            (@metadata.code.branch_hint "\01")
            br_if $l
            local.get 0
        end
        local.get 0 call $log)
    (func $g (export "run") (type $unary) (local f32 v128)
        block $a block $b
            local.get 0 br_table $a $b $a
        end end
        i32.const 0 i32.const 1 local.get 0 memory.fill
        i32.const 0 i32.const 100 local.get 0 memory.copy
        i32.const 0 i32.const 0 local.get 0 table.init $t $e
        local.get 0 i32.const 1 call_indirect (type $unary) drop
        i32.const 1 i32.const 2 i32.const 3 i64.const 4 i32.const 5 i64.const 6 call $receive
        block $caught (result i32 exnref)
            try_table (catch_ref $thrown $caught) local.get 0 throw $thrown end
            unreachable
        end
        throw_ref))"#;

/// Random modules use what is supported.
fn features(references: bool, exceptions: bool) -> wasm_smith::Config {
    wasm_smith::Config {
        reference_types_enabled: references,
        gc_enabled: false,
        exceptions_enabled: exceptions,
        threads_enabled: false,
        memory64_enabled: false,
        ..wasm_smith::Config::default()
    }
}

/// The pass on any bytes: an error, or an output for which everything holds.
fn check(bytes: &[u8]) {
    if let Ok(output) = instrument(bytes) {
        check_output(bytes, &output);
    }
}

#[test]
fn the_seed_is_accepted() {
    let wasm = wat::parse_str(SEED).unwrap();
    check_output(&wasm, &instrument(&wasm).unwrap());
}

#[test]
fn every_prefix_and_every_single_change_is_handled() {
    let wasm = wat::parse_str(SEED).unwrap();
    let mut accepted = 0;
    for at in 0..wasm.len() {
        check(&wasm[..at]);
        for change in [1, 0x40, 0x80, 0xff] {
            let mut damaged = wasm.clone();
            damaged[at] ^= change;
            accepted += u32::from(instrument(&damaged).is_ok());
            check(&damaged);
        }
    }
    // Else the test says nothing about outputs.
    assert!(accepted > 100, "{accepted}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        check(&bytes);
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend(&bytes);
        check(&module);
    }

    #[test]
    fn random_valid_modules_are_accepted(
        seed in prop::collection::vec(any::<u8>(), 0..8192),
        references in any::<bool>(),
        exceptions in any::<bool>(),
    ) {
        let mut input = arbitrary::Unstructured::new(&seed);
        if let Ok(module) = wasm_smith::Module::new(features(references, exceptions), &mut input) {
            let wasm = module.to_bytes();
            match instrument(&wasm) {
                Ok(output) => check_output(&wasm, &output),
                // The generator cannot leave out `externref` and imported tags alone.
                Err(InstrumentError::Unsupported { feature, .. })
                    if (references || exceptions) && feature.contains("funcref")
                        || exceptions && feature.contains("imported tags") => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn damaged_input_is_handled(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of((any::<prop::sample::Index>(), 0usize..8)),
    ) {
        let mut wasm = wat::parse_str(SEED).unwrap();
        for (at, byte) in changes {
            let at = at.index(wasm.len());
            wasm[at] = byte;
        }
        if let Some((at, length)) = cut {
            let at = at.index(wasm.len());
            let end = (at + length).min(wasm.len());
            wasm.drain(at..end);
        }
        check(&wasm);
    }
}
