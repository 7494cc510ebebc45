//! A running node: inspected, called, and swapped.

use std::fs;

use crate::app::{App, counter, forgetful_counter, looping_counter, spinning_counter};

/// A call whose reply has this tag and this count.
fn expect(app: &App, tag: u32, count: &str) {
    let reply = app.json(&["send", "counter-0", "--call"]);
    assert_eq!(reply["tag"], tag, "{reply}");
    assert_eq!(reply["encoding"], "hex", "{reply}");
    assert_eq!(reply["payload"], count, "{reply}");
}

#[test]
fn a_node_is_inspected_and_called() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);

    let info = app.json(&["info"]);
    assert_eq!(info["app"], "counting");
    assert_eq!(info["modules"][0]["name"], "counter");
    assert_eq!(info["modules"][0]["processes"], 3);
    let text = app.done(&["info"]);
    assert!(
        text.contains("counting") && text.contains("counter"),
        "{text}"
    );

    let list = app.json(&["ps", "--module", "counter"]);
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    assert_eq!(list[0]["names"][0], "counter-0");
    assert_eq!(list[0]["module"], "counter@1");
    let text = app.done(&["ps", "--module", "counter"]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.starts_with("PID "), "{text}");
    let text = app.done(&["ps", "--limit", "1"]);
    assert!(text.contains("--limit N shows more"), "{text}");

    app.done(&["send", "counter-0", "--hex", "0500000000000000"]);
    let pid = list[0]["pid"].as_str().unwrap();
    app.done(&["send", pid, "--hex", "02 00 00 00 00 00 00 00"]);
    expect(&app, 0, "0700000000000000");
    let text = app.done(&["send", "counter-0", "--call"]);
    assert_eq!(text, "0700000000000000\n");
    // The other one is another one.
    assert_eq!(
        app.done(&["send", "counter-1", "--call"]),
        "0000000000000000\n"
    );

    for target in ["nobody", "<99999.0>"] {
        let answer = app.ask(&["send", target, "1"]);
        assert_eq!(answer.code, Some(1));
        assert!(answer.stderr.contains(target), "{answer:?}");
    }
}

#[test]
fn a_busy_process_hides_no_other() {
    // Busy for ever after its first message; then it is always running.
    let busy = r#"(module
        (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
        (memory (export "memory") 1)
        (global (export "exuvia_abi") i32 (i32.const 1))
        (func (export "run") (result i32)
            (loop $next
                (i32.store (i32.const 64) (i32.const 48))
                (if (call $receive (i32.const 64) (i32.const 512) (i32.const 64) (i64.const 0) (i32.const 0) (i64.const 0))
                    (then (return (i32.const 0))))
                (br_if $next (i32.eq (i32.load (i32.const 68)) (i32.const 1)))
                (loop $on (br $on)))
            (i32.const 0)))"#;
    let app = App::new();
    let manifest = app.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let first = "[[supervisor.children]]\nid = \"busy\"\nmodule = \"busy\"\nname = \"busy\"\n\
                 shutdown = \"brutal_kill\"\n";
    let (before, after) = text.split_once("[[supervisor.children]]").unwrap();
    let text = format!(
        "{before}[modules.busy]\npath = \"busy.wasm\"\n{first}[[supervisor.children]]{after}"
    );
    fs::write(&manifest, text).unwrap();
    app.write("busy.wasm", &wat::parse_str(busy).unwrap());
    let _node = app.start(&["--no-watch"]);
    app.done(&["send", "busy"]);
    let list = app.json(&["ps", "--module", "counter", "--limit", "1"]);
    assert_eq!(list[0]["names"][0], "counter-0", "{list}");
    let list = app.json(&["ps", "--module", "busy"]);
    assert_eq!(list[0]["names"][0], "busy", "{list}");
}

