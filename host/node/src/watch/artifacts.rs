//! The module files: what has changed is swapped in.
//!
//! What counts is the content: files whose hash is new go into one swap. A file
//! that changed while it was read is read again after the next pause.
//!
//! Nor does an event tell everything: the target of a link may change, a file may
//! become unreadable, a writer may stop in the middle. So once a second of silence
//! the files are looked at as well, and what has been odd for so long is told.
//!
//! What was refused together with a broken file is not forgotten: it goes into
//! the next swap. The broken file itself comes again when it has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::stamp::{Stamp, stamp};
use crate::error::SwapError;
use crate::event::Event;
use crate::manifest;
use crate::node::Node;
use crate::swap::{DeployOptions, Made, ModuleBytes};

/// How many looks a cut-off file gets to be written to its end. A slow writer
/// pauses for less.
const UNFINISHED: u32 = 2;

/// Why the files are looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// Something happened in their folders.
    Event,
    /// It was time.
    Look,
    /// A build has ended, so that they are complete.
    Built(Made),
}

/// What a look at the files has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// No file is new.
    Nothing,
    /// Files are new, and have the code that runs already. With `true`: those
    /// before could not be used, or were refused.
    Same(bool),
    /// New code is current.
    Swapped,
    /// A file cannot be used, or the swap was refused. It has been told.
    Refused,
}

/// The files, and what was last read of them.
#[derive(Debug)]
pub(super) struct Artifacts {
    node: Node,
    files: BTreeMap<String, PathBuf>,
    /// What was last read of each module.
    seen: HashMap<String, Seen>,
    /// What is waited for: since how many looks a file has been like this.
    odd: HashMap<String, (Odd, u32)>,
    /// What was refused through no fault that is known of its own.
    pending: BTreeMap<String, ModuleBytes>,
    /// What was new last could not be used, or was refused.
    refused: bool,
}

/// Why a file is not read at once.
#[derive(Debug, PartialEq, Eq)]
enum Odd {
    /// It cannot be read.
    Unusable(String),
    /// It is another one than was read, and no event has told so, or it is not
    /// complete.
    Unsettled(Stamp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    hash: blake3::Hash,
}

impl Artifacts {
    /// What runs now is what was read at the boot.
    pub(super) fn new(node: Node, files: BTreeMap<String, PathBuf>) -> Artifacts {
        let release = node.0.code.current();
        let mut seen = HashMap::new();
        for (name, path) in &files {
            if let (Some(stamp), Some(version)) = (stamp(path), release.version(name)) {
                let hash = blake3::Hash::from_bytes(version.digest.0);
                // The stamp is only trusted if the content is what runs.
                if std::fs::read(path).is_ok_and(|bytes| blake3::hash(&bytes) == hash) {
                    seen.insert(name.clone(), Seen { stamp, hash });
                }
            }
        }
        Artifacts {
            node,
            files,
            seen,
            odd: HashMap::new(),
            pending: BTreeMap::new(),
            refused: false,
        }
    }

    /// Other files are to be watched. What was seen of a file at another place
    /// does not count.
    pub(super) fn follow(&mut self, files: BTreeMap<String, PathBuf>) {
        let moved = |name: &String| self.files.get(name) != files.get(name);
        self.seen.retain(|name, _| !moved(name));
        self.odd.retain(|name, _| !moved(name));
        self.pending.retain(|name, _| !moved(name));
        self.files = files;
    }

    /// Whether what was read last of these modules is the code that runs.
    pub(super) fn run(&self, modules: &[String]) -> bool {
        let release = self.node.0.code.current();
        modules.iter().all(|name| {
            let seen = self.seen.get(name).map(|seen| *seen.hash.as_bytes());
            seen.is_some() && seen == release.version(name).map(|version| version.digest.0)
        })
    }

    /// Whether the release has all the modules.
    pub(super) fn are_loaded(&self) -> bool {
        let release = self.node.0.code.current();
        self.files
            .keys()
            .all(|name| release.version(name).is_some())
    }

    /// The files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.values().map(PathBuf::as_path)
    }

    /// Looks at all files, and swaps what is new. `noticed` is when the change
    /// was, by the node's clock.
    pub(super) fn look(&mut self, noticed: u64, cause: &Cause) -> Looked {
        let looked = self.swap(noticed, cause);
        match looked {
            Looked::Nothing => {}
            Looked::Refused => self.refused = true,
            Looked::Same(_) | Looked::Swapped => {
                let mended = std::mem::take(&mut self.refused);
                if looked == Looked::Same(false) {
                    return Looked::Same(mended);
                }
            }
        }
        looked
    }

