//! Which processes can have a supervisor start and stop children.

use std::collections::BTreeMap;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::abi::Code;
use exuvia_node::{App, BootOptions, Filter, Node, NodeConfig, Pid};
use serde::Serialize;

use crate::guests::{deploy, eventually, node, node_with, with_layout};
use crate::puppet::{self, DATA, Done, PID, Puppet, ROOM};

const STOP: Duration = Duration::from_secs(20);

/// An app of puppets. Those of `roomy` may have more than the others.
fn boot(tree: &str) -> App {
    let folder = tempfile::tempdir().unwrap();
    let puppet = wat::parse_str(puppet::text(1)).unwrap();
    std::fs::write(folder.path().join("puppet.wasm"), puppet).unwrap();
    let text = format!(
        "[app]\nname = \"test\"\n[limits]\nmemory = \"128KiB\"\n[modules.small]\npath = \"puppet.wasm\"\n\
         [modules.roomy]\npath = \"puppet.wasm\"\nlimits = {{ memory = \"4MiB\", priority = \"high\" }}\n{tree}"
    );
    std::fs::write(folder.path().join("exuvia.toml"), text).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let manifest = with_layout(manifest);
    let config = NodeConfig {
        schedulers: 2,
        frames: 64,
        cache: None,
        ..NodeConfig::of(&manifest)
    };
    let options = BootOptions {
        config: Some(config),
        ..BootOptions::default()
    };
    App::boot(manifest, options).unwrap()
}

/// The app's supervisors, the root first.
fn supervisors(node: &Node) -> Vec<Pid> {
    let all = node.processes(&Filter::default());
    // The first is the app itself.
    let natives = all.iter().filter(|it| it.module.is_none()).skip(1);
    natives.map(|it| node.find(&it.pid).unwrap()).collect()
}

fn named(node: &Node, name: &str) -> Puppet {
    Puppet::of(node, node.find(name).unwrap())
}

#[derive(Serialize)]
struct Child<'a> {
    id: &'a str,
    module: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    manages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<String>,
}

fn child<'a>(module: &'a str, name: &'a str) -> Child<'a> {
    Child {
        id: name,
        module,
        name,
        manages: None,
        args: None,
    }
}

/// `{"start_child": CHILD}` or what else is asked of an id or a child.
fn ask<T: Serialize>(what: &str, of: T) -> Vec<u8> {
    let map: BTreeMap<&str, T> = [(what, of)].into();
    rmp_serde::to_vec_named(&map).unwrap()
}

fn asks(puppet: &Puppet, supervisor: Pid, request: &[u8]) -> Done {
    puppet.call(supervisor, 0, request, ROOM, -1).ok()
}

#[track_caller]
fn is_denied(answer: &Done) {
    let text = String::from_utf8_lossy(answer.payload());
    assert_eq!(answer.tag.cast_signed(), Code::Denied as i32, "{text}");
    assert!(text.contains("error") && text.contains("denied"), "{text}");
}

#[track_caller]
fn is_done(answer: &Done) {
    assert_eq!(answer.tag, 0, "{answer:?}");
}

#[test]
fn a_child_cannot_have_a_sibling_started_with_more_rights() {
    let app = boot("[[supervisor.children]]\nid = \"one\"\nmodule = \"small\"\nname = \"one\"\n");
    let node = app.node();
    let root = supervisors(node)[0];
    let one = named(node, "one");
    for request in [
        ask("start_child", child("roomy", "big")),
        ask("terminate_child", "one"),
        ask("restart_child", "one"),
        ask("delete_child", "one"),
    ] {
        is_denied(&asks(&one, root, &request));
    }
    assert!(node.find("big").is_err());
    assert_eq!(node.find("one").unwrap(), one.pid);
    // To look is no right.
    let which = rmp_serde::to_vec_named("which_children").unwrap();
    let answer = asks(&one, root, &which);
    is_done(&answer);
    assert!(String::from_utf8_lossy(answer.payload()).contains("one"));
    // An operator of the node may have it started.
    let request = ask("start_child", child("roomy", "big"));
    let reply = node.call(root, 0, request, STOP).unwrap();
    assert_eq!(reply.tag, 0, "{reply:?}");
    let big = named(node, "big");
    assert_eq!(big.act("grow", &[10], b"").result, 1);
    // One that was started so may ask no more than the others.
    is_denied(&asks(&big, root, &ask("delete_child", "one")));
    assert!(app.stop(STOP).orderly);
}

