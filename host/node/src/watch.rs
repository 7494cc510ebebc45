//! Watches module files and swaps what changes.
//!
//! Folders are watched, not files, so that a file that is replaced by a rename
//! stays in view. What counts is the content: after 100 ms without an event
//! the files are read, and those whose hash is new go into one swap. A file
//! that changed while it was read is read again after the next pause. A folder
//! that does not exist is waited for at its nearest ancestor that does.
//!
//! Nor does an event tell everything: the target of a link may change, a file may
//! become unreadable, a writer may stop in the middle. So once a second of silence
//! the files are looked at as well, and what has been odd for so long is told.
//!
//! What was refused together with a broken file is not forgotten: it goes into
//! the next swap. The broken file itself comes again when it has changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::error::SwapError;
use crate::event::Event;
use crate::manifest;
use crate::node::Node;
use crate::swap::{DeployOptions, ModuleBytes};

/// Events within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often folders are looked for again that were not there, or were replaced.
const RECHECK: Duration = Duration::from_secs(1);

/// How many looks a cut-off file gets to be written to its end. A slow writer
/// pauses for less.
const UNFINISHED: u32 = 2;

/// A running watcher; dropping it stops it.
#[derive(Debug)]
pub struct Watcher {
    stop: Sender<Message>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Message {
    Changed,
    /// What stood at these paths is gone. A folder that is made anew there may
    /// even have the same inode, but the watch on it is gone too.
    Gone(Vec<PathBuf>),
    Stop,
}

impl Watcher {
    pub(crate) fn start(
        node: Node,
        files: BTreeMap<String, PathBuf>,
    ) -> Result<Watcher, notify::Error> {
        let (sender, receiver) = channel();
        let events = sender.clone();
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is no change of it.
            let access = event.as_ref().is_ok_and(|event| {
                matches!(event.kind, EventKind::Access(kind)
                    if kind != notify::event::AccessKind::Close(notify::event::AccessMode::Write))
            });
            if access {
                return;
            }
            let _ = events.send(match event {
                Ok(event) if is_gone(event.kind) => Message::Gone(event.paths),
                _ => Message::Changed,
            });
        })?;
        let mut watch = Watch {
            node,
            files,
            notifier,
            watched: HashMap::new(),
            seen: HashMap::new(),
            odd: HashMap::new(),
            pending: BTreeMap::new(),
        };
        watch.look_for_folders();
        watch.remember();
        let thread = std::thread::Builder::new()
            .name("exuvia-watch".into())
            .spawn(move || watch.run(&receiver))
            .map_err(notify::Error::io)?;
        Ok(Watcher {
            stop: sender,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.stop.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watch {
    node: Node,
    files: BTreeMap<String, PathBuf>,
    notifier: RecommendedWatcher,
    /// Folders that are watched, and which folder (by inode) that was.
    watched: HashMap<PathBuf, u64>,
    /// What was last read of each module.
    seen: HashMap<String, Seen>,
    /// What is waited for: since how many looks a file has been like this.
    odd: HashMap<String, (Odd, u32)>,
    /// What was refused through no fault that is known of its own.
    pending: BTreeMap<String, ModuleBytes>,
}

/// Why a file is not read at once.
#[derive(PartialEq, Eq)]
enum Odd {
    /// It cannot be read.
    Unusable(String),
    /// It is another one than was read, and no event has told so, or it is not
    /// complete.
    Unsettled(Stamp),
}

#[derive(Clone, PartialEq, Eq)]
struct Seen {
    stamp: Stamp,
    hash: blake3::Hash,
}

/// Tells cheaply whether a file may have changed.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then(|| Stamp {
        inode: metadata.ino(),
        length: metadata.len(),
        modified: metadata.modified().ok(),
    })
}

