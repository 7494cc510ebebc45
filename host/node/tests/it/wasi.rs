//! WASI: what a process is granted, and no more; blocking files delay no other process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::abi::{self, Code, Reason};
use exuvia_node::process::{Folder, Grants};
use exuvia_node::{App, Limits, Node, SpawnOptions};
use tempfile::TempDir;

use crate::guests::{
    ask, boot_options, counter, deploy, eventually, exit_of, node, node_with, spawn,
};
use crate::puppet::{self, BUFFER, DATA, Done, HEADER, PID, Puppet, REFERENCE};

// Errors of WASI.
const BADF: i64 = 8;
const INVAL: i64 = 28;
const MFILE: i64 = 33;
const NAMETOOLONG: i64 = 37;
const NOENT: i64 = 44;
const NOTSUP: i64 = 58;
const PERM: i64 = 63;
const NOTCAPABLE: i64 = 76;

pub(crate) const CREATE: i64 = 1;
const READ: i64 = 1 << 1 | 1 << 2;
pub(crate) const WRITE: i64 = 1 << 6 | READ;

pub(crate) fn folder(guest: &str, host: &Path, write: bool) -> Folder {
    Folder {
        guest: guest.into(),
        host: host.into(),
        below: Vec::new(),
        write,
    }
}

pub(crate) fn granted(folders: Vec<Folder>) -> Limits {
    Limits {
        grants: Arc::new(Grants {
            folders,
            ..Grants::default()
        }),
        ..Limits::default()
    }
}

/// A process of the puppet with WASI that has these limits.
pub(crate) fn puppet(node: &Node, limits: Limits) -> Puppet {
    // As the manifest would say of the module.
    let pid = node
        .spawn(
            "puppet",
            b"",
            &SpawnOptions {
                limits: Some(limits),
                ..SpawnOptions::default()
            },
        )
        .unwrap();
    Puppet::of(node, pid)
}

/// A node with the puppet, whose modules may be granted all that lies there.
fn world(schedulers: usize, folders: &[&Path]) -> Node {
    let node = node_with(|config| {
        config.schedulers = schedulers;
        config.limits = Limits {
            grants: Arc::new(Grants {
                folders: folders.iter().map(|at| folder("/", at, true)).collect(),
                terminal: true,
                ..Grants::default()
            }),
            ..Limits::default()
        };
    });
    deploy(&node, "puppet", &puppet::with_wasi(1));
    node
}

fn open_in(p: &Puppet, dir: i64, path: &str, flags: i64, rights: i64) -> Done {
    let arguments = [
        dir,
        DATA,
        path.len() as i64,
        flags,
        rights,
        rights,
        0,
        REFERENCE,
    ];
    p.act("path_open", &arguments, path.as_bytes())
}

/// Opens in the first folder.
pub(crate) fn open(p: &Puppet, path: &str, flags: i64, rights: i64) -> i64 {
    open_in(p, 3, path, flags, rights).ok().reference as u32 as i64
}

fn vector(at: i64, length: usize) -> Vec<u8> {
    [at as u32, length as u32]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

fn write(p: &Puppet, file: i64, text: &str) -> Done {
    let mut data = vector(DATA + 8, text.len());
    data.extend(text.as_bytes());
    p.act("fd_write", &[file, DATA, 1, REFERENCE], &data)
}

fn read(p: &Puppet, file: i64, room: usize) -> String {
    let done = p.act(
        "fd_read",
        &[file, DATA, 1, REFERENCE],
        &vector(BUFFER, room),
    );
    let length = done.clone().ok().reference as u32 as usize;
    String::from_utf8(done.buffer()[..length].to_vec()).unwrap()
}

/// How many of this process's open files lie there.
fn open_files(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder))
        .count()
}

