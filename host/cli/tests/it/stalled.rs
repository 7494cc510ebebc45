//! A stopped terminal or an unread pipe: the node starts, works, replies and stops all the same.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::process::{Child, Command};

use serde_json::Value;

use crate::app::{App, counter, exuvia};
use crate::terminal::Terminal;

/// A pipe that is full, so that whoever writes to it waits.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    // What a pipe has room for, if nobody has changed that.
    writer.write_all(&[b'\n'; 64 << 10]).unwrap();
    (reader, writer)
}

/// A node that nobody reads, neither its events nor its log.
struct Unread {
    child: Child,
    stdout: PipeReader,
    _stderr: PipeReader,
}

fn unread(app: &App, command: &str) -> Unread {
    let ((stdout, out), (stderr, err)) = (full(), full());
    let child = exuvia(app.folder())
        .args([command, ".", "--json"])
        .env("EXUVIA_LOG", "exuvia=info")
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap();
    let unread = Unread {
        child,
        stdout,
        _stderr: stderr,
    };
    // Up when it says so to whoever asks.
    let mut tries = 0;
    while app.ask(&["info"]).code != Some(0) {
        tries += 1;
        assert!(tries < 1_000, "the node does not come up");
    }
    unread
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_unread_pipe_blocks_nothing() {
    for command in ["run", "dev"] {
        for how in ["stop", "TERM"] {
            let app = App::new();
            let mut node = unread(&app, command);
            app.write("v2.wasm", &counter("(i32.const 2)"));
            app.done(&["deploy", "v2.wasm", "--name", "counter"]);
            app.done(&["ps"]);
            match how {
                "stop" => drop(app.done(&["stop"])),
                _ => {
                    let pid = node.child.id().to_string();
                    let killed = Command::new("kill").args(["-TERM", &pid]).status();
                    assert!(killed.unwrap().success());
                }
            }
            assert_eq!(
                node.child.wait().unwrap().code(),
                Some(0),
                "{command} {how}"
            );
        }
    }
}

#[test]
fn a_reader_that_resumes_gets_the_kept_lines() {
    let app = App::new();
    let mut node = unread(&app, "run");
    let mut stdout = node.stdout.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    app.done(&["stop"]);
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
    let text = reader.join().unwrap();
    let lines: Vec<Value> = (text.lines().filter(|line| !line.is_empty()))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<&str> = (lines.iter())
        .map(|line| line["event"]["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["started", "stopping", "stopped"]);
    for line in &lines {
        // As in 2026-11-29T09:12:35.123Z.
        let at = line["at"].as_str().unwrap();
        assert_eq!((at.len(), &at[10..11], &at[23..]), (24, "T", "Z"), "{at}");
    }
}

#[test]
fn a_stopped_terminal_blocks_nothing() {
    let app = App::new();
    let mut command = exuvia(app.folder());
    command.args(["run", "."]).env("EXUVIA_LOG", "exuvia=info");
    let mut terminal = Terminal::start(&command, 100, 30);
    terminal.shows(" counting: 3 processes");
    // Ctrl-S: from here on nothing that is written to the terminal comes through.
    terminal.types("\x13");
    for tag in 2..5 {
        let file = format!("v{tag}.wasm");
        app.write(&file, &counter(&format!("(i32.const {tag})")));
        app.done(&["deploy", &file, "--name", "counter"]);
    }
    app.done(&["ps"]);
    app.done(&["stop"]);
    let (code, _) = terminal.end();
    assert_eq!(code, Some(0));
}

#[test]
fn output_of_a_flood_of_exits_and_restarts_is_bounded_and_counted() {
    // Each of them ends as soon as it has begun, and is started again at once.
    let ends = r#"(module
        (import "exuvia" "init_ack" (func $init_ack (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (global (export "exuvia_abi") i32 (i32.const 1))
        (func (export "run") (result i32)
            (drop (call $init_ack (i32.const 0) (i32.const 0) (i32.const 0)))
            unreachable))"#;
    let app = App::with(&wat::parse_str(ends).unwrap(), "5s");
    let manifest = app.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let storm = "[supervisor]\nintensity = 1000000\nperiod = \"1s\"\n[[supervisor.children]]";
    fs::write(
        &manifest,
        text.replacen("[[supervisor.children]]", storm, 1),
    )
    .unwrap();
    let mut node = app.start(&["--no-watch"]);
    for kind in ["exit", "restarted"] {
        loop {
            let cut = node.event("event-cut");
            assert_eq!(cut["event"]["module"], "counter", "{cut}");
            if cut["event"]["what"] == kind {
                assert!(cut["event"]["events"].as_u64().unwrap() > 0, "{cut}");
                break;
            }
        }
    }
    node.signal("KILL");
    node.end();
}
