//! WASI: what a process is granted, and no more; blocking files delay no other process.

mod grants;
mod limits;
mod output;
mod pipes;
mod swaps;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use exuvia_node::process::{Folder, Grants};
use exuvia_node::{CallFailed, Limits, Node, SpawnOptions};

use crate::guests::{deploy, node_with};
use crate::puppet::{self, BUFFER, DATA, Done, Puppet, REFERENCE};

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

/// Has it wait in `poll_oneoff` for the monotonic clock, for so many nanoseconds.
fn sleep(p: &Puppet, nanoseconds: u64) -> JoinHandle<Result<Done, CallFailed>> {
    let mut subscription = vec![0; 16];
    subscription.extend(1u32.to_le_bytes());
    subscription.extend([0; 4]);
    subscription.extend(nanoseconds.to_le_bytes());
    subscription.extend([0; 16]);
    let p = p.clone();
    std::thread::spawn(move || {
        p.try_do("poll_oneoff", &[DATA, BUFFER, 1, REFERENCE], &subscription)
    })
}

/// How many of this process's open files lie there.
fn open_files(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder))
        .count()
}
