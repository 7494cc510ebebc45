//! The module files: what has changed is swapped in.
//!
//! The content counts: files with a new hash go into one swap. A file that changed while it was
//! read is read again after the next pause, and so is one that is cut off, or lacks kinds of
//! sections that its predecessor had.
//!
//! Events do not report everything: the system may send none for a file, a file may become
//! unreadable, a writer may stop in the middle. So the files are also scanned once a second, and
//! problems that persist that long are reported.
//!
//! Files that were rejected together with a broken one are kept, and go into the next swap. The
//! broken one is read again when it has changed.
//!
//! The files of a failed build are not read until it succeeds: it may have made some of them and
//! not the others that go with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use exuvia_manifest::{MAX_MODULE_BYTES, files};
use exuvia_node::{BuildInfo, DeployOptions, ModuleBytes, Node, Outdated};

use super::debounce::{Debounce, Ready};
use super::event_queue::ChangeHint;
use super::link_targets::places;
use super::stamp::{Stamp, stamp};
use super::whole::{Sections, is_cut_off, is_text, is_wasm};
use crate::build::Stopper;
use crate::event::Event;

/// How many periodic scans a file that seems to be cut off may take to be completed. A slow writer
/// pauses for less.
const UNFINISHED: u32 = 2;

/// Why the files are scanned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// An event in their folders.
    Event,
    /// The periodic scan is due.
    Look,
    /// A build has ended, so the files of these modules are complete.
    Built(BuildInfo, Vec<String>),
}

/// The result of a scan of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanResult {
    /// No file is new.
    Nothing,
    /// Files are new, but contain the running code already. `true`: the previous ones were unusable
    /// or rejected.
    Same(bool),
    /// New code is current.
    Swapped,
    /// A file is unusable, or the swap was rejected. This has been reported.
    Refused,
}

/// The module files, and what was last read of them.
#[derive(Debug)]
pub(super) struct Artifacts {
    node: Node,
    /// Nothing is swapped once this has stopped.
    stopper: Stopper,
    files: BTreeMap<String, PathBuf>,
    /// The directory entries that determine what the files are, each with the modules whose files
    /// it determines.
    entries: HashMap<PathBuf, Vec<String>>,
    /// The files that have changed, and may still be changing.
    settling: Debounce,
    /// What was last read of each module.
    seen: HashMap<String, FileState>,
    /// The sections of the running code, for each module that was read from its file.
    sections: HashMap<String, Sections>,
    /// Files with a problem, and the number of periodic scans for which the problem has been the
    /// same.
    odd: HashMap<String, (FileProblem, u32)>,
    /// Modules of rejected swaps that are not known to have caused the rejection.
    pending: BTreeMap<String, ModuleBytes>,
    /// Modules whose files are not read: their build has failed.
    unbuilt: HashSet<String>,
    /// Whether the last new files were unusable or rejected.
    refused: bool,
}

