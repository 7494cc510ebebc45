//! What an operator does with processes: kills and restarts them, lists what they understand,
//! and shows the tree.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::app::{App, COUNTER, stubborn_counter};

fn pid(app: &App, name: &str) -> String {
    let list = app.json(&["ps", "--module", "counter"]);
    let it = list.as_array().unwrap().iter();
    let mut found = it.filter(|process| process["names"][0] == name);
    found.next().unwrap()["pid"].as_str().unwrap().to_owned()
}

#[test]
fn a_process_is_killed_whatever_it_does_and_the_reason_is_reported() {
    let app = App::with(&stubborn_counter(), "100ms");
    let mut node = app.start(&["--no-watch"]);
    let before = pid(&app, "counter-0");
    let told = app.done(&["kill", "counter-0", "--reason", "it is too old"]);
    assert_eq!(told, format!("killed {before}\n"));
    let exit = node.event("exit");
    assert_eq!(exit["event"]["pid"], *before);
    assert_eq!(exit["event"]["reason"], "killed: it is too old", "{exit}");
    assert_eq!(node.event("restarted")["event"]["child"], "counter-0");
    assert_ne!(pid(&app, "counter-0"), before);
    app.done(&["kill", &pid(&app, "counter-0")]);
    assert_eq!(node.event("exit")["event"]["reason"], "killed");

    for (target, part) in [
        (before.as_str(), "no process"),
        ("nobody", "registered as `nobody`"),
        ("<0.0>", "a process of the host"),
    ] {
        let answer = app.ask(&["kill", target]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.stderr.contains(part), "{answer:?}");
    }
    node.signal("KILL");
    node.end();
}

/// An app with a supervisor below the root.
fn with_supervisor_below() -> App {
    let app = App::new();
    let manifest = app.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let below = "[[supervisor.children]]\nid = \"below\"\n\
        [supervisor.children.supervisor]\nstrategy = \"one_for_all\"\n\
        [[supervisor.children.supervisor.children]]\nid = \"deep\"\nmodule = \"counter\"\nrestart = \"transient\"\n";
    fs::write(&manifest, format!("{text}{below}")).unwrap();
    app
}

