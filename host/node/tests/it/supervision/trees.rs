//! An app booted from a manifest: the starts, restarts and ends of its children.

use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::abi::Kind;
use exuvia_node::{App, BootError, BootOptions, DeployOptions, Event, NodeConfig};

use super::*;
use crate::guests::{ask, event, eventually, module};
use crate::puppet::Puppet;

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
    // The others were stopped, last first.
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
    // `killed` was never asked to stop, and exited first of those two.
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
