//! Sockets for other programs, which may do less.

use crate::app::App;

#[test]
fn a_socket_for_callers_calls_and_does_no_more() {
    let app = App::new();
    let _node = app.start(&["--no-watch", "--socket-for", "call=sockets/call.sock"]);
    let with =
        |arguments: &[&str]| app.ask(&[&["--socket", "sockets/call.sock"], arguments].concat());
    let sent = with(&["send", "counter-0", "--hex", "0500000000000000"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let called = with(&["send", "counter-0", "--call"]);
    assert!(called.stdout.contains("0500000000000000"), "{called:?}");
    app.write("new.wasm", &crate::app::counter("(i32.const 9)"));
    for refused in [
        &["ps"][..],
        &["info"],
        &["kill", "counter-0"],
        &["deploy", "new.wasm", "--name", "counter"],
        &["releases"],
        &["rollback"],
        &["stop"],
    ] {
        let answer = with(refused);
        assert_eq!(answer.code, Some(1), "{refused:?}: {answer:?}");
        let why = "this connection has `call`";
        assert!(answer.stderr.contains(why), "{refused:?}: {answer:?}");
    }
    let log =
        std::fs::read_to_string(app.folder().join(".exuvia/node.sock.refused.jsonl")).unwrap();
    assert!(log.contains("\"status\":403"), "{log}");
    for (wrong, why) in [
        ("call", "this is not ROLE=PATH"),
        ("boss=a.sock", "there is no role `boss`"),
    ] {
        let answer = app.ask(&["run", "--socket-for", wrong]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.stderr.contains(why), "{answer:?}");
    }
}
