//! Looking at a node while it runs: `inspect`, `trace`, `top` and the shell.

use std::fs;
use std::process::Command;

use crate::app::{App, answer, counter, exuvia};
use crate::terminal::Terminal;

fn command(app: &App, arguments: &[&str]) -> Command {
    let mut command = exuvia(app.folder());
    command.args(arguments);
    command
}

#[test]
fn a_process_is_shown_with_its_state() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    app.done(&["send", "counter-0", "--hex", "0500000000000000"]);
    app.done(&["send", "counter-0", "--call"]);
    let text = app.done(&["inspect", "counter-0"]);
    for part in [
        "counter-0",
        "counter@1",
        "parent      <1.0>",
        "mailbox     0 of 100000",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = app.json(&["inspect", "counter-0"]);
    assert_eq!(json["data"]["payload"], "0500000000000000", "{json}");
    assert_eq!(json["schema"], 1);
    assert_eq!(json["links"][0], "<1.0>");
    // Looking has changed nothing, and one that is paged out stays so.
    assert_eq!(
        app.done(&["send", "counter-0", "--call"]),
        "0500000000000000\n"
    );
    let host = app.done(&["inspect", "<1.0>"]);
    assert!(
        host.contains("not shown: it is a process of the host"),
        "{host}"
    );
    let missing = app.ask(&["inspect", "nobody"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing
            .stderr
            .contains("no process is registered as `nobody`"),
        "{missing:?}"
    );
}

#[test]
fn a_trace_shows_messages_and_ends() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let mut trace = Terminal::start(
        &command(&app, &["trace", "counter-0", "--limit", "3"]),
        100,
        20,
    );
    // It has begun when it has seen the first.
    let mut seen = false;
    for _ in 0..200 {
        app.done(&["send", "counter-0", "--hex", "0100000000000000"]);
        app.done(&["send", "counter-0", "--call"]);
        seen = trace.has("received");
        if seen {
            break;
        }
    }
    assert!(seen, "nothing was traced");
    app.done(&["send", "counter-0", "--call"]);
    let (code, shown) = trace.end();
    assert_eq!(code, Some(0));
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(
        shown.contains("request") || shown.contains("message"),
        "{shown}"
    );
    for target in ["<1.0>", "nobody"] {
        let refused = app.ask(&["trace", target]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
    }
}

#[test]
fn top_shows_the_busiest_processes() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    for _ in 0..5 {
        app.done(&["send", "counter-1", "--call"]);
    }
    let text = app.done(&["top", "--count", "1", "--limit", "1"]);
    assert!(text.contains("counter-1  counter@1"), "{text}");
    // An idle node sleeps.
    let json = app.done(&["top", "--count", "2", "--interval", "300ms", "--json"]);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert!(last["interval_ms"].as_f64().unwrap() > 200.0, "{last}");
    for scheduler in last["schedulers"].as_array().unwrap() {
        assert!(scheduler["busy"].as_f64().unwrap() < 0.9, "{last}");
    }

    let mut live = Terminal::start(&command(&app, &["top", "--interval", "100ms"]), 100, 20);
    live.shows("counter-1");
    live.types("m");
    app.write("v2.wasm", &counter("(i32.const 2)"));
    app.done(&["deploy", "v2.wasm", "--name", "counter"]);
    live.shows("swap");
    live.resize(30, 5);
    live.shows("needs");
    live.resize(100, 20);
    live.shows("counter");
    live.types("q");
    let (code, rest) = live.end();
    assert_eq!(code, Some(0));
    // The screen is the shell's again.
    assert!(rest.contains("\x1b[?1049l"), "{rest}");
    let answer = answer(command(&app, &["top"]).arg("--interval").arg("5ms"));
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

#[test]
fn the_shell_has_history_completion_and_the_same_commands() {
    let app = App::new();
    let mut node = app.start(&["--no-watch"]);
    let piped = app.ask_with(
        &["shell"],
        b"# a comment\nsend counter-0 --hex 0700000000000000\ncall counter-0\n\nhelp\nps --limit 1\n",
    );
    assert_eq!(piped.code, Some(0), "{piped:?}");
    assert!(
        piped.stdout.starts_with("sent\n0700000000000000\n"),
        "{piped:?}"
    );
    assert!(
        piped.stdout.contains("inspect") && piped.stdout.contains("<0.0>"),
        "{piped:?}"
    );
    // It goes on after what fails, and its end tells of the last.
    let piped = app.ask_with(&["shell"], b"pss\ncall nobody\nps --limit 1\ncall nobody\n");
    assert_eq!(piped.code, Some(1), "{piped:?}");
    assert!(piped.stdout.contains("<0.0>"), "{piped:?}");
    assert_eq!(piped.stderr.matches("error: ").count(), 3, "{piped:?}");
    assert!(!piped.stderr.contains("Usage"), "{piped:?}");

    let state = app.folder().join("state");
    let mut shell = command(&app, &["shell"]);
    shell.env("XDG_STATE_HOME", &state);
    let mut shell = Terminal::start(&shell, 80, 24);
    shell.shows("> ");
    shell.types("ins\tcounter-1\t\r");
    shell.shows("state");
    shell.shows("> ");
    shell.types("trace counter-1\r");
    // Ctrl-C ends the trace, and not the shell.
    shell.shows("trace counter-1");
    // It has begun when it has seen the first.
    for _ in 0..200 {
        app.done(&["send", "counter-1", "--call"]);
        if shell.has(" reply to") {
            break;
        }
    }
    shell.shows(" reply to");
    shell.types("\x03");
    shell.shows("> ");
    shell.types("call counter-0\r");
    shell.shows("0700000000000000");
    shell.shows("> ");
    shell.types("\x04");
    assert_eq!(shell.end().0, Some(0));
    let history = fs::read_to_string(state.join("exuvia/history")).unwrap();
    assert!(history.contains("call counter-0"), "{history}");

    let stopped = app.ask_with(&["shell"], b"stop\nps\n");
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert_eq!(node.end(), Some(0));
    let none = app.ask_with(&["shell"], b"ps\n");
    assert_eq!(none.code, Some(3), "{none:?}");
}
