//! Supervision trees.

mod by_guests;
mod on_request;
mod trees;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, BootError, BootOptions, Limits, NodeConfig, Pid, SpawnOptions};
use serde::Serialize;

use crate::guests::{COUNTER, deploy, eventually, imports, node, with_layout};
use crate::puppet::{self, DATA, PID, Puppet};

const STOP: Duration = Duration::from_secs(20);

/// A child whose argument, a text, says what it does. It sends its first letter to the process
/// `journal` when it starts, and logs it when it is asked to stop. Letters: `f` refuses to start, `t`
/// traps at its start, `h` does not stop when it is asked to. Messages: `x` traps, `n` ends normally, `s` ends
/// with SHUTDOWN. `bad` goes where a failing version differs.
fn member(on_x: &str) -> String {
    let first = |at: u32, letter: char| {
        format!(
            "(i32.eq (i32.load8_u (i32.const {at})) (i32.const {}))",
            letter as u32
        )
    };
    let (f, t, h) = (first(513, 'f'), first(513, 't'), first(48, 'h'));
    let (x, n, s) = (first(512, 'x'), first(512, 'n'), first(512, 's'));
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 1024) "journal")
  (data (i32.const 1040) "no licence")
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 64) (i32.const 48))
      (if (call $receive (i32.const 64) (i32.const 512) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 1)) (then
        (i32.store8 (i32.const 48) (i32.load8_u (i32.const 513)))
        (drop (call $trap_exit (i32.const 1)))
        (if {f} (then
          (drop (call $init_ack (i32.const 300) (i32.const 1040) (i32.const 10))) (return (i32.const 2))))
        (if {t} (then unreachable))
        (if (i32.eqz (call $whereis (i32.const 1024) (i32.const 7) (i32.const 200)))
          (then (drop (call $send (i32.const 200) (i32.const 1) (i32.const 48) (i32.const 1)))))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 2)) (then
        (if {x} (then {on_x}))
        (if {n} (then (return (i32.const 2))))
        (if {s} (then (call $exit (i32.const 1) (i32.const 0) (i32.const 0))))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
        (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 48) (i32.const 1)))))
      (if (i32.eq (i32.load (i32.const 68)) (i32.const 5)) (then
        (drop (call $log (i32.const 3) (i32.const 48) (i32.const 1)))
        (if (i32.eqz {h}) (then (return (i32.const 2))))))
      (br $next))
    unreachable)
  (func (export "save") (result i32) (call $state_put (i32.const 48) (i32.const 1)))
  (func (export "load") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 48) (i32.const 1))) (i32.const 0)))"#,
        imports = imports(),
    )
}

/// The manifest of a tree in a folder that has the modules.
fn manifest(folder: &Path, tree: &str) -> Manifest {
    for (name, text) in [
        ("member", member("unreachable")),
        ("puppet", puppet::text(1)),
        ("counter", COUNTER.to_owned()),
    ] {
        std::fs::write(
            folder.join(format!("{name}.wasm")),
            wat::parse_str(text).unwrap(),
        )
        .unwrap();
    }
    let text = format!(
        "[app]\nname = \"test\"\n[modules.member]\npath = \"member.wasm\"\n[modules.puppet]\npath = \"puppet.wasm\"\n\
         [modules.counter]\npath = \"counter.wasm\"\n{tree}"
    );
    std::fs::write(folder.join("exuvia.toml"), text).unwrap();
    with_layout(Manifest::load(folder).unwrap_or_else(|error| panic!("{error}")))
}

fn try_boot(tree: &str) -> Result<App, BootError> {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest(folder.path(), tree);
    let config = NodeConfig {
        schedulers: 2,
        frames: 64,
        cache: None,
        verify: Duration::from_secs(5),
        ..NodeConfig::of(&manifest)
    };
    App::boot(
        manifest,
        BootOptions {
            config: Some(config),
            ..BootOptions::default()
        },
    )
}

#[track_caller]
fn boot(tree: &str) -> App {
    try_boot(tree).unwrap_or_else(|error| panic!("{error}"))
}

/// Members, whose names are their arguments, under a supervisor.
fn members(supervisor: &str, members: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[supervisor]\n{supervisor}\n[[supervisor.children]]\nid = \"journal\"\nmodule = \"puppet\"\nname = \"journal\"\n"
    );
    for (name, more) in members {
        write!(
            text,
            "[[supervisor.children]]\nid = \"{name}\"\nmodule = \"member\"\nname = \"{name}\"\nargs = \"{name}\"\n{more}\n"
        )
        .unwrap();
    }
    text
}

fn find(app: &App, name: &str) -> Pid {
    app.node().find(name).unwrap()
}

/// Waits until a name belongs to another process than before.
fn renewed(app: &App, name: &str, before: Pid) -> Pid {
    let mut now = before;
    eventually(name, || {
        now = app.node().find(name).unwrap_or(before);
        now != before
    });
    now
}

fn post(app: &App, name: &str, payload: &[u8]) {
    app.node()
        .send(find(app, name), 0, payload.to_vec())
        .unwrap();
}

/// A member replies to a request with its letter.
fn answers(app: &App, name: &str) {
    let reply = app
        .node()
        .call(find(app, name), 0, Vec::new(), STOP)
        .unwrap();
    assert_eq!(reply.payload, &name.as_bytes()[..1]);
}

#[derive(Serialize)]
struct Spec<'a> {
    strategy: &'a str,
    intensity: u32,
    children: Vec<Child<'a>>,
}

#[derive(Serialize)]
struct Child<'a> {
    id: &'a str,
    module: &'a str,
    name: &'a str,
    args: &'a str,
}

fn spec(strategy: &str, children: &[&str]) -> Vec<u8> {
    let spec = Spec {
        strategy,
        intensity: 2,
        children: children
            .iter()
            .map(|name| Child {
                id: name,
                module: "member",
                name,
                args: name,
            })
            .collect(),
    };
    rmp_serde::to_vec_named(&spec).unwrap()
}

fn start(puppet: &Puppet, spec: &[u8]) -> puppet::Done {
    let length = i64::try_from(spec.len()).unwrap();
    puppet.act("supervisor_start", &[DATA, length, PID], spec)
}

/// A puppet that may have four pages, on a node where others may have more.
fn four_pages() -> Puppet {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let limits = Some(Limits {
        memory: 4 * 65_536,
        ..Limits::default()
    });
    let options = SpawnOptions {
        limits,
        ..SpawnOptions::default()
    };
    let pid = node.spawn("puppet", b"", &options).unwrap();
    Puppet::of(&node, pid)
}
