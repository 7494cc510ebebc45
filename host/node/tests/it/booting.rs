//! The boot and the end of an app: a subscriber from before it gets all its events.

use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, BootError, BootOptions, DeployOptions, Event, Events, Node, NodeConfig};

use crate::actors::{Actor, counts};
use crate::guests::{ask, counter, event, eventually, module, with_layout};

/// Boots an app of one permanent child with this code.
fn boot(folder: &Path, code: &str, events: Events) -> Result<App, BootError> {
    std::fs::write(folder.join("it.wasm"), wat::parse_str(code).unwrap()).unwrap();
    let text = "[app]\nname = \"boots\"\n[modules.it]\npath = \"it.wasm\"\n\
        [supervisor]\nintensity = 0\n[[supervisor.children]]\nid = \"it\"\nname = \"it\"\nmodule = \"it\"\n";
    let manifest = with_layout(Manifest::parse(text, "exuvia.toml", folder).unwrap());
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
            ..BootOptions::default()
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
fn log_lines_of_guests_during_the_start_are_events() {
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
fn log_lines_of_guests_are_events_when_the_boot_fails() {
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
fn a_child_that_ends_before_it_acknowledged_is_reported_with_the_fix() {
    for (end, how) in [
        ("(return (i32.const 2))", "`run` returned 2 (DONE)"),
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
            "return 0 (REST)",
            "call `init_ack` with status 0",
        ] {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
    // A child that acknowledges its start first may be done at once.
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

/// A counter that begins with so many pages, and answers a request with what
/// growing by 4 pages answers.
fn pages(pages: u32) -> String {
    let grows = Actor {
        request: "(i64.extend_i32_s (memory.grow (i32.const 4)))",
        ..counts()
    };
    let text = grows.text();
    let memory = "(memory (export \"memory\") 1)";
    assert!(text.contains(memory));
    text.replace(memory, &format!("(memory (export \"memory\") {pages})"))
}

/// Boots an app whose limits are these, of a module that begins with so many
/// pages and two children: `roomy`, and `small` with a limit of its own.
fn boot_with(limits: &str, small: &str, begins_with: u32) -> Result<App, BootError> {
    let folder = tempfile::tempdir().unwrap();
    let bytes = wat::parse_str(pages(begins_with)).unwrap();
    std::fs::write(folder.path().join("it.wasm"), bytes).unwrap();
    let text = format!(
        "[app]\nname = \"boots\"\n{limits}\n[modules.it]\npath = \"it.wasm\"\n\
         limits = {{ memory = \"2MiB\" }}\n\
         [[supervisor.children]]\nid = \"roomy\"\nname = \"roomy\"\nmodule = \"it\"\n\
         [[supervisor.children]]\nid = \"small\"\nname = \"small\"\nmodule = \"it\"\n\
         limits = {{ mailbox_messages = 10, memory = \"{small}\" }}\n"
    );
    let manifest = with_layout(Manifest::parse(&text, "exuvia.toml", folder.path()).unwrap());
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
            ..BootOptions::default()
        },
    )
}

#[test]
fn a_child_with_less_memory_than_its_module_needs_is_reported_in_the_manifest() {
    // 20 pages are 1,280 KiB.
    let error = boot_with("", "1MiB", 20).unwrap_err();
    assert!(matches!(error, BootError::Manifest(_)), "{error:?}");
    let text = error.to_string();
    for part in [
        "error: the memory limit of child `small` is 1048576 bytes, but its module `it` starts with 1310720",
        "--> exuvia.toml:15:44",
        "^^^^^^ less than 1280KiB",
        "help: write \"1280KiB\" or more, or build the module with a smaller initial memory",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let app = boot_with("", "1280KiB", 20).unwrap();
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

#[test]
fn a_module_that_needs_more_than_a_childs_memory_is_rejected() {
    let app = boot_with("", "1MiB", 16).unwrap();
    let node = app.node();
    let deploy = |begins_with| {
        let next = vec![module("it", &pages(begins_with))];
        node.deploy(next, DeployOptions::default())
    };
    let error = deploy(17).unwrap_err();
    assert_eq!(error.code(), "load");
    let text = error.to_string();
    for part in [
        "it.wasm: the module starts with 1114112 bytes of memory",
        "the limit of the child `small` is 1048576",
        "raise `limits.memory` of that child",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let info = node.info();
    assert_eq!((info.release, info.modules[0].loaded.len()), (1, 1));
    deploy(15).unwrap();
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

#[test]
fn a_module_or_a_child_can_have_a_higher_memory_limit() {
    let app = boot_with("[limits]\nmemory = \"256KiB\"", "1MiB", 14).unwrap();
    let node = app.node();
    let grow = |name| ask(node, node.find(name).unwrap());
    // To 18 pages, of 32 and of 16.
    assert_eq!(grow("roomy"), 14);
    assert_eq!(grow("small"), u64::MAX);
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

/// While a module is loaded no process's limit holds: the initial memory is the same for all. But
/// there is a limit that no process may exceed.
#[test]
fn a_start_function_is_held_to_the_memory_limit_of_processes() {
    let grows = "(start $grow)
        (func $grow (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))";
    let folder = tempfile::tempdir().unwrap();
    let code = counter("", "(i64.extend_i32_u (memory.size))", grows);
    let app = boot(folder.path(), &code, Events::default()).unwrap();
    // 16 MiB, if nothing else is said.
    assert_eq!(ask(app.node(), app.node().find("it").unwrap()), 256);
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

#[test]
fn a_missing_module_is_reported_with_the_fix() {
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
fn the_node_waits_for_the_end_of_the_tree() {
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
    // Stopped by its user, while another thread waits for the end.
    let app = boot(folder.path(), &counts().text(), Events::default()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| runtime.block_on(app.end()));
        assert!(app.stop(Duration::from_secs(10)).orderly);
        assert_eq!(waits.join().unwrap(), "shutdown");
    });
}

#[test]
fn more_frames_than_a_node_can_have_are_rejected_with_the_fix() {
    let config = NodeConfig {
        frames: usize::MAX,
        cache: None,
        ..NodeConfig::default()
    };
    let message = Node::start(config).unwrap_err().to_string();
    for part in ["lower `frames` in `[node]`", "1000000"] {
        assert!(message.contains(part), "{message}");
    }
}
