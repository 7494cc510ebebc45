//! Components beside the guest of the suite: the counter that is written by hand, and one in JavaScript that asks it.

mod adapted;

use std::sync::Arc;
use std::time::Duration;

use exuvia_node::process::Grants;
use exuvia_node::{DeployOptions, Limits, ModuleBytes, Node, Pid, Reply, SpawnOptions, SwapReport};

use rmpv::Value;

use super::built;
use super::guest::{REFUSED, decoded, encoded};
use crate::guests::node_with;

const BY_HAND: &str = include_str!("../../../../component/tests/it/counter.wat");
/// The first call of JavaScript takes a while where code is not optimised.
const PATIENCE: Duration = Duration::from_secs(60);

fn deploy(node: &Node, name: &str, bytes: &[u8]) -> SwapReport {
    let module = ModuleBytes {
        name: name.into(),
        bytes: bytes.to_vec(),
        source: format!("{name}.wat"),
        noticed: None,
    };
    node.deploy(vec![module], DeployOptions::default()).unwrap()
}

fn ask(node: &Node, pid: Pid, payload: &[u8]) -> Reply {
    node.call(pid, 0, payload.to_vec(), PATIENCE).unwrap()
}

#[test]
fn one_by_hand_counts_and_is_swapped() {
    let node = node_with(|_| {});
    deploy(&node, "counter", BY_HAND.as_bytes());
    let start = || {
        node.spawn("counter", b"", &SpawnOptions::default())
            .unwrap()
    };
    let all: Vec<Pid> = (0..100).map(|_| start()).collect();
    for (pid, by) in all.iter().zip(0..) {
        node.send(*pid, 0, vec![by, 7]).unwrap();
        node.send(*pid, 0, vec![1]).unwrap();
    }
    for (pid, by) in all.iter().zip(1u32..) {
        assert_eq!(ask(&node, *pid, b"?").payload, by.to_le_bytes());
    }
    let refused = ask(&node, all[0], b"");
    assert_eq!(
        (refused.tag, &refused.payload[..]),
        (REFUSED, &b"empty"[..])
    );

    // Other code, and the state by `save` and `load`, on copies of all first.
    let other = BY_HAND.replace("(i32.store8 (i32.const 132) (i32.const 1))", "(i32.store8 (i32.const 132) (i32.const 1)) (i32.store (i32.const 8192) (i32.add (i32.load (i32.const 8192)) (i32.const 1000)))");
    let report = deploy(&node, "counter", other.as_bytes());
    assert_eq!(report.verified, 100, "{report:?}");
    for (pid, by) in all.iter().zip(1u32..) {
        assert_eq!(ask(&node, *pid, b"?").payload, (by + 1000).to_le_bytes());
    }
    // One that does not take the state is refused, and says why.
    let strict = BY_HAND.replace("(i32.ne (local.get 0) (i32.const 1))", "(i32.const 1)");
    let module = ModuleBytes {
        name: "counter".into(),
        bytes: strict.into_bytes(),
        source: "counter.wat".into(),
        noticed: None,
    };
    let why = node.deploy(vec![module], DeployOptions::default());
    let why = why.unwrap_err().to_string();
    assert!(why.contains("schema"), "{why}");
    assert_eq!(ask(&node, all[1], b"?").payload, 2002u32.to_le_bytes());
    node.halt();
}

/// A function of WASI that no actor has ends the process that calls it, with a reason that says so.
#[test]
fn a_call_of_what_is_missing_ends_the_process_and_says_of_what() {
    let node = node_with(|_| {});
    let text = BY_HAND
        .replace(
            r#"(import "wasi:clocks/wall-clock@0.2.3" (instance $clock
    (export "now" (func (result (tuple u64 u32))))))"#,
            r#"(import "wasi:http/thing@0.2.3" (instance $http (export "fetch" (func (param "a" u32)))))"#,
        )
        .replace(
            r#"(core instance $host (export "log" (func $log)))"#,
            r#"(core func $fetch (canon lower (func $http "fetch")))
               (core instance $host (export "log" (func $log)) (export "fetch" (func $fetch)))"#,
        )
        .replace(
            r#"(import "host" "log" (func $log (param i32 i32 i32)))"#,
            r#"(import "host" "log" (func $log (param i32 i32 i32)))
               (import "host" "fetch" (func $fetch (param i32)))"#,
        )
        .replace(
            "(call $log (i32.const 2) (i32.add (global.get $base) (i32.const 4)) (i32.const 5))",
            "(call $fetch (i32.const 0))",
        );
    deploy(&node, "counter", text.as_bytes());
    let pid = node
        .spawn("counter", b"", &SpawnOptions::default())
        .unwrap();
    let failed = node.call(pid, 0, Vec::new(), PATIENCE).unwrap_err();
    let why = format!("{failed:?}");
    assert!(why.contains("wasi:http/thing#fetch"), "{why}");
    node.halt();
}

