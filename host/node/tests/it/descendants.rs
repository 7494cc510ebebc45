//! Bounds on descendants, and a node that survives processes that exceed them.

use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::abi::{Code, Kind, Reason};
use exuvia_node::{App, BootOptions, Limits, Node, NodeConfig, Pid, SpawnOptions};

use crate::guests::{deploy, eventually, imports, node, node_with, with_layout};
use crate::puppet::{self, DATA, Options, PID, Puppet};

const STOP: Duration = Duration::from_secs(20);

/// A puppet that may have so many descendants.
fn bounded(node: &Node, descendants: u32) -> Puppet {
    let limits = Some(Limits {
        descendants,
        ..Limits::default()
    });
    let options = SpawnOptions {
        limits,
        ..SpawnOptions::default()
    };
    Puppet::of(node, node.spawn("puppet", b"", &options).unwrap())
}

fn spawns(parent: &Puppet) -> Puppet {
    let pid = parent.spawn("", b"", Options::default()).ok().pid;
    Puppet::of(&parent.node, pid)
}

#[track_caller]
fn is_refused(parent: &Puppet) {
    parent.spawn("", b"", Options::default()).is(Code::Limit);
}

#[test]
fn descendants_count_at_any_depth() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let (a, stranger) = (bounded(&node, 3), Puppet::new(&node));
    let b = spawns(&a);
    let c = spawns(&b);
    let d = spawns(&c);
    for one in [&a, &b, &c, &d] {
        is_refused(one);
    }
    spawns(&stranger);
    // One between has ended: those below count on.
    b.kill();
    let mut pid = Pid::NONE;
    eventually("its own place is free", || {
        let done = a.spawn("", b"", Options::default());
        pid = done.pid;
        done.result == 0
    });
    let e = Puppet::of(&node, pid);
    is_refused(&a);
    is_refused(&d);
    e.kill();
    d.kill();
    eventually("there is room for two", || {
        c.spawn("", b"", Options::default()).result == 0
    });
    eventually("and the other", || {
        c.spawn("", b"", Options::default()).result == 0
    });
    is_refused(&a);
    node.halt();
}

#[test]
fn a_child_can_have_a_lower_bound_but_not_a_higher_one() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let a = bounded(&node, 6);
    let with = |parent: &Puppet, descendants: u32| {
        let mut options = vec![0; 72];
        options[0] = 72;
        options[64..68].copy_from_slice(&descendants.to_le_bytes());
        let arguments = [DATA + 72, 0, DATA + 72, 0, DATA, PID, 0];
        let pid = parent.act("spawn", &arguments, &options).ok().pid;
        Puppet::of(&node, pid)
    };
    let b = with(&a, 2);
    let kids = [spawns(&b), spawns(&b)];
    is_refused(&b);
    is_refused(&kids[0]);
    // What it asks for beyond is its parent's.
    let c = with(&a, 100);
    spawns(&c);
    spawns(&c);
    is_refused(&c);
    is_refused(&a);
    node.halt();
}

#[test]
fn children_of_a_guests_supervisor_count_as_the_guests() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let a = bounded(&node, 2);
    a.trap_exit(true);
    let start = |ids: &[&str]| {
        let children: Vec<_> = (ids.iter())
            .map(|id| std::collections::BTreeMap::from([("id", *id), ("module", "puppet")]))
            .collect();
        let spec = std::collections::BTreeMap::from([("children", children)]);
        let spec = rmp_serde::to_vec_named(&spec).unwrap();
        let length = i64::try_from(spec.len()).unwrap();
        a.act("supervisor_start", &[DATA, length, PID], &spec)
    };
    let got = start(&["one", "two"]).is(Code::StartFailed);
    let exit = a.wait().notifications(Kind::Exit, got.pid, Reason::LIMIT.0);
    let text = String::from_utf8_lossy(exit.payload());
    assert!(text.contains("descendants"), "{text}");
    eventually("the one that was started is gone", || {
        start(&["one"]).result == 0
    });
    is_refused(&a);
    node.halt();
}