#[test]
fn a_process_can_only_do_what_it_is_granted() {
    let node = node();
    deploy(&node, "puppet", &puppet::with_wasi(1));
    let a = Puppet::new(&node);
    assert_eq!(a.act("fd_prestat_get", &[3, BUFFER], b"").result, BADF);
    assert_eq!(open_in(&a, 3, "x", CREATE, WRITE).result, BADF);
    let sizes = a.act("environ_sizes_get", &[REFERENCE, REFERENCE + 4], b"");
    assert_eq!(sizes.ok().reference as u32, 0);
    let sizes = a
        .act("args_sizes_get", &[REFERENCE, REFERENCE + 4], b"")
        .ok();
    assert_eq!(sizes.reference, 1 | 7 << 32);
    assert_eq!(
        &a.act("args_get", &[HEADER, BUFFER], b"").ok().buffer()[..7],
        b"puppet\0"
    );
    // The clock is the host call's too.
    let now = a.act("clock_time_get", &[0, 1, REFERENCE], b"").ok();
    assert!(now.reference > 1_700_000_000_000_000_000);
    node.halt();
}

#[test]
fn files_are_read_and_written_in_granted_folders() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("in/a"), "text").unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", dir.path().join("in/link")).unwrap();
    let node = world(2, &[dir.path()]);
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    // Granted more than the node's limits give, by the narrower folder.
    let inner = |at: &str, write| Folder {
        below: vec![at.into()],
        ..folder(&format!("/{at}"), dir.path(), write)
    };
    let a = puppet(&node, granted(vec![inner("in", false), inner("out", true)]));
    let name = a.act("fd_prestat_dir_name", &[3, BUFFER, 3], b"").ok();
    assert_eq!(&name.buffer()[..3], b"/in");
    let file = open(&a, "a", 0, READ);
    assert_eq!(read(&a, file, 100), "text");
    assert_eq!(write(&a, file, "x").result, BADF);
    a.act("fd_close", &[file], b"").ok();
    assert_eq!(a.act("fd_close", &[file], b"").result, BADF);
    // Neither out of the folder nor against its access.
    for path in ["../secret", "link", "/etc/passwd"] {
        assert_eq!(open_in(&a, 3, path, 0, READ).result, PERM, "{path}");
    }
    assert_eq!(open_in(&a, 3, "none", 0, READ).result, NOENT);
    for refused in [
        open_in(&a, 3, "new", CREATE, WRITE).result,
        open_in(&a, 3, "a", 0, WRITE).result,
        a.act("path_create_directory", &[3, DATA, 1], b"d").result,
    ] {
        assert!([PERM, NOTCAPABLE, 69].contains(&refused), "{refused}");
    }
    let done = open_in(&a, 4, "new", CREATE, WRITE).ok();
    write(&a, done.reference as u32 as i64, "written").ok();
    assert_eq!(
        std::fs::read_to_string(output.join("new")).unwrap(),
        "written"
    );
    assert_eq!(std::fs::read_dir(&input).unwrap().count(), 2);
    node.halt();
}

