//! Supervision trees: an app booted from a manifest, its children's starts,
//! restarts and ends; and supervisors that guests start.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::abi::{Code, Kind, Reason};
use exuvia_node::{
    App, BootError, BootOptions, DeployOptions, Event, Filter, Limits, Node, NodeConfig, Pid,
    SpawnOptions,
};
use serde::Serialize;

use crate::guests::{COUNTER, ask, deploy, event, eventually, imports, module, node};
use crate::puppet::{self, DATA, PID, Puppet};

const STOP: Duration = Duration::from_secs(20);

/// A child whose argument, a text, says what it does. It tells the process
/// `journal` its first letter when it starts, and logs it when it is told to
/// stop. Letters: `f` refuses to start, `t` traps at its start, `h` does not
/// stop when it is told to. Messages: `x` traps, `n` ends normally, `s` ends
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
    Manifest::load(folder).unwrap_or_else(|error| panic!("{error}"))
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

/// Asked, a member answers with its letter.
fn answers(app: &App, name: &str) {
    let reply = app
        .node()
        .call(find(app, name), 0, Vec::new(), STOP)
        .unwrap();
    assert_eq!(reply.payload, &name.as_bytes()[..1]);
}

#[test]
fn children_start_in_order_and_stop_in_reverse() {
    let app = boot(&members(
        "strategy = \"one_for_one\"",
        &[("a", ""), ("b", ""), ("c", "")],
    ));
    let journal = Puppet::of(app.node(), find(&app, "journal"));
    for letter in [b"a", b"b", b"c"] {
        let got = journal.next().message(Kind::Message, letter);
        let name = std::str::from_utf8(letter).unwrap();
        assert_eq!(got.sender, find(&app, name));
    }
    assert_eq!(app.ended(), None);
    let mut events = app.node().events();
    let report = app.stop(STOP);
    assert!(report.orderly && report.left == 0, "{report:?}");
    let mut said = String::new();
    while let Ok(event) = events.try_recv() {
        if let Event::Log { text, .. } = event {
            said += &text;
        }
    }
    assert_eq!(said, "cba");
}

#[test]
fn a_child_that_crashes_is_restarted_alone() {
    let app = boot(&members("intensity = 100", &[("a", ""), ("b", "")]));
    let (mut a, b) = (find(&app, "a"), find(&app, "b"));
    for _ in 0..5 {
        post(&app, "a", b"x");
        a = renewed(&app, "a", a);
        answers(&app, "a");
    }
    app.node().kill(a);
    renewed(&app, "a", a);
    assert_eq!(find(&app, "b"), b);
    assert_eq!(app.ended(), None);
    assert!(app.stop(STOP).orderly);
}

#[test]
fn one_for_all_restarts_all() {
    let app = boot(&members(
        "strategy = \"one_for_all\"\nintensity = 5",
        &[("a", ""), ("b", ""), ("c", "")],
    ));
    let before = ["a", "b", "c"].map(|name| (name, find(&app, name)));
    let mut events = app.node().events();
    post(&app, "b", b"x");
    for (name, pid) in before {
        renewed(&app, name, pid);
        answers(&app, name);
    }
    // The others were told, last first.
    let mut said = || {
        event(&mut events, "a stop", |event| match event {
            Event::Log { text, .. } => Some(text.clone()),
            _ => None,
        })
    };
    assert_eq!([said(), said()], ["c", "a"]);
    assert!(app.stop(STOP).orderly);
}

#[test]
fn rest_for_one_restarts_the_later_children() {
    let app = boot(&members(
        "strategy = \"rest_for_one\"\nintensity = 5",
        &[("a", ""), ("b", ""), ("c", "")],
    ));
    let [a, b, c] = ["a", "b", "c"].map(|name| find(&app, name));
    post(&app, "b", b"x");
    renewed(&app, "c", c);
    assert_ne!(find(&app, "b"), b);
    assert_eq!(find(&app, "a"), a);
    assert!(app.stop(STOP).orderly);
}