/// Started again, a child does not begin to count anew: what those before it have
/// left behind is still there.
#[test]
fn a_bound_in_the_manifest_survives_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let puppet = wat::parse_str(puppet::text(1)).unwrap();
    std::fs::write(folder.path().join("puppet.wasm"), puppet).unwrap();
    let text = "[app]\nname = \"test\"\n[modules.puppet]\npath = \"puppet.wasm\"\n\
         [[supervisor.children]]\nid = \"one\"\nmodule = \"puppet\"\nname = \"one\"\nlimits = { descendants = 2 }\n";
    std::fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let manifest = with_layout(manifest);
    let config = NodeConfig {
        cache: None,
        ..NodeConfig::of(&manifest)
    };
    let options = BootOptions {
        config: Some(config),
        ..BootOptions::default()
    };
    let app = App::boot(manifest, options).unwrap();
    let node = app.node();
    let one = Puppet::of(node, node.find("one").unwrap());
    let orphans = [spawns(&one), spawns(&one)];
    is_refused(&one);
    let renewed = |before: Pid| {
        eventually("it is started again", || {
            node.find("one").is_ok_and(|pid| pid != before)
        });
        Puppet::of(node, node.find("one").unwrap())
    };
    one.kill();
    let one = renewed(one.pid);
    is_refused(&one);
    is_refused(&orphans[0]);
    orphans[1].kill();
    eventually("there is room", || {
        one.spawn("", b"", Options::default()).result == 0
    });
    is_refused(&one);
    assert!(app.stop(STOP).orderly);
}

/// Each of them spawns two of its own kind and rests, whatever comes of it. Asked
/// with a request it spawns once more and answers what that has answered.
fn bomb() -> String {
    let spawn = "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 0))";
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (func (export "run") (result i32)
    (i32.store (i32.const 64) (i32.const 48))
    (if (call $receive (i32.const 64) (i32.const 512) (i32.const 100) (i64.const 0) (i32.const 0) (i64.const 0))
      (then (return (i32.const 0))))
    (if (i32.eq (i32.load (i32.const 68)) (i32.const 1))
      (then (drop {spawn}) (drop {spawn})))
    (if (i32.eq (i32.load (i32.const 68)) (i32.const 3)) (then
      (i32.store (i32.const 300) {spawn})
      (drop (call $reply (i32.const 72) (i64.load (i32.const 88)) (i32.const 0) (i32.const 300) (i32.const 4)))))
    (i32.const 0)))"#,
        imports = imports()
    )
}

/// What a bomb is answered that wants one more.
fn wants_more(node: &Node, bomb: Pid) -> i32 {
    let reply = node.call(bomb, 0, Vec::new(), STOP).unwrap();
    i32::from_le_bytes(reply.payload.try_into().unwrap())
}

#[test]
fn endless_spawning_meets_the_bound_and_the_node_continues() {
    let node = node_with(|config| config.processes = 2_000);
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "bomb", &bomb());
    let table = &node.system().table;
    let a = Puppet::new(&node);
    let options = SpawnOptions {
        limits: Some(Limits {
            descendants: 100,
            ..Limits::default()
        }),
        ..SpawnOptions::default()
    };
    let first = node.spawn("bomb", b"", &options).unwrap();
    eventually("it meets its own bound", || {
        table.alive() >= 102 && wants_more(&node, first) == Code::Limit as i32
    });
    spawns(&a).kill();
    // Without a bound of its own it meets the node's, and that is not the last place.
    let second = node.spawn("bomb", b"", &SpawnOptions::default()).unwrap();
    eventually("it meets the node's bound", || {
        wants_more(&node, second) == Code::Limit as i32
    });
    assert!(table.alive() <= 2_000);
    assert!(table.limit_of_guests() < 2_000 && table.alive() >= table.limit_of_guests() - 10);
    is_refused(&a);
    // Operators and supervisors have places still.
    for _ in 0..100 {
        assert_eq!(a.act("grow", &[0], b"").result, 1);
    }
    let options = SpawnOptions::default();
    node.spawn("puppet", b"", &options).unwrap();
    node.halt();
}