/// One scheduler: if it waited for the file, nobody else would be served.
#[test]
fn a_pipe_is_not_opened_and_blocks_no_thread() {
    let dir = TempDir::new().unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(dir.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink("pipe", dir.path().join("link")).unwrap();
    let node = world(1, &[dir.path()]);
    let p = puppet(&node, granted(vec![folder("/", dir.path(), true)]));
    for rights in [READ, WRITE] {
        for name in ["pipe", "link"] {
            assert_eq!(open_in(&p, 3, name, 0, rights).result, NOTSUP, "{name}");
        }
    }
    open(&p, "new", CREATE, WRITE);
    open(&p, "new", 0, READ);
    node.halt();
}

#[test]
fn a_child_that_opens_a_pipe_initially_lets_its_node_start() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("data/pipe");
    std::fs::create_dir(pipe.parent().unwrap()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    let import = "(module (import \"wasi_snapshot_preview1\" \"path_open\" (func $open \
        (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))";
    let opens = "(i64.store (i32.const 16) (i64.extend_i32_u (call $open (i32.const 3) (i32.const 1) \
        (i32.const 2048) (i32.const 4) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 2056)))) \
        (loop $next";
    let code = counter("", "(call $count)", "(data (i32.const 2048) \"pipe\")")
        .replacen("(module", import, 1)
        .replacen("(loop $next", opens, 1);
    std::fs::write(folder.path().join("it.wat"), code).unwrap();
    let text = "[app]\nname = \"opens\"\n[modules.it]\npath = \"it.wat\"\n[modules.it.wasi.dirs]\n\"/\" = \"data\"\n\
        [[supervisor.children]]\nid = \"it\"\nname = \"it\"\nmodule = \"it\"\n";
    let manifest = Manifest::parse(text, "exuvia.toml", folder.path()).unwrap();
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap();
    let it = app.node().find("it").unwrap();
    assert_eq!(ask(app.node(), it), NOTSUP as u64);
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

#[test]
fn open_files_survive_a_swap_and_end_with_their_process() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "one two").unwrap();
    let node = world(2, &[dir.path()]);
    let a = puppet(&node, granted(vec![folder("/", dir.path(), false)]));
    let files = [open(&a, "a", 0, READ), open(&a, "a", 0, READ)];
    assert_eq!(read(&a, files[0], 4), "one ");
    deploy(&node, "puppet", &puppet::with_wasi(2));
    assert_eq!(a.act("version", &[], b"").result, 2);
    assert_eq!(read(&a, files[0], 10), "two");
    assert_eq!(read(&a, files[1], 10), "one two");
    assert!(open_files(dir.path()) >= 3);
    a.kill();
    eventually("they are closed", || open_files(dir.path()) == 0);
    node.halt();
}

/// A version whose processes come from others by `save` and `load` of a word.
fn migrated(version: u32) -> String {
    puppet::with_wasi(version)
        .replace("\"puppet\")", &format!("\"puppet {version}\")"))
        .replace(
            "(func $trap_here",
            "(func (export \"save\") (result i32) (call $state_put (i32.const 16) (i32.const 4)))
  (func (export \"load\") (param i32 i32) (result i32)
    (drop (call $state_get (i32.const 16) (i32.const 4))) (i32.const 0))
  (func $trap_here",
        )
}

/// Where new code has a new memory, files of the old one stay open as long as that may come back.
#[test]
fn files_of_discarded_state_are_closed() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "one two").unwrap();
    let node = world(2, &[dir.path()]);
    deploy(&node, "puppet", &migrated(10));
    let a = puppet(&node, granted(vec![folder("/", dir.path(), false)]));
    let files = [open(&a, "a", 0, READ), open(&a, "a", 0, READ)];
    assert_eq!(read(&a, files[0], 4), "one ");
    assert_eq!(open_files(dir.path()), 3);
    deploy(&node, "puppet", &migrated(11));
    eventually("it is upgraded", || a.version_is("puppet@3"));
    // Nothing has happened: as if it had stayed.
    node.rollback().unwrap();
    eventually("it is back", || a.version_is("puppet@2"));
    assert_eq!(read(&a, files[0], 4), "two");
    deploy(&node, "puppet", &migrated(12));
    assert_eq!(a.act("version", &[], b"").result, 12);
    assert_eq!(open_files(dir.path()), 0);
    assert_eq!(open(&a, "a", 0, READ), files[0]);
    assert_eq!(read(&a, files[0], 9), "one two");
    assert_eq!(open_files(dir.path()), 2);
    for version in 13..20 {
        deploy(&node, "puppet", &migrated(version));
        open(&a, "a", 0, READ);
    }
    assert_eq!(open_files(dir.path()), 2);
    node.halt();
}