#[test]
fn the_restart_intensity_ends_the_tree() {
    let app = boot(&members("intensity = 2\nperiod = \"1h\"", &[("a", "")]));
    let mut a = find(&app, "a");
    for _ in 0..2 {
        post(&app, "a", b"x");
        a = renewed(&app, "a", a);
    }
    assert_eq!(app.ended(), None);
    post(&app, "a", b"x");
    let mut ended = None;
    eventually("the tree ends", || {
        ended = app.ended();
        ended.is_some()
    });
    let reason = ended.unwrap();
    assert!(reason.contains("intensity"), "{reason}");
    assert!(reason.contains("`a`"), "{reason}");
    assert!(app.node().find("journal").is_err());
    let report = app.stop(STOP);
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn restart_types() {
    let app = boot(&members(
        "intensity = 100",
        &[
            ("permanent", ""),
            ("crashing", "restart = \"transient\""),
            ("leaving", "restart = \"transient\""),
            ("shut", "restart = \"transient\""),
            ("once", "restart = \"temporary\""),
        ],
    ));
    let permanent = find(&app, "permanent");
    post(&app, "permanent", b"n");
    renewed(&app, "permanent", permanent);
    let crashing = find(&app, "crashing");
    post(&app, "crashing", b"x");
    renewed(&app, "crashing", crashing);
    post(&app, "leaving", b"n");
    post(&app, "shut", b"s");
    post(&app, "once", b"x");
    for name in ["leaving", "shut", "once"] {
        eventually(name, || app.node().find(name).is_err());
    }
    // The supervisor has dealt with all of it when it restarts one more.
    let permanent = find(&app, "permanent");
    post(&app, "permanent", b"x");
    renewed(&app, "permanent", permanent);
    for name in ["leaving", "shut", "once"] {
        assert!(app.node().find(name).is_err(), "{name}");
    }
    assert!(app.stop(STOP).orderly);
}

#[test]
fn a_nested_supervisor_restarts_its_children_and_is_restarted_itself() {
    let tree = r#"
[supervisor]
intensity = 3
[[supervisor.children]]
id = "outer"
module = "member"
name = "outer"
args = "outer"
[[supervisor.children]]
id = "inner"
[supervisor.children.supervisor]
intensity = 1
period = "1h"
strategy = "one_for_all"
[[supervisor.children.supervisor.children]]
id = "a"
module = "member"
name = "a"
args = "a"
[[supervisor.children.supervisor.children]]
id = "b"
module = "member"
name = "b"
args = "b"
"#;
    let app = boot(tree);
    let outer = find(&app, "outer");
    let (mut a, mut b) = (find(&app, "a"), find(&app, "b"));
    // The first is the inner supervisor's matter, the second is too much for
    // it, and the outer one starts it again, with a fresh count.
    for _ in 0..4 {
        post(&app, "a", b"x");
        a = renewed(&app, "a", a);
        b = renewed(&app, "b", b);
        answers(&app, "a");
        answers(&app, "b");
        assert_eq!(app.ended(), None);
    }
    assert_eq!(find(&app, "outer"), outer);
    let report = app.stop(STOP);
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn a_failed_start_is_reported_with_its_reason() {
    for (name, reason) in [("fails", "no licence"), ("traps", "unreachable")] {
        let Err(BootError::Tree(error)) =
            try_boot(&members("", &[("a", ""), (name, ""), ("c", "")]))
        else {
            panic!("it booted");
        };
        assert!(error.contains(reason), "{error}");
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
    let taken = members("", &[("a", "")]).replace("name = \"a\"\n", "name = \"journal\"\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("exuvia.toml"), "").unwrap();
    assert!(Manifest::parse(&taken, "exuvia.toml", folder.path()).is_err());
}

#[test]
fn a_boot_with_missing_files_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let tree = members("", &[("a", "")]);
    let ready = manifest(folder.path(), &tree);
    std::fs::remove_file(folder.path().join("member.wasm")).unwrap();
    let config = || NodeConfig {
        cache: None,
        frames: 16,
        ..NodeConfig::of(&ready)
    };
    let options = || BootOptions {
        config: Some(config()),
        ..BootOptions::default()
    };
    let error = App::boot(ready.clone(), options()).unwrap_err().to_string();
    assert!(
        error.contains("`member`") && error.contains("member.wasm"),
        "{error}"
    );
    std::fs::write(folder.path().join("member.wasm"), b"\0asm\x01\0\0").unwrap();
    let error = App::boot(ready.clone(), options()).unwrap_err().to_string();
    assert!(error.contains("member.wasm"), "{error}");
}

#[test]
fn children_that_do_not_stop_are_killed() {
    let app = boot(&members(
        "",
        &[
            ("hangs", "shutdown = \"20ms\""),
            ("killed", "shutdown = \"brutal_kill\""),
            ("polite", "shutdown = \"10s\""),
        ],
    ));
    let mut events = app.node().events();
    let report = app.stop(STOP);
    assert!(report.orderly && report.left == 0, "{report:?}");
    let (mut said, mut ends) = (String::new(), Vec::new());
    while let Ok(event) = events.try_recv() {
        match event {
            Event::Log { text, .. } => said += &text,
            Event::Exit { reason, .. } => ends.push(reason),
            _ => {}
        }
    }
    // `killed` was never told, and died first of those two.
    assert_eq!(
        (said.as_str(), ends),
        ("ph", vec!["killed".into(), "killed".into()])
    );
}

#[test]
fn a_tree_that_does_not_stop_in_time_is_reported() {
    let app = boot(&members("", &[("hangs", "shutdown = \"infinity\"")]));
    let report = app.stop(Duration::from_millis(50));
    assert!(!report.orderly && report.left > 0, "{report:?}");
}

#[test]
fn a_thousand_children_start_and_stop() {
    let tree = r#"
[supervisor]
intensity = 3
period = "5s"
[[supervisor.children]]
id = "counter"
module = "counter"
count = 1000
name = "counter-{n}"
"#;
    let app = boot(tree);
    assert_eq!(app.manifest().process_count(), 1_000);
    for n in [0, 1, 500, 999] {
        let pid = find(&app, &format!("counter-{n}"));
        app.node()
            .send(pid, 0, 5u64.to_le_bytes().to_vec())
            .unwrap();
        assert_eq!(ask(app.node(), pid), 5);
    }
    let before = find(&app, "counter-700");
    app.node().kill(before);
    let after = renewed(&app, "counter-700", before);
    assert_eq!(ask(app.node(), after), 0);
    assert_eq!(app.node().info().modules[0].processes, 1_000);
    let report = app.stop(STOP);
    assert!(report.orderly && report.left == 0, "{report:?}");
}

#[test]
fn restarts_that_a_release_causes_are_not_counted() {
    let app = boot(&members(
        "intensity = 1\nperiod = \"1h\"",
        &[("a", ""), ("b", ""), ("c", "")],
    ));
    let node = app.node();
    let before = ["a", "b", "c"].map(|name| (name, find(&app, name)));
    for (name, _) in before {
        answers(&app, name);
    }
    let mut events = node.events();
    // It ends the transaction before it traps, so there is no way back.
    let bad = member("(drop (call $sleep (i64.const 1))) unreachable");
    node.deploy(vec![module("member", &bad)], DeployOptions::default())
        .unwrap();
    for (name, pid) in before {
        post(&app, name, b"x");
        renewed(&app, name, pid);
    }
    event(&mut events, "the release goes back", |event| {
        matches!(event, Event::RolledBack { .. }).then_some(())
    });
    for (name, _) in before {
        answers(&app, name);
    }
    assert_eq!(app.ended(), None);
    assert!(app.stop(STOP).orderly);
}

// ---- children that are asked for ---------------------------------------------------

/// The supervisors of an app that has just booted, from the root on.
fn supervisors(node: &Node) -> Vec<Pid> {
    let all = node.processes(&Filter::default());
    // The first is the app itself.
    let natives = all.iter().filter(|it| it.module.is_none()).skip(1);
    natives.map(|it| node.find(&it.pid).unwrap()).collect()
}

/// Asks a supervisor for one more child, a puppet.
fn ask_for(node: &Node, supervisor: Pid, module: &str, name: &str) -> Puppet {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Ask<'a> {
        StartChild(Child<'a>),
    }
    let ask = Ask::StartChild(Child {
        id: name,
        module,
        name,
        args: "",
    });
    let ask = rmp_serde::to_vec_named(&ask).unwrap();
    let reply = node.call(supervisor, 0, ask, STOP).unwrap();
    let text = String::from_utf8_lossy(&reply.payload).into_owned();
    assert!(text.contains("started"), "{text}");
    Puppet::of(node, node.find(name).unwrap())
}

#[test]
fn a_child_started_on_request_has_the_limits_of_its_module() {
    // Of the manifest's supervisors, nested or not: that of `roomy`, not of the
    // others.
    let app = boot(
        r#"
[modules.roomy]
path = "puppet.wasm"
limits = { memory = "256KiB" }
[limits]
memory = "128KiB"
[[supervisor.children]]
id = "below"
[supervisor.children.supervisor]
"#,
    );
    let node = app.node();
    let supervisors = supervisors(node);
    assert_eq!(supervisors.len(), 2);
    for (supervisor, name) in supervisors.into_iter().zip(["outer", "inner"]) {
        let child = ask_for(node, supervisor, "roomy", name);
        // From one page to four, and no further.
        assert_eq!(child.act("grow", &[3], b"").result, 1, "{name}");
        assert_eq!(child.act("grow", &[1], b"").result, -1, "{name}");
    }
    assert!(app.stop(STOP).orderly);
    // Those of a guest's supervisor have the guest's.
    let a = four_pages();
    let supervisor = start(&a, &spec("one_for_one", &[])).ok().pid;
    let child = ask_for(&a.node, supervisor, "puppet", "more");
    assert_eq!(child.act("grow", &[3], b"").result, 1);
    assert_eq!(child.act("grow", &[1], b"").result, -1);
    a.node.halt();
}

// ---- started by guests -------------------------------------------------------------

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

#[test]
fn a_guest_starts_a_supervisor() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    a.trap_exit(true);
    let supervisor = start(&a, &spec("one_for_one", &["kid", "other"])).ok().pid;
    let kid = node.find("kid").unwrap();
    assert_eq!(node.call(kid, 0, Vec::new(), STOP).unwrap().payload, b"k");
    node.kill(kid);
    eventually("it is started again", || {
        node.find("kid").is_ok_and(|pid| pid != kid)
    });
    // Too often, and the supervisor ends: its parent is linked to it.
    for _ in 0..2 {
        let kid = node.find("kid").unwrap();
        node.kill(kid);
        eventually("it is started again, or not", || {
            node.find("kid").ok() != Some(kid)
        });
        eventually("the supervisor has seen it", || {
            node.find("kid").is_ok() || !node.system().is_alive(supervisor)
        });
    }
    a.wait()
        .notifications(Kind::Exit, supervisor, Reason::INTENSITY.0);
    eventually("no process is left", || node.find("other").is_err());
    node.halt();
}

/// As in OTP, a supervisor restarts its children until its own parent stops it.
#[test]
fn a_guests_supervisor_restarts_its_children_while_the_node_stops() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    start(&a, &spec("one_for_one", &["kid"])).ok();
    // What `App::stop` does first.
    node.system().table.close_to_guests();
    let kid = node.find("kid").unwrap();
    node.kill(kid);
    eventually("it is started again", || {
        node.find("kid").is_ok_and(|pid| pid != kid)
    });
    node.halt();
}

#[test]
fn a_supervisor_ends_with_the_guest_that_started_it() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    start(&a, &spec("one_for_all", &["kid"])).ok();
    a.kill();
    eventually("the tree ends", || {
        node.find("kid").is_err() && node.info().processes == 0
    });
    node.halt();
}

