//! Sessions and the room in a node with virtual time. The test is what a WebSocket would be: the process to which a session
//! sends its frames.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use exuvia::test::Node;
use exuvia::{Match, Pid, Reason, Wait, tag};
use live_protocol::LOBBY;
use serde_json::{Value, json};

/// Starts a node that listens nowhere, with the modules as they were built: tests run side by side.
fn live(test: &str) -> Node {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(folder.join("exuvia.toml")).unwrap();
    let (text, _) = text.split_once("[[listen]]").unwrap();
    let target = format!("\"{}/../target", folder.display());
    let text = text.replace("\"../target", &target);
    let lines = text.lines().filter(|line| !line.starts_with("sources"));
    let lines = lines.map(|line| match line.starts_with("build") {
        true => "build = \"true\"",
        false => line,
    });
    let lines: Vec<&str> = lines.collect();
    let app = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join("exuvia.toml"), lines.join("\n")).unwrap();
    Node::start(app)
}

/// Says something to a session, as its browser.
fn says(session: Pid, frame: &Value) {
    let text = frame.to_string();
    let reference = session.request_bytes(tag::SOCKET_TEXT, text.as_bytes());
    // It is acknowledged when it was handled.
    exuvia::receive(Match::Reference(reference.unwrap()), Wait::Forever).unwrap();
}

/// The next frame that a session sends, and for which the condition holds.
fn next(session: Pid, fits: impl Fn(&Value) -> bool) -> Value {
    loop {
        let tagged = Match::Tag(tag::SOCKET_TEXT);
        let message = exuvia::receive(tagged, Duration::from_secs(60)).unwrap();
        let frame = serde_json::from_slice(&message.payload).unwrap();
        if message.sender == session && fits(&frame) {
            return frame;
        }
    }
}

/// Starts the session of somebody who joins. Returns what was there before.
fn joins(user: &str) -> (Pid, Value) {
    joins_as(user, user)
}

fn joins_as(user: &str, name: &str) -> (Pid, Value) {
    let key = format!("session:{user}");
    let session = exuvia::spawn("session")
        .args(&key)
        .unwrap()
        .start()
        .unwrap()
        .pid;
    says(
        session,
        &json!({ "type": "hello", "version": 1, "token": null }),
    );
    let person = json!({ "user": user, "name": name, "hue": 20 });
    says(
        session,
        &json!({ "type": "join", "ref": 1, "topic": LOBBY, "payload": person }),
    );
    let mut history = next(session, |frame| frame["event"] == "history");
    (session, history["payload"].take())
}

fn push(session: Pid, number: u64, event: &str, payload: &Value) {
    says(
        session,
        &json!({ "type": "push", "ref": number, "topic": LOBBY, "event": event, "payload": payload }),
    );
}

#[test]
fn who_comes_later_sees_what_was_drawn_and_said() {
    let _node = live("history");
    let (anna, history) = joins("anna");
    assert_eq!(history, json!({ "strokes": [], "said": [] }));
    let stroke = json!({ "hue": 20, "width": 4, "points": [[0, 0], [10_000, 5_000]] });
    push(anna, 2, "draw", &stroke);
    push(anna, 3, "say", &json!(" hello "));
    let drawn = next(anna, |frame| frame["event"] == "drawn");
    assert_eq!(drawn["payload"], json!([stroke]));
    let (ben, history) = joins("ben");
    let said = json!({ "name": "anna", "hue": 20, "text": "hello" });
    assert_eq!(history, json!({ "strokes": [stroke], "said": [said] }));
    push(ben, 2, "wipe", &Value::Null);
    next(anna, |frame| frame["event"] == "wiped");
    // Ben's session ends: Anna is told.
    ben.exit(Reason::SHUTDOWN, "").unwrap();
    let left = next(anna, |frame| !frame["payload"]["leaves"]["ben"].is_null());
    assert_eq!(left["event"], "presence_diff");
}

#[test]
fn the_board_is_bounded_and_a_stroke_off_it_is_refused() {
    let node = live("limits");
    let (anna, _) = joins("anna");
    for n in 0..1_600_u64 {
        if n % 100 == 0 {
            // More in a second would be refused.
            node.advance(Duration::from_secs(1));
        }
        let stroke = json!({ "hue": 1, "width": 1, "points": [[n, 0]] });
        push(anna, n + 2, "draw", &stroke);
    }
    push(
        anna,
        2_000,
        "draw",
        &json!({ "hue": 1, "width": 1, "points": [[10_001, 0]] }),
    );
    let reply = next(anna, |frame| frame["ref"] == 2_000);
    assert_eq!(reply["error"], "the stroke is not on the board");
    let (_, history) = joins("ben");
    let strokes = history["strokes"].as_array().unwrap();
    assert_eq!(strokes.len(), 1_500);
    assert_eq!(strokes[0]["points"], json!([[100, 0]]));
    // Long ones are fewer.
    let points = vec![[10_000, 10_000]; 200];
    let stroke = json!({ "hue": 359, "width": 40, "points": points });
    for n in 0..100_u64 {
        if n % 50 == 0 {
            node.advance(Duration::from_secs(1));
        }
        push(anna, n + 3_000, "draw", &stroke);
    }
    let (_, history) = joins("carla");
    assert_eq!(history["strokes"].as_array().unwrap().len(), 40);
}

#[test]
fn what_somebody_gets_who_comes_fits_into_what_a_session_keeps() {
    let node = live("worst");
    // The worst name, and the worst words: characters with which JSON has most to do, in as many bytes as are allowed.
    let (anna, _) = joins_as("anna", &"\u{1f58d}".repeat(24));
    let words = "\"".repeat(333) + &"\u{1f58d}".repeat(166);
    let mut number = 2;
    let mut say = |event: &str, payload: &Value| {
        if number % 100 == 0 {
            // More in a second would be refused.
            node.advance(Duration::from_secs(1));
        }
        push(anna, number, event, payload);
        number += 1;
        number - 1
    };
    for (text, error) in [
        (words.clone() + "\"", None),
        (words.clone() + "aa", Some("say 1 to 500 characters")),
        ("\u{1f58d}".repeat(251), Some("say at most 1000 bytes")),
        ("a\u{1}b".into(), Some("control characters are not allowed")),
    ] {
        let asked = say("say", &json!(text));
        let reply = next(anna, |frame| frame["ref"] == asked);
        assert_eq!(reply["error"], json!(error));
    }
    for _ in 0..50 {
        say("say", &json!(words));
    }
    // As many strokes as are kept, with as many points as are kept.
    for n in 0..1_500 {
        let points = vec![[10_000, 10_000]; if n % 3 == 0 { 6 } else { 5 }];
        say(
            "draw",
            &json!({ "hue": 359, "width": 40, "points": points }),
        );
    }
    let (_, history) = joins("ben");
    let strokes = history["strokes"].as_array().unwrap();
    let points = strokes
        .iter()
        .map(|stroke| stroke["points"].as_array().unwrap().len());
    assert_eq!((strokes.len(), points.sum::<usize>()), (1_500, 8_000));
    assert_eq!(history["said"].as_array().unwrap().len(), 50);
    let bytes = history.to_string().len();
    assert!(bytes < 256 * 1024, "{bytes} bytes");
}