#[test]
fn code_is_swapped_and_state_survives() {
    let app = App::new();
    let node = app.start(&["--no-watch"]);
    app.done(&["send", "counter-0", "--hex", "0500000000000000"]);
    expect(&app, 0, "0500000000000000");

    // Named after no module: nothing is guessed.
    app.write("counter-v2.wasm", &counter("(i32.const 2)"));
    let answer = app.ask(&["deploy", "counter-v2.wasm"]);
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("--name"), "{answer:?}");
    let line = app.done(&["deploy", "counter-v2.wasm", "--name", "counter"]);
    assert!(line.starts_with("swap counter 1 -> 2"), "{line}");
    let swap = node.event("swap");
    assert_eq!(swap["event"]["modules"][0]["to"], 2);
    assert_eq!(swap["line"], line.trim_end());
    expect(&app, 2, "0500000000000000");

    // A broken file is refused, with its name, and nothing changes.
    app.write("counter.wasm", b"broken");
    let answer = app.ask(&["deploy", "counter.wasm"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.contains("counter.wasm"), "{answer:?}");
    node.event("refused");
    expect(&app, 2, "0500000000000000");
    let answer = app.ask(&["deploy", "missing.wasm"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.contains("missing.wasm"), "{answer:?}");

    let line = app.done(&["rollback"]);
    assert!(line.starts_with("rollback counter 2 -> 1"), "{line}");
    expect(&app, 0, "0500000000000000");
    app.done(&["send", "counter-0", "--hex", "0100000000000000"]);

    // The whole app, twice: the second time there is nothing to do.
    app.write("counter.wasm", &counter("(i32.const 3)"));
    let swap = app.json(&["deploy", "."]);
    assert_eq!(swap["report"]["modules"][0]["name"], "counter", "{swap}");
    expect(&app, 3, "0600000000000000");
    let line = app.done(&["deploy", "exuvia.toml"]);
    assert!(line.starts_with("nothing changed"), "{line}");
}

#[test]
fn exempt_processes_are_shown_and_can_be_killed_later() {
    let app = App::with(&looping_counter("(i32.const 1)"), "5s");
    let node = app.start(&["--no-watch"]);
    expect(&app, 1, "0000000000000000");
    app.write("counter.wasm", &looping_counter("(i32.const 2)"));
    let answer = app.ask(&["deploy", "counter.wasm"]);
    assert_eq!(answer.code, Some(1));
    let told = "the swap was refused: 3 loop processes";
    assert!(answer.stderr.contains(told), "{answer:?}");
    assert_eq!(answer.stderr.matches("refused").count(), 1, "{answer:?}");
    let line = app.done(&["deploy", "counter.wasm", "--leave"]);
    assert!(line.contains("3 exempt"), "{line}");

    let list = app.json(&["ps", "--module", "counter"]);
    for process in list.as_array().unwrap() {
        assert_eq!(process["upgrade"], "exempt", "{process}");
        assert_eq!(process["module"], "counter@1", "{process}");
    }
    let text = app.done(&["ps", "--module", "counter"]);
    let told = "\n  exempt: stays on counter@1 until it exits";
    assert_eq!(text.matches(told).count(), 3, "{text}");
    let line = app.done(&["deploy", "counter.wasm"]);
    assert_eq!(
        line,
        "nothing changed (release 2); 3 processes are still exempt on counter@1; \
         deploy it again with --kill to kill them\n"
    );
    let line = app.done(&["deploy", "counter.wasm", "--kill"]);
    assert_eq!(
        line,
        "nothing changed (release 2); killed: 3 processes were exempt on counter@1\n"
    );
    // Their supervisor starts others, on the version that is current.
    for _ in 0..3 {
        let exit = node.event("exit");
        assert_eq!(exit["event"]["reason"], "killed", "{exit}");
    }
    let mut list = app.json(&["ps", "--module", "counter"]);
    while list.as_array().unwrap().len() < 3 {
        list = app.json(&["ps", "--module", "counter"]);
    }
    for process in list.as_array().unwrap() {
        assert_eq!(process["upgrade"], "current", "{process}");
        assert_eq!(process["module"], "counter@2", "{process}");
    }
}

#[test]
fn a_rejection_gives_the_cause_first_and_details_on_request() {
    let app = App::new();
    let node = app.start(&["--no-watch"]);
    expect(&app, 0, "0000000000000000");
    app.write("counter.wasm", &forgetful_counter());
    let answer = app.ask(&["deploy", "counter.wasm"]);
    assert_eq!(answer.code, Some(1));
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let [cause, help] = lines[..] else {
        panic!("{answer:?}");
    };
    for part in [
        "process <",
        "(counter-0): ",
        "may load only 8 bytes of schema 1",
    ] {
        assert!(cause.contains(part), "`{part}` is not in: {cause}");
    }
    assert!(help.contains("help: fix `save` or `load`"), "{help}");
    assert!(!answer.stderr.contains("reused"), "{answer:?}");
    let answer = app.ask(&["deploy", "counter.wasm", "-v"]);
    let last = answer.stderr.lines().last().unwrap();
    assert!(last.starts_with("  not reused: "), "{answer:?}");
    for _ in 0..2 {
        let refused = node.event("refused");
        let event = &refused["event"];
        assert!(event["process"].as_str().unwrap().contains("counter-0"));
        assert!(event["cause"].as_str().unwrap().contains("schema 1"));
        assert!(!event["not_reused"].as_str().unwrap().is_empty());
        assert!(!refused["line"].as_str().unwrap().contains("reused"));
    }
}

#[test]
fn a_handler_that_never_returns_is_ended_by_kill() {
    let app = App::with(&spinning_counter("(i32.const 1)"), "5s");
    let node = app.start(&["--no-watch"]);
    expect(&app, 1, "0000000000000000");
    app.done(&["send", "counter-0", "--hex", "00"]);
    let spins = |app: &App| {
        let list = app.json(&["ps", "--module", "counter"]);
        let first = list.as_array().unwrap().iter();
        let mut first = first.filter(|it| it["names"][0] == "counter-0");
        first.next().is_some_and(|it| it["state"] == "preempted")
    };
    while !spins(&app) {}
    app.write("counter.wasm", &spinning_counter("(i32.const 2)"));
    let line = app.done(&["deploy", "counter.wasm", "--kill"]);
    assert!(line.contains("  1 killed  "), "{line}");
    let exit = node.event("exit");
    assert_eq!(exit["event"]["reason"], "killed", "{exit}");
    // Its supervisor starts another, on the version that is current.
    let list = app.json(&["ps", "--module", "counter"]);
    for process in list.as_array().unwrap() {
        assert_eq!(process["module"], "counter@2", "{process}");
    }
}

#[test]
fn the_first_release_cannot_be_rolled_back() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let answer = app.ask(&["rollback", "--json"]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stdout.contains("no_earlier_release"), "{answer:?}");
    expect(&app, 0, "0000000000000000");
}

