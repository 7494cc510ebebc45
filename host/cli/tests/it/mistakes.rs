//! Mistakes of users while a node runs: each is reported, and the node continues
//! with what it had.

use std::fs;
use std::os::unix::fs::symlink;

use crate::app::{App, COUNTER, counter};

/// The counter still has what it was given, in the code that replies with this tag.
fn lives(app: &App, tag: u32) {
    let reply = app.json(&["send", "counter-0", "--call"]);
    assert_eq!(reply["payload"], "0500000000000000", "{reply}");
    assert_eq!(reply["tag"], tag, "{reply}");
}

fn counting() -> App {
    App::new()
}

fn five(app: &App) {
    app.done(&["send", "counter-0", "--hex", "0500000000000000"]);
}

/// A module that has what processes need, and these lines.
fn module(lines: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module {lines}
            (memory (export "memory") 1)
            (global (export "exuvia_abi") i32 (i32.const 1))
            (func (export "run") (result i32) (i32.const 0)))"#
    ))
    .unwrap()
}

/// A counter that begins with more memory than the default limit, 16 MiB.
fn wide() -> Vec<u8> {
    let text = COUNTER.replace(
        "(memory (export \"memory\") 1 16)",
        "(memory (export \"memory\") 257 300)",
    );
    assert_ne!(text, COUNTER);
    wat::parse_str(text).unwrap()
}