/// New code opens a file and is taken back: old code goes on without it.
#[test]
fn files_of_aborted_handlers_are_closed() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    let node = world(2, &[dir.path()]);
    deploy(&node, "puppet", &migrated(10));
    let a = puppet(&node, granted(vec![folder("/", dir.path(), false)]));
    assert_eq!(a.act("version", &[], b"").result, 10);
    let opens = migrated(11).replace(
        "(func $do (result i64)",
        r#"(func $do (result i64)
    (i32.store8 (i32.const 32) (i32.const 97))
    (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 0) (i64.const 6) (i64.const 6) (i32.const 0) (i32.const 40)))
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 40)))"#,
    );
    deploy(&node, "puppet", &opens);
    assert_eq!(a.act("version", &[], b"").result, 11);
    assert_eq!(open_files(dir.path()), 2);
    node.rollback().unwrap();
    eventually("it is back", || a.version_is("puppet@2"));
    assert_eq!(a.act("version", &[], b"").result, 10);
    assert_eq!(open_files(dir.path()), 0);
    node.halt();
}

#[test]
fn the_open_files_of_a_process_are_limited() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    let node = world(2, &[dir.path()]);
    let limits = Limits {
        files: 3,
        ..granted(vec![folder("/", dir.path(), false)])
    };
    let a = puppet(&node, limits);
    let files = [(); 3].map(|()| open(&a, "a", 0, READ));
    for _ in 0..2 {
        assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    }
    // What is not there is not open.
    a.act("fd_close", &[files[1]], b"").ok();
    assert_eq!(open_in(&a, 3, "b", 0, READ).result, NOENT);
    open(&a, "a", 0, READ);
    assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    // Nor does it help to give files other numbers, or to close what was not opened.
    a.act("fd_renumber", &[files[2], files[2]], b"").ok();
    assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    a.act("fd_close", &[2], b"").ok();
    assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    a.act("fd_renumber", &[files[0], 1], b"").ok();
    assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    assert_eq!(read(&a, 1, 9), "text");
    // One over another is one less.
    a.act("fd_renumber", &[files[2], 1], b"").ok();
    open(&a, "a", 0, READ);
    assert_eq!(open_in(&a, 3, "a", 0, READ).result, MFILE);
    node.halt();
}

/// Nested as deep as it likes: it is read on the guest's stack.
#[test]
fn nested_grants_are_rejected() {
    let node = world(2, &[]);
    let a = Puppet::new(&node);
    for head in [
        &b"\x81\xa4dirs\x81\xa2/x"[..],
        b"\x81\xa4args",
        b"\x81\xa3env\x81\xa1a",
    ] {
        for depth in [1, 40, 850] {
            let mut grants = head.to_vec();
            grants.extend(std::iter::repeat_n(0x91, depth));
            grants.push(1);
            spawn_bytes(&a, &grants).is(Code::BadArgument);
        }
    }
    // A supervisor's specification as well.
    let mut specification =
        b"\x81\xa8children\x91\x83\xa2id\xa1a\xa6module\xa6puppet\xa4args".to_vec();
    specification.extend(std::iter::repeat_n(0x91, 850));
    specification.push(1);
    let length = specification.len() as i64;
    a.act("supervisor_start", &[DATA, length, PID], &specification)
        .is(Code::BadArgument);
    let many: serde_json::Map<_, _> = (0..257).map(|n| (n.to_string(), "/".into())).collect();
    spawn_with(&a, &serde_json::json!({ "dirs": many })).is(Code::Limit);
    for bad in [
        serde_json::json!({ "env": { "a=b": "c" } }),
        serde_json::json!({ "env": { "a": "\u{0}" } }),
        serde_json::json!({ "dirs": { "": "/" } }),
    ] {
        spawn_with(&a, &bad).is(Code::Limit);
    }
    spawn_with(&a, &serde_json::json!({ "dirs": { "/x": ["/", "write"] } })).is(Code::BadArgument);
    spawn_bytes(&a, b"\x80\x7a").is(Code::BadArgument);
    node.halt();
}

