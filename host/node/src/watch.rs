//! Watches files: module files, which are swapped in when they change, and in
//! development the sources that they are built from and the manifest.
//!
//! Folders are watched, not files, so that a file that is replaced by a rename
//! stays in view. An event says only that it is time to look; what is found
//! decides. A folder that does not exist is waited for at its nearest ancestor
//! that does.
//!
//! Everything happens on one thread: builds and swaps come one after another, in
//! the order of the changes. What changes during a build is looked at after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::app::App;
use crate::build::Stopper;
use crate::node::Node;

mod artifacts;
mod sources;
mod stamp;
mod workshop;

use artifacts::{Artifacts, Cause, Looked};
pub use workshop::Workshop;

/// Events of module files within this time are one change: they are written by
/// tools that may take their time.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The same of sources, which are saved at once.
const SAVED: Duration = Duration::from_millis(20);
/// Sources that change without a pause are looked at after this time.
const LONGEST: Duration = Duration::from_millis(500);
/// How often folders are looked for again that were not there, or were replaced.
const RECHECK: Duration = Duration::from_secs(1);

/// A running watcher; dropping it stops it, and the build that it may be at.
#[derive(Debug)]
pub struct Watcher {
    stop: Sender<Message>,
    stopper: Stopper,
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
    /// Watches the module files of an app.
    pub(crate) fn start(
        node: Node,
        files: BTreeMap<String, PathBuf>,
    ) -> Result<Watcher, notify::Error> {
        let artifacts = Artifacts::new(node.clone(), files);
        Watcher::begin(node, artifacts, None)
    }

    /// Watches the sources as well, and the manifest.
    pub(crate) fn develop(app: &App, mut workshop: Workshop) -> Result<Watcher, notify::Error> {
        let node = app.node().clone();
        let artifacts = Artifacts::new(node.clone(), workshop.files());
        workshop.attend(app);
        Watcher::begin(node, artifacts, Some(workshop))
    }

