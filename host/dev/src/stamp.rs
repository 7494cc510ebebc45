//! Detects cheaply whether a file may have changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The metadata of a file. The time is that of the last change of the inode (ctime), which cannot
/// be set: a saved file has another one even if its modification time was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) length: u64,
    changed: (i64, i64),
}

pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then(|| Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}
