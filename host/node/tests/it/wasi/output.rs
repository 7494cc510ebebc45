//! What a process prints, and the status that it exits with.

use exuvia_node::abi::{self, Reason};

use super::swaps::migrated;
use super::{granted, puppet, sleep, world, write};
use crate::guests::{counter, deploy, eventually, node, spawn};
use crate::puppet::Puppet;

/// A guest that prints, and exits with the number that it is sent.
fn printing() -> String {
    let text = counter(
        r#"(i32.store (i32.const 16384) (i32.const 512))
           (i32.store (i32.const 16388) (i32.load (i32.const 100)))
           (drop (call $fd_write (i32.load (i32.const 96)) (i32.const 16384) (i32.const 1) (i32.const 16392)))
           (if (i32.eq (i32.load (i32.const 96)) (i32.const 9)) (then
             (call $proc_exit (i32.load8_u (i32.const 512)))))"#,
        "(unreachable)",
        "",
    );
    text.replace(
        "(memory (export",
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export"#,
    )
}

#[test]
fn printed_output_is_logged_by_lines() {
    let node = node();
    deploy(&node, "p", &printing());
    let pid = spawn(&node, "p", b"");
    let mut events = node.events();
    // The tag is the file.
    for (file, text) in [
        (1, &b"one\ntwo"[..]),
        (1, b" and a half\n\xff\x1b[31m\r\n"),
        (2, b"an error\n"),
        (1, b"the rest"),
    ] {
        node.send(pid, file, text.to_vec()).unwrap();
    }
    let mut lines = Vec::new();
    let mut heard = |wanted: usize, lines: &mut Vec<(String, String)>| {
        eventually("the lines come", || {
            while let Ok(event) = events.try_recv() {
                if let exuvia_node::Event::Log { level, text, .. } = event {
                    lines.push((format!("{level:?}"), text));
                }
            }
            lines.len() >= wanted
        });
    };
    heard(4, &mut lines);
    // A line that does not end.
    for _ in 0..3 {
        node.send(pid, 2, vec![b'x'; 3_000]).unwrap();
    }
    heard(5, &mut lines);
    node.kill(pid);
    heard(6, &mut lines);
    let said: Vec<(&str, &str)> = (lines.iter())
        .map(|(level, text)| (level.as_str(), &text[..text.len().min(30)]))
        .collect();
    assert_eq!(
        said[..4],
        [
            ("Info", "one"),
            ("Info", "two and a half"),
            ("Info", "\u{fffd}\u{1b}[31m"),
            ("Warn", "an error"),
        ]
    );
    assert!(said.contains(&("Info", "the rest")), "{said:?}");
    let lengths: Vec<usize> = lines.iter().map(|(_, text)| text.len()).collect();
    assert!(
        lengths.iter().all(|length| *length <= 8 * 1024),
        "{lengths:?}"
    );
    node.halt();
}

#[test]
fn the_exit_status_is_the_exit_reason() {
    let node = node();
    deploy(&node, "p", &printing());
    deploy(&node, "puppet", &puppet::text(1));
    let watcher = Puppet::new(&node);
    for (status, reason) in [
        (0, Reason::NORMAL.0),
        (1, Reason::GUEST + 1),
        (125, Reason::GUEST + 125),
    ] {
        let pid = spawn(&node, "p", b"");
        watcher.on("monitor", pid).ok();
        node.send(pid, 9, vec![status]).unwrap();
        watcher.wait().notifications(abi::Kind::Down, pid, reason);
    }
    // WASI knows no others.
    let pid = spawn(&node, "p", b"");
    watcher.on("monitor", pid).ok();
    node.send(pid, 9, vec![200]).unwrap();
    watcher
        .wait()
        .notifications(abi::Kind::Down, pid, Reason::TRAP.0);
    node.halt();
}

/// What a process has printed when it is ended in a function of WASI is not lost with the function.
#[test]
fn a_process_that_is_killed_in_wasi_has_its_last_line_logged() {
    let node = world(1, &[]);
    let p = puppet(&node, granted(Vec::new()));
    let mut events = node.events();
    write(&p, 1, "no newline").ok();
    let asleep = sleep(&p, 3_600_000_000_000);
    eventually("it waits", || p.state() == "wasi");
    node.kill(p.pid);
    assert!(asleep.join().unwrap().is_err());
    eventually("the line comes", || {
        std::iter::from_fn(|| events.try_recv().ok()).any(
            |event| matches!(event, exuvia_node::Event::Log { text, .. } if text == "no newline"),
        )
    });
    node.halt();
}

/// What a process has printed when its memory is replaced is not lost with what belongs to that memory, and not
/// repeated if it comes back.
#[test]
fn the_last_line_before_a_migration_is_logged_once() {
    let node = world(1, &[]);
    deploy(&node, "puppet", &migrated(10));
    let p = puppet(&node, granted(Vec::new()));
    let mut events = node.events();
    let mut lines = Vec::new();
    let mut logged = |wanted: &str| {
        eventually("the line comes", || {
            while let Ok(event) = events.try_recv() {
                if let exuvia_node::Event::Log { text, .. } = event {
                    lines.push(text);
                }
            }
            lines.iter().any(|line| line == wanted)
        });
        lines.clone()
    };
    write(&p, 1, "old").ok();
    deploy(&node, "puppet", &migrated(11));
    assert_eq!(logged("old"), ["old"]);
    // Nothing has happened since: the memory comes back with what belongs to it.
    node.rollback().unwrap();
    eventually("it is back", || p.version_is("puppet@2"));
    write(&p, 1, "old again").ok();
    deploy(&node, "puppet", &migrated(12));
    write(&p, 1, "new").ok();
    node.kill(p.pid);
    assert_eq!(logged("new"), ["old", "old again", "new"]);
    node.halt();
}
