//! Watches module files and swaps what changes.
//!
//! Folders are watched, not files, so that a file that is replaced by a rename
//! stays in view. What counts is the content: after 100 ms without an event
//! the files are read, and those whose hash is new go into one swap. A file
//! that changed while it was read is read again after the next pause. A folder
//! that does not exist is waited for at its nearest ancestor that does.
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
use crate::node::Node;
use crate::swap::{DeployOptions, ModuleBytes};

/// Events within this time are one change.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often folders are looked for again that were not there, or were replaced.
const RECHECK: Duration = Duration::from_secs(1);

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
    /// What was refused through no fault that is known of its own.
    pending: BTreeMap<String, ModuleBytes>,
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
                    self.swap(noticed);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.look_for_folders() {
                        self.swap(self.node.0.system.clock.now());
                    }
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

    fn swap(&mut self, noticed: u64) {
        let mut changed = Vec::new();
        for (name, path) in &self.files {
            let Some(before) = stamp(path) else { continue };
            if self.seen.get(name).is_some_and(|seen| seen.stamp == before) {
                continue;
            }
            let Ok(bytes) = std::fs::read(path) else {
                continue;
            };
            if stamp(path).as_ref() != Some(&before) || bytes.is_empty() {
                // Half-written: the writer's next event brings us back.
                continue;
            }
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
            let broken = match &error {
                SwapError::Load { file, .. } => Some(file.as_str()),
                _ => None,
            };
            for module in changed {
                if broken != Some(&module.source) {
                    self.pending.insert(module.name.clone(), module);
                }
            }
        }
    }
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