/// What a call copies or says is paid for: others have their turns.
#[test]
fn large_calls_are_charged() {
    let node = world(1, &[]);
    // Not of the terminal: what it prints is logged.
    let a = puppet(&node, granted(Vec::new()));
    let paid = |name: &str, arguments: &[i64], data: &[u8]| {
        let info = || a.act("info", &[abi::info::REDUCTIONS.into()], b"").result;
        let before = info();
        let result = a.act(name, arguments, data).result;
        (result, info() - before)
    };
    let random = |length: i64| paid("random_get", &[BUFFER, length], b"");
    let small = random(8).1;
    assert_eq!(random(2 << 20).0, INVAL);
    let (result, large) = random(56 << 10);
    assert_eq!(result, 0);
    assert!(large > small + 800, "{large} and {small}");
    let (result, lines) = paid(
        "fd_write",
        &[1, DATA, 1, REFERENCE],
        &[vector(DATA + 8, 900), vec![b'\n'; 900]].concat(),
    );
    assert_eq!(result, 0);
    assert!(lines > small + 7_000, "{lines}");
    assert_eq!(
        paid("poll_oneoff", &[DATA, BUFFER, 1_025, REFERENCE], b"").0,
        INVAL
    );
    assert_eq!(paid("fd_write", &[1, DATA, 1_025, REFERENCE], b"").0, INVAL);
    let long = "x".repeat(4_097);
    assert_eq!(open_in(&a, 3, &long, 0, READ).result, NAMETOOLONG);
    let link = paid("path_symlink", &[DATA, 8 << 20, 3, DATA, 1], b"x").0;
    assert_eq!(link, NAMETOOLONG);
    node.halt();
}

/// Bytes of the options with grants.
const OPTIONS: u32 = 64;

/// Spawns a child that is granted this.
fn spawn_with(p: &Puppet, grants: &serde_json::Value) -> Done {
    spawn_bytes(p, &rmp_serde::to_vec(grants).unwrap())
}

fn spawn_bytes(p: &Puppet, grants: &[u8]) -> Done {
    let mut data = OPTIONS.to_le_bytes().to_vec();
    data.resize(56, 0);
    let at = DATA as u32 + OPTIONS;
    data.extend(at.to_le_bytes());
    data.extend((grants.len() as u32).to_le_bytes());
    data.extend(grants);
    p.act("spawn", &[0, 0, 0, 0, DATA, PID, REFERENCE], &data)
}

