//! Wrong usage, and no node to talk to.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use crate::app::{Answer, answer, exuvia};

fn ask(folder: &Path, arguments: &[&str]) -> Answer {
    answer(exuvia(folder).args(arguments))
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, part) in [
        (&[][..], "Usage: exuvia"),
        (&["bad"], "unrecognized subcommand 'bad'"),
        (&["run", ".", "more"], "unexpected argument 'more'"),
        (
            &["deploy", "a.wasm", "--leave", "--kill"],
            "cannot be used with",
        ),
        (
            &["deploy", ".", "--name", "a"],
            "`--name` can be used only with a file",
        ),
        (&["rollback", "now"], "invalid value 'now'"),
        (&["run", "--no-store", "--release"], "cannot be used with"),
        (&["pin"], "<RELEASE>"),
        (&["ps", "--limit", "few"], "invalid value 'few'"),
        (&["ps", "--limit", "0"], "1..=100000"),
        (&["deploy", "a.wasm", "--new"], "--name <MODULE>"),
        (&["send"], "<TARGET>"),
        (&["send", "a", "--tag", "-1", "1"], "invalid value"),
        (&["send", "a", "1", "--timeout", "5s"], "--call"),
        (
            &["send", "a", "1", "--text", "--hex"],
            "cannot be used with",
        ),
        (&["send", "a", "--text"], "<PAYLOAD>"),
        (&["send", "a", "{Add: 5}"], "JSON needs quotes"),
        (&["send", "a", "-"], "the payload is not JSON"),
        (&["send", "a", "Get"], "'\"Get\"'"),
        (&["send", "a", "--hex", "0a1"], "only one digit"),
        (&["stop", "--timeout", "soon"], "invalid value 'soon'"),
        (
            &["stop", "--timeout", "500"],
            "add a unit: \"500ms\" or \"500s\"",
        ),
        (&["top", "--interval", "5ms"], "from 100ms to 1m"),
        (&["info", "--socket"], "--socket <PATH>"),
        (&["completions", "cmd"], "invalid value 'cmd'"),
    ] {
        let answer = ask(folder.path(), arguments);
        assert_eq!(answer.code, Some(2), "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains(part), "{arguments:?}: {answer:?}");
        assert_eq!(answer.stdout, "", "{arguments:?}");
    }
}

#[test]
fn help_has_examples() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "run",
        "deploy",
        "rollback",
        "releases",
        "diff",
        "pin",
        "unpin",
        "ps",
        "send",
        "info",
        "events",
        "stop",
        "check",
        "doctor",
        "completions",
    ] {
        let answer = ask(folder.path(), &[command, "--help"]);
        assert_eq!(answer.code, Some(0));
        let example = format!("\n  exuvia {command}");
        assert!(answer.stdout.contains(&example), "{}", answer.stdout);
    }
}

#[test]
fn no_node_is_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    fs::write(folder.path().join("a.wasm"), "").unwrap();
    let app = folder.path().join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("exuvia.toml"), "[app]\nname = \"a\"\n").unwrap();
    let long = "s".repeat(108);

    for command in [
        &["info"][..],
        &["ps"],
        &["send", "a", "1"],
        &["send", "a", "--call"],
        &["deploy", "a.wasm"],
        &["deploy", "a.wasm", "--name", "a"],
        &["rollback"],
        &["releases"],
        &["diff", "1"],
        &["pin", "1"],
        &["unpin", "1"],
        &["events"],
        &["stop"],
    ] {
        for (socket, part) in [
            (&[][..], "could not find `exuvia.toml`"),
            (&["--socket", "dead.sock"], "its node has exited"),
            (&["--socket", "none.sock"], "there is no such socket"),
            (&["--socket", "a.wasm"], "this is not a socket"),
            (&["--socket", &long], "too long: it has 108 bytes"),
        ] {
            let arguments = [command, socket].concat();
            let answer = ask(folder.path(), &arguments);
            assert_eq!(answer.code, Some(3), "{arguments:?}: {answer:?}");
            assert!(answer.stderr.starts_with("error: "), "{answer:?}");
            assert!(answer.stderr.contains("\n  help: "), "{answer:?}");
            assert!(answer.stderr.contains(part), "{arguments:?}: {answer:?}");
        }
    }
    // In an app's folder its socket is meant, and named.
    let answer = ask(&app, &["info"]);
    assert_eq!(answer.code, Some(3));
    assert!(
        answer.stderr.contains("app/.exuvia/node.sock"),
        "{answer:?}"
    );
    let answer = crate::app::answer(exuvia(&app).env("EXUVIA_SOCKET", "other.sock").arg("info"));
    assert!(answer.stderr.contains("other.sock"), "{answer:?}");
}

#[test]
fn errors_are_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let answer = ask(folder.path(), &["info", "--json", "--socket", "none.sock"]);
    assert_eq!(answer.code, Some(3));
    let fault: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(fault["error"]["code"], "no_node");
    assert!(fault["error"]["help"].is_string());
    assert_eq!(answer.stderr, "");
}

#[test]
fn an_app_that_cannot_run_reports_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let run = |part: &str| {
        let answer = ask(folder.path(), &["run", "."]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.stderr.starts_with("error: "), "{answer:?}");
        assert!(answer.stderr.contains(part), "{answer:?}");
    };
    let manifest = folder.path().join("exuvia.toml");
    run("could not read the manifest");
    fs::write(&manifest, "[app]\nnam = \"a\"\n").unwrap();
    run("--> ./exuvia.toml:2:1");
    fs::write(
        &manifest,
        "[app]\nname = \"a\"\n[modules.a]\npath = \"a.wasm\"\n",
    )
    .unwrap();
    run("the file of module `a` does not exist");
    symlink("a.wasm", folder.path().join("a.wasm")).unwrap();
    run("the file of module `a` cannot be read: ");
    fs::remove_file(folder.path().join("a.wasm")).unwrap();
    drop(UnixListener::bind(folder.path().join("a.wasm")).unwrap());
    run("the file of module `a` is not a regular file");
    fs::remove_file(folder.path().join("a.wasm")).unwrap();
    fs::write(folder.path().join("a.wasm"), "not a module").unwrap();
    run("a.wasm");

    fs::write(folder.path().join("b.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let answer = ask(folder.path(), &["run", "b.wasm"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("has no export `memory`"),
        "{answer:?}"
    );
    let answer = ask(folder.path(), &["build", "b.wasm"]);
    assert!(
        answer.stderr.contains("this is a Wasm module"),
        "{answer:?}"
    );
    let answer = ask(folder.path(), &["run", ".", "--socket", "b.wasm/node.sock"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("could not make the folder"),
        "{answer:?}"
    );
    assert!(answer.stderr.contains("--socket PATH"), "{answer:?}");

    let long = "s".repeat(108);
    let answer = ask(folder.path(), &["run", ".", "--socket", &long]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.stderr.contains("too long"), "{answer:?}");
    let answer = answer_with_log(folder.path());
    assert_eq!(answer.code, Some(2));
    assert!(answer.stderr.contains("EXUVIA_LOG"), "{answer:?}");
}

fn answer_with_log(folder: &Path) -> Answer {
    answer(exuvia(folder).args(["run", "."]).env("EXUVIA_LOG", "a=b=c"))
}
