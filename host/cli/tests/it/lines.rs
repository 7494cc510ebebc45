//! What `run` prints: of a boot, and of a swap.

use crate::app::{App, counter};

/// The counter, but it logs `hello` and does `more` when it gets INIT.
fn talks(more: &str) -> Vec<u8> {
    let text = include_str!("../../../../guest-sdk/wat/counter.wat");
    let begins = "          ;; INIT:";
    let memory = "(memory (export \"memory\") 1 16)";
    for part in [begins, memory] {
        assert_eq!(text.matches(part).count(), 1, "{part}");
    }
    let hello = format!(
        "(drop (call $log (i32.const 3) (i32.const 60000) (i32.const 5))) {more}\n{begins}"
    );
    let data = format!("{memory} (data (i32.const 60000) \"hello\")");
    wat::parse_str(text.replace(begins, &hello).replace(memory, &data)).unwrap()
}

#[test]
fn log_lines_of_guests_during_the_boot_come_before_its_end() {
    let app = App::with(&talks(""), "5s");
    let node = app.begin(&["--no-watch"]);
    for _ in 0..3 {
        let line = node.event("log");
        assert_eq!(line["event"]["text"], "hello", "{line}");
    }
    node.event("started");
}

#[test]
fn log_lines_of_guests_are_printed_when_the_boot_fails() {
    let app = App::with(&talks("(unreachable)"), "5s");
    let mut node = app.begin(&["--no-watch"]);
    assert_eq!(node.event("log")["event"]["text"], "hello");
    let exit = node.event("exit");
    assert!(
        exit["event"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("trap"),
        "{exit}"
    );
    assert_eq!(node.end(), Some(1));
}

#[test]
fn the_cause_is_printed_before_the_end_of_the_tree() {
    let text = include_str!("../../../../guest-sdk/wat/counter.wat");
    let begins = "        ;; MESSAGE:";
    assert_eq!(text.matches(begins).count(), 1);
    let traps = text.replace(begins, &format!("(unreachable)\n{begins}"));
    let app = App::with(&wat::parse_str(traps).unwrap(), "5s");
    let mut node = app.start(&["--no-watch"]);
    for name in ["counter-0", "counter-1", "counter-2"] {
        app.done(&["send", name, "--text", "x"]);
        node.event("exit");
    }
    // The fourth end is one too many, once it has been started again.
    while app.ask(&["send", "counter-0", "--text", "x"]).code != Some(0) {}
    node.event("exit");
    node.event("ended");
    assert_eq!(node.end(), Some(1));
}

#[test]
fn a_swap_has_one_line_at_the_commit_and_one_at_completion() {
    let app = App::new();
    let node = app.start(&["--no-watch"]);
    app.write("v2.wasm", &counter("(i32.const 2)"));
    let printed = app.done(&["deploy", "v2.wasm", "--name", "counter"]);
    let swap = node.event("swap");
    assert_eq!(swap["line"], printed.trim_end());
    assert_eq!(swap["event"]["processes"], 3, "{swap}");
    assert!(swap["event"]["upgraded"].is_null(), "{swap}");
    // They are idle: the background upgrader upgrades them.
    let completed = node.event("upgrade-completed");
    assert_eq!(completed["event"]["release"], swap["event"]["release"]);
    assert_eq!(completed["event"]["background"], 3, "{completed}");
    assert_eq!(completed["event"]["upgraded"][0][1], 3, "{completed}");
    assert!(completed["event"]["superseded_by"].is_null(), "{completed}");
}