#[test]
fn a_child_gets_at_most_the_grants_of_its_parent() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir_all(dir.path().join("out/deep")).unwrap();
    std::fs::write(dir.path().join("out/deep/a"), "deep").unwrap();
    std::fs::write(dir.path().join("outside"), "x").unwrap();
    let node = world(2, &[dir.path()]);
    let out = Folder {
        below: vec!["out".into()],
        ..folder("/out", dir.path(), true)
    };
    let a = puppet(&node, granted(vec![out]));
    let child = |done: Done| Puppet::of(&node, done.ok().pid);

    let all = child(a.act("spawn", &[0, 0, 0, 0, 0, PID, REFERENCE], b""));
    assert_eq!(read(&all, open(&all, "deep/a", 0, READ), 9), "deep");

    let less = child(spawn_with(
        &a,
        &serde_json::json!({ "dirs": { "/d": "/out/deep" }, "env": { "A": "b" }, "args": ["x"] }),
    ));
    assert_eq!(read(&less, open(&less, "a", 0, READ), 9), "deep");
    assert_ne!(open_in(&less, 3, "new", CREATE, WRITE).result, 0);
    assert_ne!(open_in(&less, 3, "../../outside", 0, READ).result, 0);
    let env = less.act("environ_get", &[HEADER, BUFFER], b"").ok();
    assert_eq!(&env.buffer()[..4], b"A=b\0");

    let none = child(spawn_with(&less, &serde_json::json!({})));
    assert_eq!(open_in(&none, 3, "a", 0, READ).result, BADF);

    for (parent, wanted, refused) in [
        (
            &a,
            serde_json::json!({ "dirs": { "/x": "/" } }),
            Code::Limit,
        ),
        (
            &a,
            serde_json::json!({ "dirs": { "/x": "/out/../x" } }),
            Code::Limit,
        ),
        (&a, serde_json::json!({ "stdio": "terminal" }), Code::Limit),
        (
            &less,
            serde_json::json!({ "dirs": { "/x": { "path": "/d", "access": "write" } } }),
            Code::Limit,
        ),
        (&a, serde_json::json!({ "dir": {} }), Code::BadArgument),
        (&a, serde_json::json!([1]), Code::BadArgument),
    ] {
        spawn_with(parent, &wanted).is(refused);
    }

    // A link that the parent has made does not lead its child out of its folder.
    let link = b"../..deep/l";
    let made = a.act("path_symlink", &[DATA, 5, 3, DATA + 5, 6], link);
    assert_eq!(made.result, 0, "{made:?}");
    let lost = child(spawn_with(
        &a,
        &serde_json::json!({ "dirs": { "/x": "/out/deep/l" } }),
    ));
    let mut events = node.events();
    let _ = lost.try_do("fd_prestat_get", &[3, BUFFER], b"");
    let (reason, detail) = exit_of(&mut events, lost.pid);
    assert!(reason.contains("limit"), "{reason}");
    assert!(
        detail.contains("/x") && detail.contains("cannot be opened"),
        "{detail}"
    );
    node.halt();
}

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

#[test]
fn a_sleep_in_wasi_delays_no_other_process() {
    let node = world(1, &[]);
    let (a, b) = (Puppet::new(&node), Puppet::new(&node));
    // A subscription to the monotonic clock, in 300 ms and in an hour.
    let sleep = |p: &Puppet, nanoseconds: u64| {
        let mut subscription = vec![0; 16];
        subscription.extend(1u32.to_le_bytes());
        subscription.extend([0; 4]);
        subscription.extend(nanoseconds.to_le_bytes());
        subscription.extend([0; 16]);
        let p = p.clone();
        std::thread::spawn(move || {
            p.try_do("poll_oneoff", &[DATA, BUFFER, 1, REFERENCE], &subscription)
        })
    };
    let long = sleep(&b, 3_600_000_000_000);
    let short = sleep(&a, 300_000_000);
    eventually("both wait", || a.state() == "wasi" && b.state() == "wasi");
    Puppet::new(&node).act("version", &[], b"");
    // It can be looked at meanwhile, and messages that come stay.
    node.send(a.pid, 7, b"later".to_vec()).unwrap();
    node.inspect(b.pid).unwrap();
    assert_eq!(short.join().unwrap().unwrap().ok().reference as u32, 1);
    assert_eq!(a.wait().tag, 7);
    assert_eq!(b.state(), "wasi");
    node.kill(b.pid);
    assert!(long.join().unwrap().is_err());
    node.halt();
}

/// Many at once, more than there are frames: all are served.
#[test]
fn many_processes_read_at_once() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    let node = node_with(|config| {
        config.frames = 8;
        config.limits = granted(vec![folder("/", dir.path(), false)]);
    });
    deploy(&node, "puppet", &puppet::with_wasi(1));
    let puppets: Vec<Puppet> = (0..40).map(|_| Puppet::new(&node)).collect();
    std::thread::scope(|scope| {
        for p in &puppets {
            scope.spawn(move || {
                for _ in 0..5 {
                    let file = open(p, "a", 0, READ);
                    assert_eq!(read(p, file, 9), "text");
                    p.act("fd_close", &[file], b"").ok();
                }
            });
        }
    });
    let halted = std::time::Instant::now();
    node.halt();
    assert!(halted.elapsed() < Duration::from_secs(20));
    drop(puppets);
    eventually("all is closed", || open_files(dir.path()) == 0);
}