    fn swap(&mut self, noticed: u64, cause: &Cause) -> Looked {
        let built = matches!(cause, Cause::Built(_));
        let mut refused = false;
        let mut changed = Vec::new();
        for (name, path) in &self.files {
            if let Err(why) = manifest::usable(path) {
                let waited = waited(&mut self.odd, name, Odd::Unusable(why.clone()), cause);
                if built || waited == Some(1) {
                    self.node.0.events.send(unreadable(name, path, why));
                    refused = true;
                }
                continue;
            }
            let Some(before) = stamp(path) else { continue };
            if self.seen.get(name).is_some_and(|seen| seen.stamp == before) {
                self.odd.remove(name);
                continue;
            }
            let looks = waited(&mut self.odd, name, Odd::Unsettled(before.clone()), cause);
            if *cause == Cause::Look && looks == Some(0) {
                // No event told of it, so it may be written to just now.
                continue;
            }
            let Ok(bytes) = std::fs::read(path) else {
                continue;
            };
            if stamp(path).as_ref() != Some(&before) {
                // Half-written: the writer's next event brings us back.
                continue;
            }
            if bytes.is_empty() {
                if built || looks == Some(UNFINISHED) {
                    let why = "is empty".to_owned();
                    self.node.0.events.send(unreadable(name, path, why));
                    refused = true;
                }
                continue;
            }
            if !built && is_cut_off(&bytes) && looks.is_none_or(|looks| looks < UNFINISHED) {
                continue;
            }
            self.odd.remove(name);
            let hash = blake3::hash(&bytes);
            let known = self
                .seen
                .insert(
                    name.clone(),
                    Seen {
                        stamp: before,
                        hash,
                    },
                )
                .is_some_and(|seen| seen.hash == hash);
            if !known {
                self.pending.remove(name);
                changed.push(ModuleBytes {
                    name: name.clone(),
                    bytes,
                    source: path.display().to_string(),
                    noticed: Some(noticed),
                });
            }
        }
        if changed.is_empty() {
            return if refused {
                Looked::Refused
            } else {
                Looked::Nothing
            };
        }
        changed.extend(std::mem::take(&mut self.pending).into_values());
        let options = DeployOptions {
            made: match cause {
                Cause::Built(made) => Some(made.clone()),
                Cause::Event | Cause::Look => None,
            },
            ..DeployOptions::default()
        };
        // A refusal is an event; the old code runs on.
        let names = || changed.iter().map(|module| module.name.clone()).collect();
        match self.node.deploy(changed.clone(), options) {
            Ok(_) if refused => Looked::Refused,
            Ok(report) if report.modules.is_empty() => {
                if self.refused && !built {
                    let modules = names();
                    self.node.0.events.send(Event::Mended { modules });
                }
                Looked::Same(false)
            }
            Ok(_) => Looked::Swapped,
            Err(error) => {
                for module in changed {
                    let broken = match &error {
                        SwapError::Load { file, .. } => *file == module.source,
                        SwapError::Verify(error) => error.module == module.name,
                        _ => false,
                    };
                    if !broken {
                        self.pending.insert(module.name.clone(), module);
                    }
                }
                Looked::Refused
            }
        }
    }
}

/// Notes that a file is odd, and answers for how many looks it has been just so;
/// `None` while only events have told of it.
fn waited(
    odd: &mut HashMap<String, (Odd, u32)>,
    name: &str,
    now: Odd,
    cause: &Cause,
) -> Option<u32> {
    let look = *cause == Cause::Look;
    match odd.get_mut(name) {
        Some((before, looks)) if *before == now => {
            *looks = looks.saturating_add(u32::from(look));
            look.then_some(*looks)
        }
        _ => {
            odd.insert(name.to_owned(), (now, 0));
            look.then_some(0)
        }
    }
}

fn unreadable(module: &str, file: &Path, reason: String) -> Event {
    Event::Unreadable {
        module: module.to_owned(),
        file: file.display().to_string(),
        reason,
    }
}

/// Whether a module ends before its last section does. Most such files are still
/// being written.
fn is_cut_off(bytes: &[u8]) -> bool {
    const MAGIC: &[u8] = b"\0asm";
    let Some(mut rest) = bytes.get(8..) else {
        return bytes.starts_with(MAGIC) || MAGIC.starts_with(bytes);
    };
    if !bytes.starts_with(MAGIC) {
        return false;
    }
    while let Some((_, after)) = rest.split_first() {
        let Some(end) = after.iter().take(5).position(|byte| byte & 0x80 == 0) else {
            // Cut in the middle of the size; five bytes of it are one too many.
            return after.len() < 5;
        };
        let size = after[..=end]
            .iter()
            .rev()
            .fold(0_u64, |size, byte| size << 7 | u64::from(byte & 0x7f));
        let body = &after[end + 1..];
        match usize::try_from(size).ok().and_then(|size| body.get(size..)) {
            Some(next) => rest = next,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_cut_off;

    #[test]
    fn a_module_is_whole_at_its_end_only() {
        let long = "x".repeat(300);
        let module = wat::parse_str(format!(
            "(module (memory 1) (data (i32.const 0) \"{long}\") (func (export \"run\")))"
        ))
        .unwrap();
        assert!(!is_cut_off(&module));
        // Where a section ends, nothing tells that another is to come.
        let whole: Vec<usize> = (0..=module.len())
            .filter(|&end| !is_cut_off(&module[..end]))
            .collect();
        assert!(whole.len() < 8 && whole.first() == Some(&8), "{whole:?}");
        assert!(!is_cut_off(b"no module at all"));
        assert!(!is_cut_off(b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\xff"));
    }
}