#[test]
fn a_managing_child_can_call_its_supervisor_and_those_below_it() {
    let app = boot(
        r#"
[[supervisor.children]]
id = "boss"
module = "small"
name = "boss"
manages = true
[[supervisor.children]]
id = "below"
[[supervisor.children.supervisor.children]]
id = "foreman"
module = "small"
name = "foreman"
manages = true
"#,
    );
    let node = app.node();
    let [root, below] = supervisors(node)[..] else {
        panic!("there are two supervisors");
    };
    let (boss, foreman) = (named(node, "boss"), named(node, "foreman"));
    is_done(&asks(&boss, root, &ask("start_child", child("roomy", "a"))));
    is_done(&asks(
        &boss,
        below,
        &ask("start_child", child("roomy", "b")),
    ));
    is_done(&asks(&foreman, below, &ask("terminate_child", "b")));
    is_denied(&asks(&foreman, root, &ask("terminate_child", "a")));
    // The right is the child's, not the process's: it is there again with it.
    let before = boss.pid;
    boss.kill();
    eventually("it is started again", || {
        node.find("boss").is_ok_and(|pid| pid != before)
    });
    let boss = named(node, "boss");
    is_done(&asks(&boss, root, &ask("terminate_child", "a")));
    // And it may pass it on.
    let deputy = Child {
        manages: Some(true),
        ..child("small", "deputy")
    };
    is_done(&asks(&boss, root, &ask("start_child", deputy)));
    let deputy = named(node, "deputy");
    is_done(&asks(&deputy, root, &ask("restart_child", "a")));
    assert!(app.stop(STOP).orderly);
}

#[test]
fn a_guests_supervisor_accepts_requests_of_its_starter() {
    let node = node();
    deploy(&node, "puppet", &puppet::text(1));
    let (starter, stranger) = (Puppet::new(&node), Puppet::new(&node));
    let none: Vec<Child<'_>> = Vec::new();
    let spec = ask("children", none);
    let length = i64::try_from(spec.len()).unwrap();
    let supervisor = starter.act("supervisor_start", &[DATA, length, PID], &spec);
    let supervisor = supervisor.ok().pid;
    let request = ask("start_child", child("puppet", "kid"));
    is_denied(&asks(&stranger, supervisor, &request));
    is_done(&asks(&starter, supervisor, &request));
    // Its children are strangers too.
    is_denied(&asks(
        &named(&node, "kid"),
        supervisor,
        &ask("terminate_child", "kid"),
    ));
    is_done(&asks(&starter, supervisor, &ask("terminate_child", "kid")));
    node.halt();
}

/// The supervisor keeps them for a restart, also while the child does not run.
#[test]
fn the_arguments_of_its_children_are_charged_to_a_supervisor() {
    let node = node_with(|config| config.limits.mailbox_bytes = 30_000);
    deploy(&node, "puppet", &puppet::text(1));
    let starter = Puppet::new(&node);
    let none: Vec<Child<'_>> = Vec::new();
    let spec = ask("children", none);
    let length = i64::try_from(spec.len()).unwrap();
    let supervisor = starter.act("supervisor_start", &[DATA, length, PID], &spec);
    let supervisor = supervisor.ok().pid;
    let start = |name| {
        let large = Child {
            args: Some("x".repeat(20_000)),
            ..child("puppet", name)
        };
        asks(&starter, supervisor, &ask("start_child", large))
    };
    is_done(&start("one"));
    let refused = start("two");
    let text = String::from_utf8_lossy(refused.payload()).into_owned();
    assert_eq!(
        refused.tag.cast_signed(),
        Code::StartFailed as i32,
        "{text}"
    );
    assert!(text.contains("the arguments of its children"), "{text}");
    is_done(&asks(&starter, supervisor, &ask("terminate_child", "one")));
    assert_ne!(start("two").tag, 0, "the specification is still there");
    is_done(&asks(&starter, supervisor, &ask("delete_child", "one")));
    is_done(&start("two"));
    node.halt();
}

/// Else it would run twice, and the first one without a supervisor.
#[test]
fn a_child_cannot_impersonate_one_that_has_ended() {
    let app = boot("[[supervisor.children]]\nid = \"one\"\nmodule = \"small\"\nname = \"one\"\n");
    let node = app.node();
    let root = supervisors(node)[0];
    let one = named(node, "one");
    let count = rmp_serde::to_vec_named("count_children").unwrap();
    let before = asks(&one, root, &count);
    one.name("unregister", b"one", one.pid).ok();
    for code in [0, 256] {
        let sent = one.act("exit_process", &[DATA, code, 0, 0], &root.to_bytes());
        sent.ok();
    }
    // It has seen them when it answers this.
    let after = asks(&one, root, &count);
    assert_eq!(after.payload(), before.payload());
    assert!(node.find("one").is_err(), "another was started");
    // A true end is one still.
    one.kill();
    eventually("it is started again", || node.find("one").is_ok());
    assert!(app.stop(STOP).orderly);
}

#[test]
fn failed_supervisor_requests_have_an_error_code() {
    let app = boot(
        "[[supervisor.children]]\nid = \"one\"\nmodule = \"small\"\nname = \"one\"\nmanages = true\n",
    );
    let node = app.node();
    let root = supervisors(node)[0];
    let one = named(node, "one");
    for (request, code) in [
        (b"\xc1".to_vec(), Code::BadArgument),
        (ask("terminate_child", "nobody"), Code::NoProc),
        (ask("delete_child", "one"), Code::BadArgument),
        (
            ask("start_child", child("missing", "two")),
            Code::StartFailed,
        ),
    ] {
        let answer = asks(&one, root, &request);
        let text = String::from_utf8_lossy(answer.payload());
        assert_eq!(answer.tag.cast_signed(), code as i32, "{text}");
        assert!(text.contains("error"), "{text}");
    }
    assert!(app.stop(STOP).orderly);
}
