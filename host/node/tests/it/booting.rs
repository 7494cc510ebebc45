//! The boot and the end of an app: who listens before it hears all of it.

use std::path::Path;
use std::time::Duration;

use exuvia_node::manifest::Manifest;
use exuvia_node::{App, BootError, BootOptions, Event, Events, NodeConfig};

use crate::actors::{Actor, counts};
use crate::guests::{event, eventually};

/// Boots an app of one permanent child with this code.
fn boot(folder: &Path, code: &str, events: Events) -> Result<App, BootError> {
    std::fs::write(folder.join("it.wasm"), wat::parse_str(code).unwrap()).unwrap();
    let text = "[app]\nname = \"boots\"\n[modules.it]\npath = \"it.wasm\"\n\
        [supervisor]\nintensity = 0\n[[supervisor.children]]\nid = \"it\"\nname = \"it\"\nmodule = \"it\"\n";
    let manifest = Manifest::parse(text, "exuvia.toml", folder).unwrap();
    let config = NodeConfig {
        schedulers: 2,
        frames: 16,
        cache: None,
        ..NodeConfig::of(&manifest)
    };
    App::boot(
        manifest,
        BootOptions {
            config: Some(config),
            events,
        },
    )
}

/// Logs a line whatever it gets, INIT first, and then does `more`.
fn logs(more: &str) -> String {
    let after = format!("(drop (call $log (i32.const 3) (i32.const 1072) (i32.const 17))) {more}");
    Actor {
        after: &after,
        ..counts()
    }
    .text()
}

#[test]
fn what_guests_say_while_the_tree_starts_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::default();
    let mut heard = events.listen();
    let app = boot(folder.path(), &logs(""), events).unwrap();
    // The first release is no swap, and so this is all there is.
    let Ok(Event::Log { text, module, .. }) = heard.try_recv() else {
        panic!("the log line is lost");
    };
    assert_eq!(
        (text.as_str(), module.as_str()),
        ("too many to count", "it@1")
    );
    assert!(heard.try_recv().is_err());
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

#[test]
fn what_guests_say_is_heard_when_the_boot_fails() {
    let folder = tempfile::tempdir().unwrap();
    let events = Events::default();
    let mut heard = events.listen();
    let error = boot(folder.path(), &logs("(unreachable)"), events).unwrap_err();
    assert!(matches!(error, BootError::Tree(_)), "{error}");
    let text = event(&mut heard, "the log line", |event| match event {
        Event::Log { text, .. } => Some(text.clone()),
        Event::Exit { .. } => panic!("it ended before it spoke"),
        _ => None,
    });
    assert_eq!(text, "too many to count");
    let reason = event(&mut heard, "why it ended", |event| match event {
        Event::Exit { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.starts_with("trap"), "{reason}");
}

#[test]
fn a_child_that_is_done_before_it_has_started_says_what_to_do() {
    for (end, how) in [
        ("(return (i32.const 2))", "`run` answered 2 (DONE)"),
        (
            "(call $exit (i32.const 0) (i32.const 0) (i32.const 0)) (unreachable)",
            "it called `exit` with 0 (NORMAL)",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = boot(folder.path(), &logs(end), Events::default()).unwrap_err();
        let text = error.to_string();
        for part in [
            "shutdown: child `it` could not be started: normal: ",
            how,
            "before the start was acknowledged",
            "answer 0 (REST)",
            "call `init_ack` with status 0",
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
    // Whoever acknowledges first may be done at once.
    let folder = tempfile::tempdir().unwrap();
    let done =
        "(drop (call $init_ack (i32.const 0) (i32.const 0) (i32.const 0))) (return (i32.const 2))";
    let app = boot(folder.path(), &logs(done), Events::default());
    // Its restarts end the tree: a permanent child is never done.
    let reason = match app {
        Ok(app) => {
            eventually("the end", || app.ended().is_some());
            app.ended().unwrap()
        }
        Err(error) => error.to_string(),
    };
    assert!(reason.contains("restart intensity"), "{reason}");
}

#[test]
fn a_module_that_is_missing_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = boot(folder.path(), "(module)", Events::default()).unwrap_err();
    assert_eq!(error.help(), None, "the message itself says it: {error}");
    let text = "[app]\nname = \"boots\"\n[modules.it]\npath = \"no.wasm\"\n[supervisor]\n";
    let manifest = Manifest::parse(text, "exuvia.toml", folder.path()).unwrap();
    let error = App::boot(manifest, BootOptions::default()).unwrap_err();
    let help = error.help().unwrap();
    assert!(error.to_string().contains("no.wasm"), "{error}");
    assert!(help.contains("build it"), "{help}");
}

#[test]
fn the_end_of_the_tree_is_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    // By itself: a child ends, and may not be started again.
    let folder = tempfile::tempdir().unwrap();
    let app = boot(folder.path(), &counts().text(), Events::default()).unwrap();
    assert_eq!(app.ended(), None);
    app.node().kill(app.node().find("it").unwrap());
    let why = runtime.block_on(app.end());
    assert!(why.contains("restart intensity"), "{why}");
    assert_eq!(app.ended(), Some(why));
    assert!(app.stop(Duration::from_secs(10)).orderly);
    // By its user, while somebody waits.
    let app = boot(folder.path(), &counts().text(), Events::default()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runtime.block_on(app.end()));
        assert!(app.stop(Duration::from_secs(10)).orderly);
        assert_eq!(waits.join().unwrap(), "shutdown");
    });
}
