//! What becomes of open files when new code comes, and when it is reverted.

use tempfile::TempDir;

use super::{READ, folder, granted, open, open_files, puppet, read, world};
use crate::guests::{deploy, eventually};

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
pub(super) fn migrated(version: u32) -> String {
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
