//! Pipes in granted folders: opening one could wait for ever.

use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::App;
use tempfile::TempDir;

use super::{CREATE, NOTSUP, READ, WRITE, folder, granted, open, open_in, puppet, world};
use crate::guests::{ask, boot_options, counter, with_layout};

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
    let manifest = with_layout(Manifest::parse(text, "exuvia.toml", folder.path()).unwrap());
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap();
    let it = app.node().find("it").unwrap();
    assert_eq!(ask(app.node(), it), NOTSUP as u64);
    assert!(app.stop(Duration::from_secs(10)).orderly);
}
