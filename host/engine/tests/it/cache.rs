//! The compile cache: a module that was compiled once is not compiled again,
//! and nothing that is wrong with the folder stops a load.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use exuvia_engine::EngineConfig;

use crate::world::{Setup, World, answering, engine};

fn world(folder: &Path) -> World {
    World::new(Setup {
        engine: EngineConfig {
            cache: Some(folder.to_owned()),
            ..engine()
        },
        ..Setup::default()
    })
}

/// Loads a module of this number and asks it.
fn works(folder: &Path, number: u64) {
    let world = world(folder);
    world.deploy("m", &answering("", &format!("(i64.const {number})"), ""));
    assert_eq!(world.ask(world.spawn("m"), 0, &[]).number(), number);
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn only(folder: &Path) -> PathBuf {
    let files = entries(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_second_load_uses_the_file_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), 1);
    let file = only(folder.path());
    let first = fs::metadata(&file).unwrap();
    assert_eq!(first.permissions().mode() & 0o077, 0);
    // The inode: a file that was written anew would have another.
    let old = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(&file).unwrap().set_modified(old).unwrap();
    works(folder.path(), 1);
    let second = fs::metadata(only(folder.path())).unwrap();
    assert_eq!(first.ino(), second.ino());
    assert_ne!(second.modified().unwrap(), old, "its use was not noted");
    works(folder.path(), 2);
    assert_eq!(entries(folder.path()).len(), 2);
}

#[test]
fn the_cache_creates_its_folder_for_its_user_only() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/b");
    works(&folder, 1);
    only(&folder);
    let mode = fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn damaged_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), 3);
    let file = only(folder.path());
    let good = fs::read(&file).unwrap();
    let mut damages: Vec<Vec<u8>> = vec![Vec::new(), b"nothing of the kind".to_vec()];
    for part in 0..16 {
        damages.push(good[..good.len() * part / 16].to_vec());
        let mut turned = good.clone();
        let at = good.len() * part / 16;
        for byte in &mut turned[at..(at + 64).min(good.len())] {
            *byte ^= 0x5a;
        }
        damages.push(turned);
        let mut lost = good.clone();
        lost[at..].fill(0);
        damages.push(lost);
    }
    for damage in damages {
        fs::write(&file, &damage).unwrap();
        works(folder.path(), 3);
        assert!(fs::read(only(folder.path())).unwrap() == good);
    }
}

#[test]
fn a_file_that_others_can_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), 4);
    let file = only(folder.path());
    let before = fs::metadata(&file).unwrap().ino();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    works(folder.path(), 4);
    let now = fs::metadata(&file).unwrap();
    assert_ne!(now.ino(), before);
    assert_eq!(now.permissions().mode() & 0o022, 0);
}

#[test]
fn a_folder_that_others_can_write_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        works(folder.path(), 5);
        assert!(entries(folder.path()).is_empty());
    }
}

#[test]
fn a_path_that_is_not_a_folder_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    works(&file, 6);
    works(&file.join("below"), 6);
    works(Path::new("/proc/nothing/here"), 6);
}

/// The file that is written first leads to a device that is always full.
#[test]
fn a_full_disk_loses_only_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    works(folder.path(), 7);
    let file = only(folder.path());
    fs::remove_file(&file).unwrap();
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    symlink("/dev/full", &partial).unwrap();
    works(folder.path(), 7);
    assert!(entries(folder.path()).is_empty());
    works(folder.path(), 7);
    assert_eq!(only(folder.path()), file);
}

/// Two scripts for one interpreter are compiled once: what differs is data, and what the module says of itself.
#[test]
fn modules_that_differ_in_data_only_share_an_entry() {
    // Nothing, a start function, and a module whose frames serve one process each.
    for more in [
        "",
        r#"(start $start) (func $start (i32.store8 (i32.const 8193) (i32.load8_u (i32.const 8192))))"#,
        r#"(table 1 funcref) (func (export "grows") (drop (table.grow (ref.null func) (i32.const 1))))
           (func (export "_initialize") (i32.store8 (i32.const 8193) (i32.load8_u (i32.const 8192))))"#,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let copied = if more.is_empty() { 0 } else { 256 };
        for number in [1, 2, 3] {
            let world = world(folder.path());
            let data = format!(
                r#"(data (i32.const 8192) "\{number:02x}") (data (i32.const 70000) "\{number:02x}") (@custom "exuvia.protocol" "{number}") {more}"#
            );
            let handle = "(i64.add (i64.load16_u (i32.const 8192)) (i64.mul (i64.const 65536) (i64.load8_u (i32.const 70000))))";
            world.deploy("m", &answering("", handle, &data));
            let pids: Vec<_> = (0..3).map(|_| world.spawn("m")).collect();
            for pid in pids {
                let answer = world.ask(pid, 0, &[]).number();
                assert_eq!(answer, number * (1 + copied + 65_536), "{more}");
            }
            only(folder.path());
        }
    }
}
