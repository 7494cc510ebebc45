//! Guests written in WAT, and a node to run them on.

use std::time::{Duration, Instant};

use exuvia_manifest::Manifest;
use exuvia_node::{
    BootOptions, DeployOptions, Event, MemoryLayout, ModuleBytes, Node, NodeConfig, Pid,
    SpawnOptions,
};
use tokio::sync::broadcast::{self, error::TryRecvError};

use crate::layout::is_wide;

/// A node without a compile cache, with two schedulers.
pub(crate) fn node() -> Node {
    node_with(|_| {})
}

pub(crate) fn node_with(change: impl FnOnce(&mut NodeConfig)) -> Node {
    let mut config = NodeConfig {
        schedulers: 2,
        frames: 64,
        cache: None,
        verify: Duration::from_secs(5),
        memory_layout: match is_wide() {
            true => MemoryLayout::Wide,
            false => MemoryLayout::Packed,
        },
        ..NodeConfig::default()
    };
    change(&mut config);
    Node::start(config).unwrap()
}

/// A manifest whose modules have the layout of this run.
pub(crate) fn with_layout(mut manifest: Manifest) -> Manifest {
    let layout = match is_wide() {
        true => exuvia_manifest::MemoryLayout::Wide,
        false => exuvia_manifest::MemoryLayout::Packed,
    };
    for module in manifest.modules.values_mut() {
        module.memory_layout = layout;
    }
    manifest
}

/// How the app of a manifest is booted here: the same node.
pub(crate) fn boot_options(manifest: &Manifest) -> BootOptions {
    let config = NodeConfig {
        schedulers: 2,
        frames: 32,
        cache: None,
        verify: Duration::from_secs(5),
        ..NodeConfig::of(manifest)
    };
    BootOptions {
        config: Some(config),
        ..BootOptions::default()
    }
}

pub(crate) fn module(name: &str, wat: &str) -> ModuleBytes {
    ModuleBytes {
        name: name.into(),
        bytes: wat::parse_str(wat).unwrap(),
        source: format!("{name}.wasm"),
        noticed: None,
    }
}

pub(crate) fn deploy(node: &Node, name: &str, wat: &str) {
    node.deploy(vec![module(name, wat)], DeployOptions::default())
        .unwrap();
}

pub(crate) fn spawn(node: &Node, module: &str, arguments: &[u8]) -> Pid {
    node.spawn(module, arguments, &SpawnOptions::default())
        .unwrap()
}

/// Calls with an empty payload and reads a little-endian number.
pub(crate) fn ask(node: &Node, pid: Pid) -> u64 {
    let reply = node
        .call(pid, 0, Vec::new(), Duration::from_secs(10))
        .unwrap();
    let mut bytes = [0; 8];
    bytes[..reply.payload.len().min(8)]
        .copy_from_slice(&reply.payload[..reply.payload.len().min(8)]);
    u64::from_le_bytes(bytes)
}

pub(crate) const COUNTER: &str = include_str!("../../../../guest-sdk/wat/counter.wat");

/// A counter whose handler is written by the test. At 16 lies the count; the
/// header is at 64, the payload at 512. `on_request` leaves the i64 to answer,
/// `on_message` nothing.
pub(crate) fn counter(on_message: &str, on_request: &str, rest: &str) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  (import "exuvia" "send" (func $send (param i32 i32 i32 i32) (result i32)))
  (import "exuvia" "sleep" (func $sleep (param i64) (result i32)))
  (import "exuvia" "state_put" (func $put (param i32 i32) (result i32)))
  (import "exuvia" "state_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func $count (result i64) (i64.load (i32.const 16)))
  (func $set (param i64) (i64.store (i32.const 16) (local.get 0)))
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 4096) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 2)) (then {on_message}))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (i64.store (i32.const 32) {on_request})
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 32) (i32.const 8)))))
      (br $next))
    unreachable)
  {rest})"#
    )
}

/// `save` and `load` of the eight bytes at 16, schema 0.
pub(crate) const STATE: &str = r#"
  (func (export "save") (result i32) (call $put (i32.const 16) (i32.const 8)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $get (i32.const 16) (i32.const 8))) (i32.const 0))"#;

/// All host calls, each under its own name.
pub(crate) fn imports() -> String {
    use exuvia_node::abi::{HOST_CALLS, WasmType};
    let word = |ty: &WasmType| match ty {
        WasmType::I32 => "i32",
        WasmType::I64 => "i64",
    };
    let mut text = String::new();
    for call in HOST_CALLS {
        let params: Vec<_> = call.params.iter().map(word).collect();
        let result = call
            .result
            .as_ref()
            .map_or_else(String::new, |ty| format!("(result {})", word(ty)));
        text += &format!(
            "(import \"exuvia\" \"{0}\" (func ${0} (param {1}) {result}))\n  ",
            call.name,
            params.join(" ")
        );
    }
    text
}

/// How long anything may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(30);

#[expect(
    clippy::disallowed_methods,
    reason = "when a broken test gives up; nothing is measured"
)]
fn give_up() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits a moment, unless it is too late.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "as for `give_up`")]
fn pause(what: &str, give_up: Instant) {
    assert!(Instant::now() < give_up, "it never happened: {what}");
    std::thread::park_timeout(Duration::from_millis(1));
}

/// Looks again until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let late = give_up();
    while !is_so() {
        pause(what, late);
    }
}

/// The first event from now on that `wanted` makes something of.
#[track_caller]
pub(crate) fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    what: &str,
    mut wanted: impl FnMut(&Event) -> Option<T>,
) -> T {
    let late = give_up();
    loop {
        match events.try_recv() {
            Ok(event) => {
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
            Err(TryRecvError::Closed) => panic!("the node is gone before: {what}"),
            Err(_) => pause(what, late),
        }
    }
}

/// The reason with which a process ends, and the whole of it.
#[track_caller]
pub(crate) fn exit_of(events: &mut broadcast::Receiver<Event>, of: Pid) -> (String, String) {
    let wanted = of.to_string();
    event(events, "the process's exit", |event| match event {
        Event::Exit {
            pid,
            reason,
            detail,
            ..
        } if *pid == wanted => Some((reason.clone(), detail.clone())),
        _ => None,
    })
}
