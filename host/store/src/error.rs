//! What can go wrong with a store. Each error names the file.

use std::path::PathBuf;

use exuvia_code::Digest;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or the file cannot be made or opened.
    #[error("the release store {} cannot be opened: {why}", path.display())]
    Open {
        /// The file of the store.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// Another program has it open.
    #[error("the release store {} is in use by another node", .0.display())]
    InUse(PathBuf),
    /// It is a file of something else.
    #[error("{} is not a release store", .0.display())]
    Foreign(PathBuf),
    /// The file was removed or replaced while it was open.
    #[error("the release store {} was removed or replaced while the node runs", .0.display())]
    Gone(PathBuf),
    /// It is that of another app.
    #[error("the release store {} is that of the app `{app}`", path.display())]
    OtherApp {
        /// The file of the store.
        path: PathBuf,
        /// The app.
        app: String,
    },
    /// A later Exuvia has made it.
    #[error("the release store {} has format {found}, and this Exuvia knows format {known}", path.display())]
    Newer {
        /// The file of the store.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The latest format that is known here.
        known: u32,
    },
    /// What is in it is not what was written.
    #[error("the release store {} is damaged: {what}", path.display())]
    Damaged {
        /// The file of the store.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It could not be read.
    #[error("the release store {} cannot be read: {why}", path.display())]
    Read {
        /// The file of the store.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// It could not be written: what was to be written is not in it.
    #[error("the release store {} cannot be written: {why}", path.display())]
    Write {
        /// The file of the store.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// There is no such release.
    #[error("there is no release {0} in the store")]
    NoRelease(u64),
    /// There is no such module.
    #[error("module {0:?} is not in the store")]
    NoModule(Digest),
    /// So many releases are pinned already.
    #[error("{0} releases are pinned, which is the limit: unpin one")]
    TooManyPins(usize),
}
