//! How many files, and how much in one call.

use exuvia_node::process::resource::Holding;
use exuvia_node::{Limits, abi};
use tempfile::TempDir;

use super::{
    INVAL, MFILE, NAMETOOLONG, NOENT, READ, folder, granted, open, open_in, puppet, read, sleep,
    vector, world,
};
use crate::guests::eventually;
use crate::puppet::{BUFFER, DATA, REFERENCE};

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

/// Those that it has while it waits in a function of WASI too.
#[test]
fn an_inspection_shows_how_many_files_are_open() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    let node = world(2, &[dir.path()]);
    let a = puppet(&node, granted(vec![folder("/", dir.path(), false)]));
    let holdings = || node.inspect(a.pid).unwrap().0.holdings;
    assert!(holdings().is_empty());
    let files = [(); 2].map(|()| open(&a, "a", 0, READ));
    let count = |count| {
        vec![Holding {
            kind: "open files",
            count,
        }]
    };
    assert_eq!(holdings(), count(2));
    a.act("fd_close", &[files[0]], b"").ok();
    let asleep = sleep(&a, 3_600_000_000_000);
    eventually("it waits", || a.state() == "wasi");
    assert_eq!(holdings(), count(1));
    a.kill();
    assert!(asleep.join().unwrap().is_err());
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