#[test]
fn bad_modules_are_refused_by_name_and_cause() {
    let app = counting();
    let node = app.start(&["--no-watch"]);
    five(&app);
    let good = counter("(i32.const 2)");
    for (bytes, cause) in [
        (b"hello".to_vec(), "not a Wasm module"),
        (Vec::new(), "it is empty"),
        (good[..good.len() / 2].to_vec(), "unexpected end"),
        (b"\0asm\x0d\0\x01\0".to_vec(), "component"),
        (wat::parse_str("(module)").unwrap(), "no export"),
        (
            module(r#"(import "env" "abort" (func))"#),
            "imports `env.abort`",
        ),
        (
            module("(func $forever (loop $again (br $again))) (start $forever)"),
            "the start function did not end within 200000000 reductions",
        ),
        (
            module("(func $trap unreachable) (start $trap)"),
            "unreachable",
        ),
        (wide(), "raise `limits.memory`"),
    ] {
        app.write("bad.wasm", &bytes);
        let answer = app.ask(&["deploy", "bad.wasm", "--name", "counter"]);
        assert_eq!(answer.code, Some(1), "{cause}: {answer:?}");
        assert!(answer.stderr.contains("bad.wasm: "), "{cause}: {answer:?}");
        assert!(answer.stderr.contains(cause), "{cause}: {answer:?}");
        assert!(answer.stderr.contains("nothing has changed"), "{answer:?}");
        node.event("refused");
        lives(&app, 0);
    }
    // And what is right is taken after all that.
    app.write("counter.wasm", &good);
    app.done(&["deploy", "counter.wasm"]);
    lives(&app, 2);
}

#[test]
fn a_child_with_too_little_memory_is_shown_in_the_manifest() {
    let memory = "(memory (export \"memory\") 1 16)";
    assert!(COUNTER.contains(memory));
    let three = COUNTER.replace(memory, "(memory (export \"memory\") 3 16)");
    let app = App::with(&wat::parse_str(three).unwrap(), "5s");
    let manifest = app.folder().join("exuvia.toml");
    let mut text = fs::read_to_string(&manifest).unwrap();
    text.push_str("limits = { memory = \"128KiB\" }\n");
    fs::write(&manifest, text).unwrap();
    let answer = app.ask(&["run", ".", "--no-watch"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let told = "error: the memory limit of child `counter` is 131072 bytes";
    let mut lines = answer.stderr.lines();
    assert!(lines.any(|line| line.starts_with(told)), "{answer:?}");
    assert!(answer.stderr.contains("exuvia.toml:14:"), "{answer:?}");
}

#[test]
fn if_one_of_two_modules_is_broken_neither_is_swapped() {
    let app = counting();
    let manifest = app.folder().join("exuvia.toml");
    let mut text = fs::read_to_string(&manifest).unwrap();
    text.push_str("[modules.other]\npath = \"other.wasm\"\n");
    fs::write(&manifest, text).unwrap();
    app.write("other.wasm", &counter("(i32.const 1)"));
    let _node = app.start(&["--no-watch"]);
    five(&app);
    app.write("counter.wasm", &counter("(i32.const 2)"));
    app.write("other.wasm", b"\0asm\x01\0\0\0\x01");
    let answer = app.ask(&["deploy", "."]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.contains("other.wasm"), "{answer:?}");
    lives(&app, 0);
    app.write("other.wasm", &counter("(i32.const 3)"));
    let swap = app.json(&["deploy", "."]);
    assert_eq!(swap["report"]["modules"].as_array().unwrap().len(), 2);
    lives(&app, 2);
}

#[test]
fn a_misspelt_module_name_is_rejected() {
    let app = counting();
    let _node = app.start(&["--no-watch"]);
    five(&app);
    app.write("new.wasm", &counter("(i32.const 2)"));
    let answer = app.ask(&["deploy", "new.wasm", "--name", "cuonter"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    for part in ["no module `cuonter`", "it has `counter`", "--new"] {
        assert!(answer.stderr.contains(part), "{answer:?}");
    }
    assert_eq!(app.json(&["info"])["modules"].as_array().unwrap().len(), 1);
    app.done(&["deploy", "new.wasm", "--name", "second", "--new"]);
    assert_eq!(app.json(&["info"])["modules"].as_array().unwrap().len(), 2);

    let answer = app.ask(&["ps", "--module", "cuonter"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains("`counter`, `second`"), "{answer:?}");
    // No process runs it yet, which is no mistake.
    assert_eq!(
        app.json(&["ps", "--module", "second"]),
        serde_json::json!([])
    );
    lives(&app, 0);
}

#[test]
fn another_app_is_not_deployed_to_this_node() {
    let app = counting();
    let _node = app.start(&["--no-watch"]);
    let other = counting();
    let manifest = other.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"counting\"", "\"greeting\"")).unwrap();
    other.write("counter.wasm", &counter("(i32.const 2)"));
    let socket = app.socket();
    let arguments = ["deploy", ".", "--socket", socket.to_str().unwrap()];
    let answer = other.ask(&arguments);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for part in ["`counting`", "`greeting`"] {
        assert!(answer.stderr.contains(part), "{answer:?}");
    }
    assert_eq!(app.json(&["info"])["release"], 1);
}

#[test]
fn payloads_come_from_stdin_and_may_be_too_large() {
    let app = counting();
    let _node = app.start(&["--no-watch"]);
    let answer = app.ask_with(&["send", "counter-0", "-", "--hex"], b"0500000000000000\n");
    assert_eq!(answer.code, Some(0), "{answer:?}");
    lives(&app, 0);
    // More than a message may have, and more than a request may have.
    for (bytes, part) in [(17 << 20, "16777216"), (35 << 20, "the limit")] {
        for call in [&[][..], &["--call"]] {
            let arguments = [&["send", "counter-0", "-", "--text"], call].concat();
            let answer = app.ask_with(&arguments, &vec![b'a'; bytes]);
            assert_eq!(answer.code, Some(1), "{}", answer.stderr);
            assert!(answer.stderr.contains(part), "{}", answer.stderr);
        }
    }
    lives(&app, 0);
}

#[test]
fn a_missing_watched_file_is_reported_once() {
    let app = counting();
    let node = app.start(&[]);
    five(&app);
    let file = app.folder().join("counter.wasm");
    fs::remove_file(&file).unwrap();
    let event = node.event("file-unreadable");
    let line = event["line"].as_str().unwrap();
    assert!(
        line.contains("counter.wasm does not exist; the old code of counter keeps running"),
        "{line}"
    );
    lives(&app, 0);
    fs::create_dir(&file).unwrap();
    let event = node.event("file-unreadable");
    assert_eq!(event["event"]["reason"], "is a folder", "{event}");
    fs::remove_dir(&file).unwrap();
    symlink("counter.wasm", &file).unwrap();
    let event = node.event("file-unreadable");
    let reason = event["event"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("cannot be read"), "{event}");
    lives(&app, 0);

    // A link may lead out of the folder that is watched.
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("built.wasm");
    fs::write(&target, counter("(i32.const 2)")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&target, &file).unwrap();
    node.event("swap");
    lives(&app, 2);
    fs::write(&target, counter("(i32.const 3)")).unwrap();
    node.event("swap");
    lives(&app, 3);
}

#[test]
fn a_file_that_is_being_written_is_not_rejected() {
    let app = counting();
    let node = app.start(&[]);
    five(&app);
    let file = app.folder().join("counter.wasm");
    let bytes = counter("(i32.const 2)");
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    // Left like that it is refused in the end, with the cause.
    let refused = node.event("refused");
    let line = refused["line"].as_str().unwrap();
    assert!(line.contains("unexpected end"), "{line}");
    lives(&app, 0);
    fs::write(&file, &bytes).unwrap();
    node.event("swap");
    lives(&app, 2);
}

#[test]
fn the_options_of_a_swap_are_printed() {
    let app = counting();
    let _node = app.start(&["--no-watch"]);
    five(&app);
    // Without `load` there is no way for the state.
    let text = r#"(module
        (import "exuvia" "init_ack" (func $ack (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (global (export "exuvia_abi") i32 (i32.const 1))
        (func (export "run") (result i32)
            (drop (call $ack (i32.const 0) (i32.const 0) (i32.const 0))) (i32.const 0)))"#;
    app.write("counter.wasm", &wat::parse_str(text).unwrap());
    let answer = app.ask(&["deploy", "counter.wasm"]);
    assert_eq!(answer.code, Some(1));
    let command = "`exuvia deploy --fresh counter.wasm --name counter`";
    assert!(answer.stderr.contains(command), "{answer:?}");
    lives(&app, 0);
    let line = app.done(&["deploy", "counter.wasm", "--fresh"]);
    assert!(line.contains("(verified 3: 3 reset)"), "{line}");
}
