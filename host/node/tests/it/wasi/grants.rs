//! What a process is granted, what its children get of it, and no more.

use exuvia_node::abi::Code;
use exuvia_node::process::Folder;
use tempfile::TempDir;

use super::{
    BADF, CREATE, NOENT, NOTCAPABLE, PERM, READ, WRITE, folder, granted, open, open_in, puppet,
    read, world, write,
};
use crate::guests::{deploy, exit_of, node};
use crate::puppet::{BUFFER, DATA, Done, HEADER, PID, Puppet, REFERENCE};

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
