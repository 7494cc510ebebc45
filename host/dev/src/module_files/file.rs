//! One module file: whether it has new content, and whether it can be taken as it is.
//!
//! The content counts. A file that changes while it is read is read again after the next event or
//! scan, and so is one that is cut off, or lacks kinds of sections that its predecessor had. A problem
//! that persists over periodic scans is reported once.

use std::path::{Path, PathBuf};

use exuvia_manifest::{MAX_MODULE_BYTES, files, usable};

use super::completeness::{Sections, is_cut_off, is_text, is_wasm};
use crate::stamp::{Stamp, stamp};

/// How many periodic scans a file that seems to be cut off may take to be completed. A slow writer
/// pauses for less.
const UNFINISHED: u32 = 2;

/// What is known of a file when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// An event in its folder. `closed`: its writer has closed it, or it was renamed into place.
    Event { closed: bool },
    /// The periodic scan is due, so it may be being written right now.
    Periodic,
    /// The command that makes it has ended, so it is complete.
    Built,
}

/// The result of reading a file.
#[derive(Debug)]
pub(super) enum Reading {
    /// It has no new content, or cannot be taken yet.
    Nothing,
    /// It has new content.
    New(Vec<u8>),
    /// It cannot be used, which is to be reported: what is wrong with it, as the end of a sentence.
    Unusable(String),
}

/// A module file, and what was last read of it.
#[derive(Debug)]
pub(super) struct ModuleFile {
    path: PathBuf,
    /// What was last read.
    seen: Option<FileState>,
    /// The kinds of sections of the running code, if that was read from a file.
    sections: Option<Sections>,
    /// What keeps it from being read, and the number of periodic scans for which that has been the
    /// same.
    problem: Option<(Problem, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// It cannot be read.
    Unusable(String),
    /// It differs from what was read and no event has reported that, or it is incomplete.
    Unsettled(Stamp),
}

#[derive(Debug)]
struct FileState {
    stamp: Stamp,
    hash: blake3::Hash,
}

impl ModuleFile {
    /// Starts from the state at the boot: the running code, which has this digest, is what was read
    /// then.
    pub(super) fn at_boot(path: PathBuf, running: Option<[u8; 32]>) -> ModuleFile {
        let mut file = ModuleFile::unread(path);
        if let (Some(stamp), Some(digest)) = (stamp(&file.path), running) {
            let hash = blake3::Hash::from_bytes(digest);
            // The stamp is only trusted if the content is that of the running code.
            let bytes = files::read(&file.path, MAX_MODULE_BYTES).unwrap_or_default();
            if blake3::hash(&bytes) == hash {
                file.seen = Some(FileState { stamp, hash });
                file.sections = Some(Sections::of(&bytes));
            }
        }
        file
    }

    /// Returns a file of which nothing was read.
    pub(super) fn unread(path: PathBuf) -> ModuleFile {
        ModuleFile {
            path,
            seen: None,
            sections: None,
            problem: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the path. What was read at the former one does not count any more.
    pub(super) fn move_to(&mut self, path: PathBuf) {
        let sections = self.sections.take();
        *self = ModuleFile {
            sections,
            ..ModuleFile::unread(path)
        };
    }

    /// Forgets what was read, so that the file counts as new whatever it contains.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// Returns the digest of what was last read.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        self.seen.as_ref().map(|seen| *seen.hash.as_bytes())
    }

    /// Notes that the running code was read from it.
    pub(super) fn is_running(&mut self, bytes: &[u8]) {
        self.sections = Some(Sections::of(bytes));
    }

    /// Reads it if it may have changed and seems to be complete.
    pub(super) fn read(&mut self, occasion: Occasion) -> Reading {
        let built = occasion == Occasion::Built;
        if let Err(why) = usable(&self.path) {
            let scans = self.persists(Problem::Unusable(why.clone()), occasion);
            return match built || scans == Some(1) {
                true => Reading::Unusable(why),
                false => Reading::Nothing,
            };
        }
        let Some(before) = stamp(&self.path) else {
            return Reading::Nothing;
        };
        if self.seen.as_ref().is_some_and(|seen| seen.stamp == before) {
            self.problem = None;
            return Reading::Nothing;
        }
        let scans = self.persists(Problem::Unsettled(before.clone()), occasion);
        if scans == Some(0) {
            // No event reported it, so it may be being written right now.
            return Reading::Nothing;
        }
        let Ok(bytes) = files::read(&self.path, MAX_MODULE_BYTES) else {
            return Reading::Nothing;
        };
        if stamp(&self.path).as_ref() != Some(&before) {
            // Half-written: the writer's next event triggers another scan.
            return Reading::Nothing;
        }
        if bytes.is_empty() {
            return match built || scans == Some(UNFINISHED) {
                true => Reading::Unusable("is empty".to_owned()),
                false => Reading::Nothing,
            };
        }
        if !built && self.is_incomplete(&bytes, occasion) && scans.is_none_or(|it| it < UNFINISHED)
        {
            return Reading::Nothing;
        }
        self.problem = None;
        let hash = blake3::hash(&bytes);
        let known = self.seen.as_ref().is_some_and(|seen| seen.hash == hash);
        self.seen = Some(FileState {
            stamp: before,
            hash,
        });
        match known {
            true => Reading::Nothing,
            false => Reading::New(bytes),
        }
    }

    fn is_incomplete(&self, bytes: &[u8], occasion: Occasion) -> bool {
        // An error in a text file that its writer has closed is reported at once.
        let is_finished_text = occasion == Occasion::Event { closed: true } && is_text(bytes);
        let has_less = (self.sections.as_ref())
            .is_some_and(|before| is_wasm(bytes) && !before.are_in(&Sections::of(bytes)));
        (is_cut_off(bytes) && !is_finished_text) || has_less
    }

    /// Notes a problem, and returns for how many periodic scans it has been the same; `None` if
    /// this is not a periodic scan.
    fn persists(&mut self, now: Problem, occasion: Occasion) -> Option<u32> {
        let periodic = occasion == Occasion::Periodic;
        match &mut self.problem {
            Some((before, scans)) if *before == now => {
                *scans = scans.saturating_add(u32::from(periodic));
                periodic.then_some(*scans)
            }
            problem => {
                *problem = Some((now, 0));
                periodic.then_some(0)
            }
        }
    }
}