#[test]
fn files_are_watched() {
    let app = App::new();
    let node = app.start(&[]);
    app.write("counter.wasm", &counter("(i32.const 2)"));
    node.event("swap");
    expect(&app, 2, "0000000000000000");
    app.write("counter.wasm", b"broken");
    let refused = node.event("refused");
    assert!(refused["line"].as_str().unwrap().contains("counter"));
    expect(&app, 2, "0000000000000000");
    app.write("counter.wasm", &counter("(i32.const 3)"));
    node.event("swap");
    expect(&app, 3, "0000000000000000");
}

#[test]
fn a_node_is_found_from_a_subfolder_and_by_name() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let below = app.folder().join("src/deep");
    fs::create_dir_all(&below).unwrap();
    let answer = crate::app::answer(crate::app::exuvia(&below).arg("info"));
    assert_eq!(answer.code, Some(0), "{answer:?}");

    let elsewhere = tempfile::tempdir().unwrap();
    let answer = crate::app::answer(
        crate::app::exuvia(elsewhere.path())
            .arg("info")
            .env("EXUVIA_SOCKET", app.socket()),
    );
    assert_eq!(answer.code, Some(0), "{answer:?}");
    // Deploying an app goes to that app's node.
    let answer = crate::app::answer(
        crate::app::exuvia(elsewhere.path())
            .arg("deploy")
            .arg(app.folder()),
    );
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.starts_with("nothing changed"), "{answer:?}");
}