/// WASI 0.2 lowered to preview 1: what CPython finds is what it finds on any system, and nothing outside of the folder.
#[test]
fn one_in_cpython_uses_a_folder() {
    let Some(folder) = built("component") else {
        return;
    };
    let wasm = std::fs::read(folder.join("files.wasm")).unwrap();
    let work = tempfile::tempdir().unwrap();
    let grants = Arc::new(Grants {
        folders: vec![crate::wasi::folder("/work", work.path(), true)],
        ..Grants::default()
    });
    let node = node_with(|config| {
        config.cache = Some(folder.join("compiled"));
        config.limits = Limits {
            memory: 128 << 20,
            grants,
            ..Limits::default()
        };
    });
    deploy(&node, "files", &wasm);
    let pid = node.spawn("files", b"", &SpawnOptions::default()).unwrap();
    let reply = ask(&node, pid, &encoded(&"/work".into()));
    let found = decoded(&reply.payload);
    let bytes = |text: &str| Value::Binary(text.into());
    let entry = |name: &str, is_folder: bool| Value::Array(vec![name.into(), is_folder.into()]);
    let wanted = [
        Value::Nil,
        "EEXIST".into(),
        Value::Nil,
        Value::Nil,
        bytes("0123456789abc"),
        bytes("1XY4"),
        13.into(),
        Value::Nil,
        bytes("01XY4"),
        Value::Nil,
        1_234_567_890.into(),
        Value::Nil,
        true.into(),
        Value::Nil,
        "ENOENT".into(),
        Value::Nil,
        Value::Nil,
        "file".into(),
        bytes("01XY4"),
        true.into(),
        Value::Nil,
        101.into(),
        Value::Array(vec![
            entry("file", false),
            entry("folder", true),
            entry("linked", false),
            entry("symbolic", false),
        ]),
        "ENOTEMPTY".into(),
        Value::Nil,
        Value::Nil,
        Value::Nil,
        Value::Array(Vec::new()),
        "ENOENT".into(),
    ];
    let found = found.as_array().unwrap();
    for (at, wanted) in wanted.iter().enumerate() {
        assert_eq!(&found[at], wanted, "result {at} of {found:?}");
    }
    // Outside of what is granted; how the library says that is its own affair.
    assert!(found[wanted.len()].is_str(), "{found:?}");
    node.halt();
}

#[test]
fn one_in_javascript_counts_asks_and_is_swapped() {
    let Some(folder) = built("component") else {
        return;
    };
    let wasm = std::fs::read(folder.join("javascript.wasm")).unwrap();
    let node = node_with(|config| {
        config.cache = Some(folder.join("compiled"));
        config.limits = Limits {
            memory: 64 << 20,
            ..Limits::default()
        };
    });
    deploy(&node, "counter", &wasm);
    deploy(&node, "by-hand", BY_HAND.as_bytes());
    let pid = node
        .spawn("counter", b"40", &SpawnOptions::default())
        .unwrap();
    node.send(pid, 0, b"2".to_vec()).unwrap();
    assert_eq!(ask(&node, pid, b"").payload, b"42");

    // It asks another process, waits for the reply, and says no with what was thrown.
    let options = SpawnOptions {
        name: Some("other".into()),
        ..SpawnOptions::default()
    };
    let other = node.spawn("by-hand", b"", &options).unwrap();
    node.send(other, 0, vec![5]).unwrap();
    // The one by hand refuses an empty request.
    let refused = ask(&node, pid, b"\"other\"");
    assert_eq!(refused.tag, REFUSED);
    assert_eq!(refused.payload, b"`other` says no: empty");
    let refused = ask(&node, pid, b"\"nobody\"");
    assert_eq!(refused.tag, REFUSED);
    assert_eq!(
        String::from_utf8_lossy(&refused.payload),
        "there is no `nobody`"
    );

    // Another text of the script: the state goes over by `save` and `load`.
    let (old, new) = (b"there is no `", b"not found: -`");
    let mut edited = wasm.clone();
    let places = edited.windows(old.len()).enumerate();
    let places: Vec<usize> = places
        .filter(|(_, part)| part == old)
        .map(|(at, _)| at)
        .collect();
    for at in places {
        edited[at..at + new.len()].copy_from_slice(new);
    }
    let report = deploy(&node, "counter", &edited);
    assert_eq!(report.verified, 1, "{report:?}");
    assert_eq!(ask(&node, pid, b"").payload, b"42");
    let refused = ask(&node, pid, b"\"nobody\"");
    assert_eq!(
        String::from_utf8_lossy(&refused.payload),
        "not found: -`nobody`"
    );
    node.halt();
}