/// Why a file is not read at once.
#[derive(Debug, PartialEq, Eq)]
enum FileProblem {
    /// It cannot be read.
    Unusable(String),
    /// It differs from what was read and no event has reported that, or it is incomplete.
    Unsettled(Stamp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState {
    stamp: Stamp,
    hash: blake3::Hash,
}

impl Artifacts {
    /// Starts from the state at the boot: the running code is what was read then.
    pub(super) fn new(node: Node, files: BTreeMap<String, PathBuf>, stopper: Stopper) -> Artifacts {
        let (mut seen, mut sections) = (HashMap::new(), HashMap::new());
        for (name, path) in &files {
            if let (Some(stamp), Some(digest)) = (stamp(path), node.digest_of(name)) {
                let hash = blake3::Hash::from_bytes(digest);
                // The stamp is only trusted if the content is that of the running code.
                let bytes = files::read(path, MAX_MODULE_BYTES).unwrap_or_default();
                if blake3::hash(&bytes) == hash {
                    seen.insert(name.clone(), FileState { stamp, hash });
                    sections.insert(name.clone(), Sections::of(&bytes));
                }
            }
        }
        Artifacts {
            node,
            stopper,
            files,
            entries: HashMap::new(),
            settling: Debounce::default(),
            seen,
            sections,
            odd: HashMap::new(),
            pending: BTreeMap::new(),
            unbuilt: HashSet::new(),
            refused: false,
        }
    }

    /// Changes the set of files. What was read of a file at another path does not count any more.
    pub(super) fn follow(&mut self, files: BTreeMap<String, PathBuf>) {
        let moved = |name: &String| self.files.get(name) != files.get(name);
        (self.settling).retain(|name| self.files.get(name) == files.get(name));
        self.seen.retain(|name, _| !moved(name));
        self.odd.retain(|name, _| !moved(name));
        self.pending.retain(|name, _| !moved(name));
        self.files = files;
    }

    /// Sets the modules whose files are not read. A change of such a file is found when its
    /// module is not among them any more, even if the file has the bytes that were kept of it.
    pub(super) fn leave_alone(&mut self, unbuilt: HashSet<String>) {
        for name in &unbuilt {
            if self.pending.remove(name).is_some() {
                self.seen.remove(name);
            }
        }
        self.unbuilt = unbuilt;
    }

    /// Returns whether what was last read of these modules is the running code.
    pub(super) fn run(&self, modules: &[String]) -> bool {
        modules.iter().all(|name| {
            let seen = self.seen.get(name).map(|seen| *seen.hash.as_bytes());
            seen.is_some() && seen == self.node.digest_of(name)
        })
    }

    /// Returns the processes of these modules that do not run the current version.
    pub(super) fn outdated(&self, modules: &[String]) -> Vec<Outdated> {
        self.node.outdated(modules.iter().map(String::as_str))
    }

    /// Returns whether the release has all the modules.
    pub(super) fn are_loaded(&self) -> bool {
        let mut names = self.files.keys();
        names.all(|name| self.node.digest_of(name).is_some())
    }

    /// Returns the directory entries that determine what the files are.
    pub(super) fn entries(&mut self) -> impl Iterator<Item = &PathBuf> {
        self.entries.clear();
        for (name, path) in &self.files {
            for entry in places(path) {
                self.entries.entry(entry).or_default().push(name.clone());
            }
        }
        self.entries.keys()
    }

    /// Notes that a directory entry has changed. Returns whether it matters.
    pub(super) fn touch(
        &mut self,
        entry: &Path,
        sign: ChangeHint,
        noticed: u64,
        now: Instant,
    ) -> bool {
        let Some(modules) = self.entries.get(entry) else {
            return false;
        };
        for module in modules {
            self.settling.touch(module, sign, noticed, now);
        }
        true
    }

    /// Notes that any file may have changed.
    pub(super) fn touch_all(&mut self, noticed: u64, now: Instant) {
        for module in self.files.keys() {
            self.settling
                .touch(module, ChangeHint::default(), noticed, now);
        }
    }

    /// Returns when a changed file is due to be scanned.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.settling.ready_at()
    }

    /// Scans the changed files that are due.
    pub(super) fn look_at_ready(&mut self, now: Instant) -> ScanResult {
        let ready = self.settling.take_ready(now);
        match ready.values().map(|ready| ready.noticed).min() {
            Some(noticed) => self.look_with(noticed, &Cause::Event, &ready),
            None => ScanResult::Nothing,
        }
    }

    /// Scans all files that are not being written, and swaps in what is new. `noticed` is the time
    /// of the change by the node's clock.
    pub(super) fn look(&mut self, noticed: u64, cause: &Cause) -> ScanResult {
        self.look_with(noticed, cause, &BTreeMap::new())
    }

    fn look_with(
        &mut self,
        noticed: u64,
        cause: &Cause,
        ready: &BTreeMap<String, Ready>,
    ) -> ScanResult {
        let looked = self.swap(noticed, cause, ready);
        match looked {
            ScanResult::Nothing => {}
            ScanResult::Refused => self.refused = true,
            ScanResult::Same(_) | ScanResult::Swapped => {
                let recovered = std::mem::take(&mut self.refused);
                if looked == ScanResult::Same(false) {
                    return ScanResult::Same(recovered);
                }
            }
        }
        looked
    }

    fn swap(&mut self, noticed: u64, cause: &Cause, ready: &BTreeMap<String, Ready>) -> ScanResult {
        let mut refused = false;
        let mut changed = Vec::new();
        for (name, path) in &self.files {
            let built = match cause {
                Cause::Built(_, modules) if modules.contains(name) => true,
                // A file that this build did not write may be half-written.
                Cause::Built(..) => continue,
                Cause::Event | Cause::Look => false,
            };
            if self.unbuilt.contains(name) || (!built && self.settling.holds(name)) {
                continue;
            }
            let done = ready.get(name).is_some_and(|ready| ready.done);
            if let Err(why) = exuvia_manifest::usable(path) {
                let waited = waited(
                    &mut self.odd,
                    name,
                    FileProblem::Unusable(why.clone()),
                    cause,
                );
                if built || waited == Some(1) {
                    self.node
                        .event_source()
                        .publish(unreadable(name, path, why));
                    refused = true;
                }
                continue;
            }
            let Some(before) = stamp(path) else { continue };
            if self.seen.get(name).is_some_and(|seen| seen.stamp == before) {
                self.odd.remove(name);
                continue;
            }
            let looks = waited(
                &mut self.odd,
                name,
                FileProblem::Unsettled(before.clone()),
                cause,
            );
            if *cause == Cause::Look && looks == Some(0) {
                // No event reported it, so it may be being written right now.
                continue;
            }
            let Ok(bytes) = files::read(path, MAX_MODULE_BYTES) else {
                continue;
            };
            if stamp(path).as_ref() != Some(&before) {
                // Half-written: the writer's next event triggers another scan.
                continue;
            }
            if bytes.is_empty() {
                if built || looks == Some(UNFINISHED) {
                    let why = "is empty".to_owned();
                    self.node
                        .event_source()
                        .publish(unreadable(name, path, why));
                    refused = true;
                }
                continue;
            }
            let sections = Sections::of(&bytes);
            // An error in a text file that its writer has closed is reported at once.
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
                    FileState {
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
                ScanResult::Refused
            } else {
                ScanResult::Nothing
            };
        }
        changed.extend(std::mem::take(&mut self.pending).into_values());
        if self.stopper.is_stopped() {
            return ScanResult::Nothing;
        }
        let built = matches!(cause, Cause::Built(..));
        let options = DeployOptions {
            made: match cause {
                Cause::Built(made, _) => Some(made.clone()),
                Cause::Event | Cause::Look => None,
            },
            ..DeployOptions::default()
        };
        // A rejection is reported as an event; the old code keeps running.
        let names = || changed.iter().map(|module| module.name.clone()).collect();
        let deployed = self.node.deploy(changed.clone(), options);
        if deployed.is_ok() {
            let sections = |module: &ModuleBytes| Sections::of(&module.bytes);
            (self.sections).extend(changed.iter().map(|it| (it.name.clone(), sections(it))));
        }
        match deployed {
            Ok(_) if refused => ScanResult::Refused,
            Ok(report) if report.modules.is_empty() => {
                if self.refused && !built {
                    let modules: Vec<String> = names();
                    let outdated = self.outdated(&modules);
                    let recovered = Event::Recovered { modules, outdated };
                    self.node.event_source().publish(recovered);
                }
                ScanResult::Same(false)
            }
            Ok(_) => ScanResult::Swapped,
            Err(error) => {
                for module in changed {
                    if !error.is_caused_by(&module) {
                        self.pending.insert(module.name.clone(), module);
                    }
                }
                ScanResult::Refused
            }
        }
    }
}

/// Notes the problem of a file, and returns for how many periodic scans it has been the same;
/// `None` if this is not a periodic scan.
fn waited(
    odd: &mut HashMap<String, (FileProblem, u32)>,
    name: &str,
    now: FileProblem,
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
    Event::FileUnreadable {
        module: module.to_owned(),
        file: file.display().to_string(),
        reason,
    }
}
