//! The module files: what has changed is swapped in.
//!
//! What counts is the content: files whose hash is new go into one swap. A file
//! that changed while it was read is read again after the next pause, and so is one
//! that is cut off, or has lost kinds of sections that its predecessor had.
//!
//! Nor does an event tell everything: the system may have none for a file, a file may
//! become unreadable, a writer may stop in the middle. So once a second
//! the files are looked at as well, and what has been odd for so long is told.
//!
//! What was refused together with a broken file is not forgotten: it goes into
//! the next swap. The broken file itself comes again when it has changed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use exuvia_engine::instrument::MAX_MODULE_BYTES;

use super::places::places;
use super::post::Sign;
use super::settling::{Ready, Settling};
use super::stamp::{Stamp, stamp};
use super::whole::{Sections, is_cut_off, is_text, is_wasm};
use crate::behind::Behind;
use crate::build::Stopper;
use crate::error::SwapError;
use crate::event::Event;
use crate::files;
use crate::manifest;
use crate::node::Node;
use crate::swap::{DeployOptions, Made, ModuleBytes};

/// How many looks a file that seems to be cut off gets to be written to its end. A
/// slow writer pauses for less.
const UNFINISHED: u32 = 2;

/// Why the files are looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// Something happened in their folders.
    Event,
    /// It was time.
    Look,
    /// A build has ended, so that the files of these modules are complete.
    Built(Made, Vec<String>),
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
    /// Nothing is swapped once it has stopped.
    stopper: Stopper,
    files: BTreeMap<String, PathBuf>,
    /// The entries of folders that decide what a file is, and whose file.
    entries: HashMap<PathBuf, Vec<String>>,
    /// What has changed, and may be changing still.
    settling: Settling,
    /// What was last read of each module.
    seen: HashMap<String, Seen>,
    /// What the code that runs has, of each module that was read from its file.
    sections: HashMap<String, Sections>,
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
    pub(super) fn new(node: Node, files: BTreeMap<String, PathBuf>, stopper: Stopper) -> Artifacts {
        let release = node.0.code.current();
        let (mut seen, mut sections) = (HashMap::new(), HashMap::new());
        for (name, path) in &files {
            if let (Some(stamp), Some(version)) = (stamp(path), release.version(name)) {
                let hash = blake3::Hash::from_bytes(version.digest.0);
                // The stamp is only trusted if the content is what runs.
                let bytes = files::read(path, MAX_MODULE_BYTES as u64).unwrap_or_default();
                if blake3::hash(&bytes) == hash {
                    seen.insert(name.clone(), Seen { stamp, hash });
                    sections.insert(name.clone(), Sections::of(&bytes));
                }
            }
        }
        Artifacts {
            node,
            stopper,
            files,
            entries: HashMap::new(),
            settling: Settling::default(),
            seen,
            sections,
            odd: HashMap::new(),
            pending: BTreeMap::new(),
            refused: false,
        }
    }

    /// Other files are to be watched. What was seen of a file at another place
    /// does not count.
    pub(super) fn follow(&mut self, files: BTreeMap<String, PathBuf>) {
        let moved = |name: &String| self.files.get(name) != files.get(name);
        (self.settling).retain(|name| self.files.get(name) == files.get(name));
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

    /// The processes of these modules that do not run what is current.
    pub(super) fn behind(&self, modules: &[String]) -> Vec<Behind> {
        self.node.behind(modules.iter().map(String::as_str))
    }

    /// Whether the release has all the modules.
    pub(super) fn are_loaded(&self) -> bool {
        let release = self.node.0.code.current();
        self.files
            .keys()
            .all(|name| release.version(name).is_some())
    }

    /// The entries of folders that decide what the files are.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = &PathBuf> {
        self.entries.clear();
        for (name, path) in &self.files {
            for entry in places(path) {
                self.entries.entry(entry).or_default().push(name.clone());
            }
        }
        self.entries.keys()
    }

    /// Something has happened to an entry of a folder. Answers whether it matters.
    pub(super) fn touch(&mut self, entry: &Path, sign: Sign, noticed: u64, now: Instant) -> bool {
        let Some(modules) = self.entries.get(entry) else {
            return false;
        };
        for module in modules {
            self.settling.touch(module, sign, noticed, now);
        }
        true
    }

    /// Something may have happened to any file.
    pub(super) fn touch_all(&mut self, noticed: u64, now: Instant) {
        for module in self.files.keys() {
            self.settling.touch(module, Sign::default(), noticed, now);
        }
    }

    /// When a file is to be looked at that has changed.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.settling.ready_at()
    }

    /// Looks at the files that have changed, and are to be looked at by now.
    pub(super) fn look_at_ready(&mut self, now: Instant) -> Looked {
        let ready = self.settling.take_ready(now);
        match ready.values().map(|ready| ready.noticed).min() {
            Some(noticed) => self.look_with(noticed, &Cause::Event, &ready),
            None => Looked::Nothing,
        }
    }

    /// Looks at all files that nobody seems to be changing, and swaps what is new.
    /// `noticed` is when the change was, by the node's clock.
    pub(super) fn look(&mut self, noticed: u64, cause: &Cause) -> Looked {
        self.look_with(noticed, cause, &BTreeMap::new())
    }

    fn look_with(
        &mut self,
        noticed: u64,
        cause: &Cause,
        ready: &BTreeMap<String, Ready>,
    ) -> Looked {
        let looked = self.swap(noticed, cause, ready);
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

    fn swap(&mut self, noticed: u64, cause: &Cause, ready: &BTreeMap<String, Ready>) -> Looked {
        let mut refused = false;
        let mut changed = Vec::new();
        for (name, path) in &self.files {
            let built = match cause {
                Cause::Built(_, modules) if modules.contains(name) => true,
                // Somebody else's may be half written.
                Cause::Built(..) => continue,
                Cause::Event | Cause::Look => false,
            };
            if !built && self.settling.holds(name) {
                continue;
            }
            let done = ready.get(name).is_some_and(|ready| ready.done);
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
            let Ok(bytes) = files::read(path, MAX_MODULE_BYTES as u64) else {
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
            let sections = Sections::of(&bytes);
            // An error in a text that its writer has closed is told at once.
            let is_cut_off = is_cut_off(&bytes) && !(done && is_text(&bytes));
            let has_less = (self.sections.get(name))
                .is_some_and(|before| is_wasm(&bytes) && !before.are_in(&sections));
            if !built && (is_cut_off || has_less) && looks.is_none_or(|looks| looks < UNFINISHED) {
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
        if self.stopper.is_stopped() {
            return Looked::Nothing;
        }
        let built = matches!(cause, Cause::Built(..));
        let options = DeployOptions {
            made: match cause {
                Cause::Built(made, _) => Some(made.clone()),
                Cause::Event | Cause::Look => None,
            },
            ..DeployOptions::default()
        };
        // A refusal is an event; the old code runs on.
        let names = || changed.iter().map(|module| module.name.clone()).collect();
        let deployed = self.node.deploy(changed.clone(), options);
        if deployed.is_ok() {
            let sections = |module: &ModuleBytes| Sections::of(&module.bytes);
            (self.sections).extend(changed.iter().map(|it| (it.name.clone(), sections(it))));
        }
        match deployed {
            Ok(_) if refused => Looked::Refused,
            Ok(report) if report.modules.is_empty() => {
                if self.refused && !built {
                    let modules: Vec<String> = names();
                    let behind = self.behind(&modules);
                    let mended = Event::Mended { modules, behind };
                    self.node.0.events.send(mended);
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