    fn begin(
        node: Node,
        artifacts: Artifacts,
        workshop: Option<Workshop>,
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
        let stopper = workshop
            .as_ref()
            .map_or_else(Stopper::default, Workshop::stopper);
        let mut watch = Watch {
            node,
            artifacts,
            workshop,
            notifier,
            watched: HashMap::new(),
            unwatched: HashSet::new(),
        };
        watch.look_for_folders();
        let thread = std::thread::Builder::new()
            .name("exuvia-watch".into())
            .spawn(move || watch.run(&receiver))
            .map_err(notify::Error::io)?;
        Ok(Watcher {
            stop: sender,
            stopper,
            thread: Some(thread),
        })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stopper.stop();
        let _ = self.stop.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watch {
    node: Node,
    artifacts: Artifacts,
    /// In development, who builds.
    workshop: Option<Workshop>,
    notifier: RecommendedWatcher,
    /// Folders that are watched, and which folder (by inode) that was.
    watched: HashMap<PathBuf, u64>,
    /// Folders of which it was told that they cannot be watched.
    unwatched: HashSet<PathBuf>,
}

impl Watch {
    fn run(mut self, messages: &Receiver<Message>) {
        // What was saved during the boot.
        self.work(self.now());
        // Since when events have come, and the module files were not looked at.
        let mut due: Option<u64> = None;
        // Since when something waits that has changed during a build.
        let mut behind: Option<u64> = None;
        loop {
            let pause = self.workshop.as_ref().and_then(Workshop::is_behind);
            let mut patience = if due.is_some() { DEBOUNCE } else { RECHECK };
            match pause {
                Some(pause) => {
                    let since = *behind.get_or_insert(self.now());
                    let waited = Duration::from_nanos(self.now().saturating_sub(since));
                    patience = patience.min(pause.saturating_sub(waited));
                }
                None => behind = None,
            }
            match messages.recv_timeout(patience) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(first) => {
                    let noticed = self.now();
                    let (pause, longest) = match self.workshop {
                        Some(_) => (SAVED, LONGEST),
                        None => (DEBOUNCE, Duration::MAX),
                    };
                    let Some(gone) = settle(first, messages, pause, longest) else {
                        return;
                    };
                    for path in gone {
                        if self.watched.remove(&path).is_some() {
                            // Mostly it went with the folder.
                            let _ = self.notifier.unwatch(&path);
                        }
                    }
                    self.look_for_folders();
                    self.work_on_events(noticed, behind.is_some());
                    // Module files get the rest of their time, but not for ever.
                    let since = *due.get_or_insert(noticed);
                    let waited = Duration::from_nanos(noticed.saturating_sub(since));
                    if self.workshop.is_none() || waited >= LONGEST {
                        due = None;
                        self.look_at_modules(noticed, &Cause::Event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let noticed = self.now();
                    let new = self.look_for_folders();
                    let ripe = pause.zip(behind).is_some_and(|(pause, since)| {
                        Duration::from_nanos(noticed.saturating_sub(since)) >= pause
                    });
                    if new || ripe {
                        behind = None;
                        self.work(noticed);
                    }
                    let cause = match (new, due) {
                        (false, None) => Cause::Look,
                        _ => Cause::Event,
                    };
                    due = None;
                    self.look_at_modules(noticed, &cause);
                }
            }
        }
    }

    /// What waits since a build waits on, unless something else has changed: the
    /// events may be of that build.
    fn work_on_events(&mut self, noticed: u64, behind: bool) {
        let news = (self.workshop.as_mut()).is_some_and(|it| !behind || it.has_news());
        if news {
            self.work(noticed);
        }
    }

    fn look_at_modules(&mut self, noticed: u64, cause: &Cause) {
        if self.artifacts.look(noticed, cause) == Looked::Swapped
            && let Some(workshop) = &mut self.workshop
        {
            workshop.swapped();
        }
    }

    fn now(&self) -> u64 {
        self.node.0.system.clock.now()
    }

    /// Builds what sources have changed of. Folders may have come with them.
    fn work(&mut self, noticed: u64) {
        let Some(workshop) = &mut self.workshop else {
            return;
        };
        if !workshop.work(noticed, &mut self.artifacts) {
            return;
        }
        // Files in a folder that has come may be newer than the look.
        if self.look_for_folders()
            && let Some(workshop) = &mut self.workshop
        {
            workshop.work(noticed, &mut self.artifacts);
        }
    }

    /// Watches each folder that matters, or the nearest folder above it that
    /// exists. Answers whether anything is watched that was not before.
    fn look_for_folders(&mut self) -> bool {
        let mut wanted = HashSet::new();
        let files = self.artifacts.files().filter_map(Path::parent);
        let sources = self.workshop.iter().flat_map(Workshop::folders);
        for folder in files.chain(sources) {
            let mut folder = Some(folder);
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
                Err(error) if !self.unwatched.insert(path.clone()) => {
                    tracing::debug!(folder = %path.display(), "cannot watch the folder: {error}");
                }
                Err(error) => {
                    tracing::warn!(folder = %path.display(), "cannot watch the folder: {error}");
                }
            }
        }
        new
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

/// Waits until nothing has happened for a time. Answers what was said to be gone;
/// `None`: stop.
#[expect(
    clippy::disallowed_methods,
    reason = "files change by the system's clock"
)]
fn settle(
    first: Message,
    messages: &Receiver<Message>,
    pause: Duration,
    longest: Duration,
) -> Option<Vec<PathBuf>> {
    let began = Instant::now();
    let mut gone = Vec::new();
    let mut message = first;
    loop {
        match message {
            Message::Changed => {}
            Message::Gone(paths) => gone.extend(paths),
            Message::Stop => return None,
        }
        if began.elapsed() >= longest {
            return Some(gone);
        }
        message = match messages.recv_timeout(pause) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Some(gone),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
    }
}
