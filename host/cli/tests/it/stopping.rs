//! How a node ends, and what the next one finds.

use crate::app::{App, stubborn_counter};

#[test]
fn stop_ends_the_tree_in_order() {
    let app = App::new();
    let mut node = app.start(&["--no-watch"]);
    assert_eq!(app.done(&["stop"]), "stopped\n");
    let stopped = node.event("stopped");
    assert_eq!(stopped["event"]["orderly"], true, "{stopped}");
    assert_eq!(node.end(), Some(0));
    assert!(!app.socket().exists());
    assert_eq!(app.ask(&["stop"]).code, Some(3));
}

#[test]
fn signals_stop_in_order_too() {
    for signal in ["INT", "TERM"] {
        let app = App::new();
        let mut node = app.start(&[]);
        node.signal(signal);
        node.event("stopping");
        node.event("stopped");
        assert_eq!(node.end(), Some(0));
        assert!(!app.socket().exists());
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let app = App::with(&stubborn_counter(), "infinity");
    let mut node = app.start(&["--no-watch"]);
    node.signal("INT");
    node.event("stopping");
    // While it drains, it can still be looked at.
    app.done(&["ps"]);
    node.signal("INT");
    assert_eq!(node.end(), Some(130));
    // What it left behind is in nobody's way.
    let mut node = app.start(&["--no-watch"]);
    node.signal("KILL");
    assert_eq!(node.end(), None);
}

#[test]
fn processes_that_do_not_stop_are_reported() {
    let app = App::with(&stubborn_counter(), "infinity");
    let mut node = app.start(&["--no-watch"]);
    let answer = app.ask(&["stop", "--timeout", "100ms"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("still running after the timeout"),
        "{answer:?}"
    );
    assert_eq!(node.end(), Some(1));
}

#[test]
fn an_interrupt_during_the_boot_ends_it() {
    // A process that never rests does not acknowledge its start, so the boot waits.
    let restless = wat::parse_str(
        r#"(module
            (memory (export "memory") 1)
            (global (export "exuvia_abi") i32 (i32.const 1))
            (func (export "run") (result i32) (loop $on (br $on)) (i32.const 0)))"#,
    )
    .unwrap();
    let app = App::with(&restless, "5s");
    let mut node = app.begin(&["--no-watch"]);
    node.said("booting");
    node.signal("INT");
    // It does not just vanish.
    node.event("interrupted");
    assert_eq!(node.end(), Some(130));
}

#[test]
fn a_second_node_is_refused_and_the_first_lives() {
    let app = App::new();
    let node = app.start(&["--no-watch"]);
    let answer = app.ask(&["run", "."]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("a node is already running"),
        "{answer:?}"
    );
    assert!(answer.stderr.contains("--socket"), "{answer:?}");
    app.done(&["info"]);

    // With a socket of its own, and another store or none, it may run beside the first.
    let second = app.start(&["--no-watch", "--no-store", "--socket", "second.sock"]);
    app.done(&["info", "--socket", "second.sock"]);
    app.done(&["stop", "--socket", "second.sock"]);
    second.event("stopped");
    app.done(&["stop"]);
    node.event("stopped");
}

#[test]
fn a_killed_node_does_not_block_the_next_one() {
    let app = App::new();
    let mut node = app.start(&["--no-watch"]);
    node.signal("KILL");
    assert_eq!(node.end(), None);
    assert!(app.socket().exists());
    let answer = app.ask(&["info"]);
    assert_eq!(answer.code, Some(3));
    assert!(answer.stderr.contains("its node has exited"), "{answer:?}");
    let _node = app.start(&["--no-watch"]);
    app.done(&["info"]);
}