#[test]
fn supervisors_are_shown_as_such_and_the_root_is_not_killed() {
    let app = with_supervisor_below();
    let mut node = app.start(&["--no-watch"]);
    let list = app.json(&["ps"]);
    let hosts: Vec<(&str, &str)> = (list.as_array().unwrap().iter())
        .filter(|process| process["module"].is_null())
        .map(|it| (it["pid"].as_str().unwrap(), it["state"].as_str().unwrap()))
        .collect();
    let tree = app.json(&["tree"]);
    let root = tree[0]["pid"].as_str().unwrap();
    let below = tree[0]["children"][3]["pid"].as_str().unwrap();
    let expected = [
        ("<0.0>", "native"),
        (root, "supervisor"),
        (below, "supervisor"),
    ];
    assert_eq!(hosts, expected, "{list}");
    assert_eq!(tree[0]["children"][3]["process"], "supervisor", "{tree}");
    let shown = app.json(&["inspect", root]);
    assert_eq!(shown["state"], "supervisor", "{shown}");

    let answer = app.ask(&["kill", root]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for part in ["root supervisor", "`exuvia stop`"] {
        assert!(answer.stderr.contains(part), "{answer:?}");
    }
    let answer = app.ask(&["kill", root, "--json"]);
    assert!(answer.stdout.contains("\"code\":\"refused\""), "{answer:?}");
    // One below is killed and started again.
    assert_eq!(app.done(&["kill", below]), format!("killed {below}\n"));
    assert_eq!(node.event("restarted")["event"]["child"], "below");
    app.done(&["stop"]);
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_restart_by_an_operator_does_not_count_towards_the_intensity() {
    let app = App::new();
    let mut node = app.start(&["--no-watch"]);
    // More often than the intensity allows, if it did count.
    for _ in 0..6 {
        let before = pid(&app, "counter-1");
        let told = app.done(&["restart", "counter-1"]);
        let after = pid(&app, "counter-1");
        assert_eq!(
            told,
            format!("restarted {before} as {after}, with a fresh state\n")
        );
        assert_ne!(before, after);
        assert_eq!(node.event("restarted")["event"]["child"], "counter-1");
    }
    let answer = app.ask(&["restart", "<1.0>"]);
    assert_eq!(answer.code, Some(1));
    assert!(
        answer.stderr.contains("not the child of a supervisor"),
        "{answer:?}"
    );
    app.done(&["stop"]);
    assert_eq!(node.end(), Some(0));
}

#[test]
fn a_failed_restart_is_reported_with_its_cause() {
    let app = App::new();
    let manifest = app.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let (before, _) = text.split_once("[[supervisor.children]]").unwrap();
    let child = |id: &str, name: &str| {
        format!("[[supervisor.children]]\nid = \"{id}\"\nmodule = \"counter\"\nname = \"{name}\"\n")
    };
    let apart = format!("{before}{}{}", child("a", "left"), child("b", "right"));
    fs::write(&manifest, apart).unwrap();
    let mut node = app.start_as("dev", &[]);
    let exchanged = format!("{before}{}{}", child("a", "right"), child("b", "left"));
    app.write("exuvia.toml", exchanged.as_bytes());
    node.event("manifest");
    app.done(&["kill", "left"]);
    let failed = node.event("not-started");
    assert_eq!(failed["event"]["child"], "a", "{failed}");
    let why = "the name `right` belongs to another process";
    assert!(failed["line"].as_str().unwrap().contains(why), "{failed}");
    let ended = node.event("ended");
    let line = ended["line"].as_str().unwrap();
    assert!(line.contains("could not be restarted"), "{line}");
    assert!(line.contains(why), "{line}");
    assert_eq!(line.matches("restart intensity").count(), 1, "{line}");
    node.signal("KILL");
    node.end();
}

#[test]
fn the_tree_shows_supervisors_and_their_children() {
    let app = with_supervisor_below();
    let _node = app.start(&["--no-watch"]);
    let shown = app.done(&["tree"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("supervisor  <") && lines[0].ends_with("one_for_one"),
        "{shown}"
    );
    assert!(lines[1].starts_with("├─ counter-0  <"), "{shown}");
    assert!(lines[1].contains("counter@1"), "{shown}");
    assert!(
        lines[4].starts_with("└─ below  <") && lines[4].ends_with("one_for_all"),
        "{shown}"
    );
    assert!(
        lines[5].starts_with("   └─ deep  <") && lines[5].ends_with("transient"),
        "{shown}"
    );
    assert_eq!(lines.len(), 6, "{shown}");
    let tree = app.json(&["tree"]);
    assert_eq!(
        tree[0]["children"][3]["children"][0]["id"], "deep",
        "{tree}"
    );
    let cut = app.done(&["tree", "--limit", "2"]);
    assert!(cut.contains("and 2 more; --limit N shows them"), "{cut}");
}

/// Sends requests back, and takes messages. So what a call makes can be seen.
fn echo(section: &str) -> Vec<u8> {
    let text = include_str!("../../../../guest-sdk/wat/echo.wat");
    let layout = "(@custom \"exuvia.layout\" \"echo: no state\")";
    assert_eq!(text.matches(layout).count(), 1);
    let section = section.replace('"', "\\\"").replace('\n', "\\n");
    let custom = format!("{layout} (@custom \"exuvia.protocol\" \"{section}\")");
    wat::parse_str(text.replace(layout, &custom)).unwrap()
}

#[test]
fn a_process_is_called_by_function_names_of_its_protocol() {
    let protocol = r#"{"name":"add","message":"Add","parameters":[{"name":"by","type":"i64"},{"name":"why","type":"String"}],"reply":"i64","docs":"Adds to the count."}
{"name":"get","message":"Get","reply":"i64"}
{"name":"reset","message":"Reset"}
"#;
    let app = App::with(&echo(protocol), "5s");
    let _node = app.start(&["--no-watch"]);
    let described = app.done(&["describe", "counter-0"]);
    for line in [
        "\n  add(by: i64, why: String) -> i64\n      Adds to the count.\n",
        "\n  get() -> i64\n",
        "\n  reset()\n",
    ] {
        assert!(described.contains(line), "{described}");
    }
    let json = app.json(&["describe", "counter-0"]);
    assert_eq!(
        json["functions"][0]["parameters"][0]["type"], "i64",
        "{json}"
    );

    let called = app.done(&["call", "counter-0", "add", "by=3", "why=it is time"]);
    let sent: Value = serde_json::from_str(&called).unwrap();
    assert_eq!(
        sent,
        serde_json::json!({"Add": {"by": 3, "why": "it is time"}})
    );
    assert_eq!(app.done(&["call", "counter-0", "get"]), "\"Get\"\n");
    assert_eq!(
        app.done(&["call", "counter-0", "{\"a\":[1]}"]),
        "{\"a\":[1]}\n"
    );
    assert_eq!(app.done(&["call", "counter-0", "reset"]), "sent\n");
    for (words, parts) in [
        (
            &["gett"][..],
            &["has no function `gett`", "did you mean `get`?"][..],
        ),
        (
            &["add", "by=3"],
            &["`why` is missing", "add(by: i64, why: String)"],
        ),
        (&["get", "now"], &["1 arguments given, it takes 0"]),
        (
            &["add", "by=much", "why=so"],
            &["`by`", "i64", "`much`", "add(by: i64, why: String)"],
        ),
    ] {
        let answer = app.ask(&[&["call", "counter-0"], words].concat());
        assert_eq!(answer.code, Some(2), "{answer:?}");
        for part in parts {
            assert!(answer.stderr.contains(part), "{part}: {answer:?}");
        }
    }
}

#[test]
fn invisible_characters_are_escaped_in_json() {
    let app = App::with(&echo(""), "5s");
    let _node = app.start(&["--no-watch"]);
    let text = "a\u{7f}b\u{9b}c\u{2028}d\u{202e}e\u{2066}f\u{e0041}";
    let escaped = "\"a\\u007fb\\u009bc\\u2028d\\u202ee\\u2066f\\udb40\\udc41\"";
    let request = Value::from(text).to_string();
    for words in [&["--json"][..], &[]] {
        let printed = app.done(&[&["send", "counter-0", &request, "--call"], words].concat());
        assert!(printed.contains(escaped), "{printed:?}");
        assert!(!printed.contains(|c: char| !c.is_ascii()), "{printed:?}");
    }
    let json = app.json(&["send", "counter-0", &request, "--call"]);
    assert_eq!(json["payload"], text, "{json}");
}

#[test]
fn a_call_of_a_suspended_process_says_so() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let call = [
        "send",
        "counter-1",
        "--hex",
        "00",
        "--call",
        "--timeout",
        "50ms",
    ];
    app.done(&["suspend", "counter-1"]);
    let answer = app.ask(&call);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for part in [
        "within 50 ms",
        "it is suspended",
        "still queued",
        "exuvia resume",
    ] {
        assert!(answer.stderr.contains(part), "{part}: {answer:?}");
    }
    let answer = app.ask(&[&call[..], &["--json"]].concat());
    assert!(answer.stdout.contains("\"code\":\"timeout\""), "{answer:?}");
    app.done(&["resume", "counter-1"]);
    app.done(&["send", "counter-1", "--hex", "00", "--call"]);
}

#[test]
fn a_process_without_a_protocol_is_called_in_json() {
    let app = App::with(&echo(""), "5s");
    let _node = app.start(&["--no-watch"]);
    let described = app.done(&["describe", "counter-0"]);
    assert!(described.contains("describes no protocol"), "{described}");
    let answer = app.ask(&["call", "counter-0", "get"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.stderr.contains("write the request in JSON"),
        "{answer:?}"
    );
    assert_eq!(app.done(&["call", "counter-0", "\"Get\""]), "\"Get\"\n");
    app.write("counter.wasm", &echo("nothing"));
    app.done(&["deploy", "."]);
    let answer = app.ask(&["call", "counter-0", "get"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

#[test]
fn send_reports_delivery_or_the_receivers_refusal() {
    let begins = "        ;; MESSAGE:";
    assert_eq!(COUNTER.matches(begins).count(), 1);
    let warns = COUNTER
        .replace(
            begins,
            &format!("(drop (call $log (i32.const 2) (i32.const 60000) (i32.const 12)))\n{begins}"),
        )
        .replace(
            "(memory (export \"memory\") 1 16)",
            "(memory (export \"memory\") 1 16) (data (i32.const 60000) \"I dropped it\")",
        );
    let app = App::with(&wat::parse_str(warns).unwrap(), "5s");
    let _node = app.start(&["--no-watch"]);
    let answer = app.ask(&["send", "counter-0", "--hex", "0100000000000000"]);
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (Some(0), "sent\n"),
        "{answer:?}"
    );
    assert_eq!(answer.stderr, "warning: counter-0: I dropped it\n");
    let json = app.json(&["send", "counter-0", "--hex", "0100000000000000"]);
    assert_eq!(json["warnings"][0], "I dropped it", "{json}");

    app.done(&["suspend", "counter-1"]);
    let answer = app.ask(&["send", "counter-1", "--hex", "0100000000000000"]);
    assert!(answer.stderr.contains("it is suspended"), "{answer:?}");

    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let answer = app.ask(&["send", "counter-0", "--hex", "0100000000000000"]);
    assert_eq!(
        (answer.stdout.as_str(), answer.stderr.as_str()),
        ("sent\n", "")
    );
}

#[test]
fn a_supervisors_refusal_is_a_failure() {
    let app = App::new();
    let _node = app.start(&["--no-watch"]);
    let tree = app.json(&["tree"]);
    let supervisor = tree[0]["pid"].as_str().unwrap();
    for (request, part) in [
        ("\"nonsense\"", "does not understand this request"),
        ("{\"restart_child\":\"nobody\"}", "no child has this id"),
        ("{\"restart_child\":\"counter-0\"}", "the child is running"),
    ] {
        let answer = app.ask(&["send", supervisor, request, "--call"]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.stderr.contains(part), "{answer:?}");
    }
    let children = app.done(&["send", supervisor, "\"which_children\"", "--call"]);
    assert!(children.contains("counter-2"), "{children}");
}

#[test]
fn prometheus_scrapes_the_metrics_over_tcp() {
    let app = App::new();
    let node = app.begin(&["--no-watch", "--metrics", "127.0.0.1:0"]);
    let started = node.event("started");
    let at = started["event"]["metrics"].as_str().unwrap();
    let address = at
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\nexuvia_module_processes{module=\"counter\"} 3\n"),
        "{answer}"
    );

    let other = App::new();
    let refused = other.ask(&["run", ".", "--metrics", address]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("cannot be served at"),
        "{refused:?}"
    );
}

#[test]
fn deceptive_names_are_escaped_wherever_they_are_shown() {
    let app = App::new();
    let manifest = app.folder().join("exuvia.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    // A zero-width space in it, and a mark that turns what follows.
    let odd = "pay\u{200b}roll\u{202e}x-{n}";
    fs::write(&manifest, text.replace("counter-{n}", odd)).unwrap();
    let _node = app.start(&["--no-watch"]);
    let name = "pay\u{200b}roll\u{202e}x-0";
    let shown = "pay\\u{200b}roll\\u{202e}x-0";
    for command in [
        &["ps"][..],
        &["inspect", name],
        &["tree"],
        &["top", "--count", "1"],
    ] {
        let text = app.done(command);
        assert!(text.contains(shown), "{command:?}: {text}");
        assert!(
            !text.contains('\u{200b}') && !text.contains('\u{202e}'),
            "{text}"
        );
    }
    // It is found by its true name all the same.
    assert_eq!(
        app.done(&["send", name, "--hex", "0100000000000000"]),
        "sent\n"
    );
    let answer = app.ask(&["send", "pay\u{200b}roll", "--hex", "00"]);
    assert!(answer.stderr.contains("pay\\u{200b}roll"), "{answer:?}");
}
