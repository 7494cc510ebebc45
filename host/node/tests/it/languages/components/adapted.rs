//! A component in Rust that was built for preview 1 of WASI and adapted: it relies on more than the others do, such as memory of
//! the exact size for each list, and handles that may be dropped. `guest-sdk/component/conformance/rust` says what it is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exuvia_node::process::Grants;
use exuvia_node::{Limits, Node, Pid, Reply, SpawnOptions};

use super::{ask, built, deploy};
use crate::guests::{exit_of, node_with};
use crate::languages::guest::REFUSED;

const MESSAGE: u32 = 1 << 20;

/// A node with the component, which may have this much memory and this folder as `/work`.
fn world(memory: u64, work: &Path) -> Option<Node> {
    let folder = built("component")?;
    let wasm = std::fs::read(folder.join("rust.wasm")).unwrap();
    let grants = Arc::new(Grants {
        folders: vec![crate::wasi::folder("/work", work, true)],
        env: [("EMPTY", ""), ("NAME", "value")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Grants::default()
    });
    let node = node_with(|config| {
        config.cache = Some(folder.join("compiled"));
        config.limits = Limits {
            memory,
            message_bytes: MESSAGE,
            grants,
            ..Limits::default()
        };
    });
    deploy(&node, "guest", &wasm);
    Some(node)
}

fn start(node: &Node) -> Pid {
    node.spawn("guest", b"", &SpawnOptions::default()).unwrap()
}

#[track_caller]
fn text(reply: Reply) -> String {
    let text = String::from_utf8(reply.payload).unwrap();
    assert_eq!(reply.tag, 0, "{text}");
    text
}

#[test]
fn it_uses_files_and_lists_folders() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(16 << 20, work.path()) else {
        return;
    };
    let pid = start(&node);
    // Twice: what is looked up once is kept.
    for _ in 0..2 {
        assert_eq!(
            text(ask(&node, pid, b"files /work")),
            "0123456789,at the end 0,23456789,ab23456789cd,12"
        );
    }
    std::fs::remove_file(work.path().join("file")).unwrap();

    // Entries that are removed while they are listed: none is passed over. Their names are several pages.
    for number in 0..200 {
        let name = format!("{number:03}-{}", "n".repeat(200));
        std::fs::write(work.path().join(name), b"").unwrap();
    }
    assert_eq!(text(ask(&node, pid, b"list /work")), "200");
    assert_eq!(work.path().read_dir().unwrap().count(), 0);
    assert_eq!(text(ask(&node, pid, b"list /work")), "0");

    node.halt();
}

#[test]
fn lists_without_items_and_variables_without_a_value_are_read() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(16 << 20, work.path()) else {
        return;
    };
    let pid = start(&node);
    assert_eq!(text(ask(&node, pid, b"environment")), "EMPTY=;NAME=value");
    assert_eq!(text(ask(&node, pid, b"members nobody")), "0");
    for size in [1, 2, 70, 300] {
        let group = format!("of {size}");
        for _ in 0..size {
            let joined = ask(&node, start(&node), format!("join {group}").as_bytes());
            assert_eq!(text(joined), "");
        }
        let request = format!("members {group}");
        assert_eq!(text(ask(&node, pid, request.as_bytes())), size.to_string());
    }
    node.halt();
}

#[test]
fn a_message_with_a_high_tag_is_selected() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(16 << 20, work.path()) else {
        return;
    };
    let pid = start(&node);
    for tag in [7, 0x7fff_ffff, 0x8000_0000, 0xffff_0001u32] {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&node, pid, format!("select {tag}").as_bytes()));
            // Those that come before it asks are handled as all others.
            while !asked.is_finished() {
                node.send(pid, 1, b"another".to_vec()).unwrap();
                let with = format!("with {tag}").into_bytes();
                node.send(pid, tag, with).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(text(asked.join().unwrap()), format!("with {tag}"));
        });
    }
    node.halt();
}

#[test]
fn it_is_swapped() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(16 << 20, work.path()) else {
        return;
    };
    let pid = start(&node);
    node.send(pid, 0, b"seven".to_vec()).unwrap();
    assert_eq!(text(ask(&node, pid, b"count")), "5");
    let folder = built("component").unwrap();
    let mut edited = std::fs::read(folder.join("rust.wasm")).unwrap();
    let old = b"there is no `";
    let at = edited.windows(old.len()).position(|part| part == old);
    edited[at.unwrap()..][..old.len()].copy_from_slice(b"not found: -`");
    let report = deploy(&node, "guest", &edited);
    assert_eq!(report.verified, 1, "{report:?}");
    assert_eq!(text(ask(&node, pid, b"count")), "5");
    let refused = ask(&node, pid, b"thing");
    assert_eq!(
        (refused.tag, refused.payload.as_slice()),
        (REFUSED, b"not found: -`thing`".as_slice())
    );
    node.halt();
}

/// What cannot be sent, and what there is no memory for, is told to who waits; nobody waits for ever, and the process goes on.
#[test]
fn what_does_not_fit_is_refused() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(4 << 20, work.path()) else {
        return;
    };
    let pid = start(&node);
    node.send(pid, 0, b"seven".to_vec()).unwrap();
    let refused = ask(&node, pid, format!("large {}", MESSAGE + 1).as_bytes());
    let why = String::from_utf8_lossy(&refused.payload).into_owned();
    assert_eq!(refused.tag, REFUSED, "{why}");
    assert!(why.contains("reply"), "{why}");

    // The memory is used up but for little; large requests and messages do not end the process.
    assert_eq!(text(ask(&node, pid, b"keep 2000000")), "");
    let mut request = b"count ".to_vec();
    request.resize(1_000_000, b' ');
    for _ in 0..3 {
        node.send(pid, 0, vec![b' '; 1_000_000]).unwrap();
        let refused = ask(&node, pid, &request);
        let why = String::from_utf8_lossy(&refused.payload).into_owned();
        assert_eq!(refused.tag, REFUSED, "{why}");
        assert!(why.contains("memory"), "{why}");
    }
    assert_eq!(text(ask(&node, pid, b"count")), "5");
    // What fits is handled as before.
    node.send(pid, 0, vec![b' '; 1000]).unwrap();
    assert_eq!(text(ask(&node, pid, b"count")), "1005");

    node.halt();
}

/// Without its arguments a process does not start.
#[test]
fn arguments_that_do_not_fit_fail_the_start() {
    let work = tempfile::tempdir().unwrap();
    let Some(node) = world(1_500_000, work.path()) else {
        return;
    };
    let spawn = |arguments: &[u8]| node.spawn("guest", arguments, &SpawnOptions::default());
    let mut events = node.events();
    let (_, why) = exit_of(&mut events, spawn(&[1; 1_000_000]).unwrap());
    assert!(why.contains("no memory for it"), "{why}");
    let pid = spawn(b"few").unwrap();
    assert_eq!(text(ask(&node, pid, b"count")), "0");
    node.halt();
}