impl Watch {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(RECHECK) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(first) => {
                    let noticed = self.node.0.system.clock.now();
                    let Some(gone) = settle(first, messages) else {
                        return;
                    };
                    for path in gone {
                        if self.watched.remove(&path).is_some() {
                            // Mostly it went with the folder.
                            let _ = self.notifier.unwatch(&path);
                        }
                    }
                    self.look_for_folders();
                    self.swap(noticed, Cause::Event);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let new = self.look_for_folders();
                    let cause = if new { Cause::Event } else { Cause::Look };
                    self.swap(self.node.0.system.clock.now(), cause);
                }
            }
        }
    }

    /// Watches each module's folder, or the nearest folder above it that
    /// exists. Answers whether anything is watched that was not before.
    fn look_for_folders(&mut self) -> bool {
        let mut wanted = HashSet::new();
        for file in self.files.values() {
            let mut folder = file.parent();
            while let Some(path) = folder {
                if path.is_dir() {
                    wanted.insert(path.to_owned());
                    break;
                }
                folder = path.parent();
            }
        }
        let gone: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, inode)| !wanted.contains(*path) || inode_of(path) != Some(**inode))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            // It may be gone already, and its watch with it.
            let _ = self.notifier.unwatch(&path);
            self.watched.remove(&path);
        }
        let mut new = false;
        for path in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            let Some(inode) = inode_of(&path) else {
                continue;
            };
            match self.notifier.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, inode);
                    new = true;
                }
                Err(error) => {
                    tracing::warn!(folder = %path.display(), "cannot watch the folder: {error}");
                }
            }
        }
        new
    }

    /// What runs now is what was read at the boot.
    fn remember(&mut self) {
        let release = self.node.0.code.current();
        for (name, path) in &self.files {
            if let (Some(stamp), Some(version)) = (stamp(path), release.version(name)) {
                let hash = blake3::Hash::from_bytes(version.digest.0);
                // The stamp is only trusted if the content is what runs.
                if std::fs::read(path).is_ok_and(|bytes| blake3::hash(&bytes) == hash) {
                    self.seen.insert(name.clone(), Seen { stamp, hash });
                }
            }
        }
    }

    fn swap(&mut self, noticed: u64, cause: Cause) {
        let mut changed = Vec::new();
        for (name, path) in &self.files {
            if let Err(why) = manifest::usable(path) {
                if waited(&mut self.odd, name, Odd::Unusable(why.clone()), cause) == Some(1) {
                    self.node.0.events.send(unreadable(name, path, why));
                }
                continue;
            }
            let Some(before) = stamp(path) else { continue };
            if self.seen.get(name).is_some_and(|seen| seen.stamp == before) {
                self.odd.remove(name);
                continue;
            }
            let looks = waited(&mut self.odd, name, Odd::Unsettled(before.clone()), cause);
            if cause == Cause::Look && looks == Some(0) {
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
                if looks == Some(UNFINISHED) {
                    let why = "is empty".to_owned();
                    self.node.0.events.send(unreadable(name, path, why));
                }
                continue;
            }
            if is_cut_off(&bytes) && looks.is_none_or(|looks| looks < UNFINISHED) {
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
            return;
        }
        changed.extend(std::mem::take(&mut self.pending).into_values());
        // A refusal is an event; the old code runs on.
        if let Err(error) = self.node.deploy(changed.clone(), DeployOptions::default()) {
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
        }
    }
}

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something happened in their folders.
    Event,
    /// It was time.
    Look,
}

/// Notes that a file is odd, and answers for how many looks it has been just so;
/// `None` while only events have told of it.
fn waited(
    odd: &mut HashMap<String, (Odd, u32)>,
    name: &str,
    now: Odd,
    cause: Cause,
) -> Option<u32> {
    let look = cause == Cause::Look;
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

fn is_gone(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

fn inode_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Waits until nothing has happened for the debounce time. Answers what was
/// said to be gone; `None`: stop.
fn settle(first: Message, messages: &Receiver<Message>) -> Option<Vec<PathBuf>> {
    let mut gone = Vec::new();
    let mut message = first;
    loop {
        match message {
            Message::Changed => {}
            Message::Gone(paths) => gone.extend(paths),
            Message::Stop => return None,
        }
        message = match messages.recv_timeout(DEBOUNCE) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Some(gone),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
    }
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