#[test]
fn an_invalid_specification_starts_nothing() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    deploy(&node, "member", &member("unreachable"));
    let a = Puppet::new(&node);
    a.trap_exit(true);
    start(&a, b"\xc1").is(Code::BadArgument);
    start(&a, &spec("all_for_one", &["kid"])).is(Code::BadArgument);
    start(&a, &spec("one_for_one", &["kid", "kid"])).is(Code::BadArgument);
    let unknown = rmp_serde::to_vec_named(
        &[("intensitivity", 3)]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap();
    start(&a, &unknown).is(Code::BadArgument);
    a.has_nothing();
    let got = start(&a, &spec("one_for_one", &["kid", "fails"])).is(Code::StartFailed);
    let told = a.wait().notifications(Kind::Exit, got.pid, 300);
    assert!(String::from_utf8_lossy(told.payload()).contains("no licence"));
    assert!(node.find("kid").is_err());
    node.halt();
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

#[test]
fn a_guests_supervisor_starts_no_child_with_too_little_memory() {
    let a = four_pages();
    let large = member("unreachable").replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 5)",
    );
    deploy(&a.node, "member", &large);
    a.trap_exit(true);
    let got = start(&a, &spec("one_for_one", &["kid"])).is(Code::StartFailed);
    let told = a
        .wait()
        .notifications(Kind::Exit, got.pid, Reason::MEMORY.0);
    let text = String::from_utf8_lossy(told.payload());
    for part in ["`kid`", "`member` starts with 327680", "is 262144"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    a.node.halt();
}
