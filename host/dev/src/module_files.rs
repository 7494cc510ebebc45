//! The module files of an app: those with new content go into one swap.
//!
//! Events do not report everything: the system may send none for a file, a file may become
//! unreadable, a writer may stop in the middle. So the files are also scanned once a second.
//!
//! Modules that were rejected together with a broken one are kept, and go into the next swap. The
//! broken one is read again when it has changed.
//!
//! The files of a failed build are not read until it succeeds: it may have made some of them and
//! not the others that go with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use exuvia_node::{BuildInfo, DeployOptions, ModuleBytes, Node, Outdated};

use crate::build::Stopper;
use crate::event::Event;
use crate::watcher::event_queue::ChangeHint;
use crate::watcher::link_targets::deciding_entries;

mod completeness;
mod debounce;
mod file;

use debounce::{Debounce, Ready};
use file::{ModuleFile, Occasion, Reading};

/// Why the files are scanned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// An event in their folders.
    Event,
    /// The periodic scan is due.
    Periodic,
    /// A build has ended, so the files of these modules are complete.
    Built(BuildInfo, Vec<String>),
}

/// The result of a scan of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanResult {
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

/// The module files.
#[derive(Debug)]
pub(crate) struct ModuleFiles {
    node: Node,
    /// Nothing is swapped once this has stopped.
    stopper: Stopper,
    /// The files, by module.
    files: BTreeMap<String, ModuleFile>,
    /// The directory entries that determine what the files are, each with the modules whose files
    /// it determines.
    entries: HashMap<PathBuf, Vec<String>>,
    /// The files that have changed, and may still be changing.
    debounce: Debounce,
    /// Modules of rejected swaps that are not known to have caused the rejection.
    kept: BTreeMap<String, ModuleBytes>,
    /// Modules whose files are not read: their build has failed.
    unbuilt: HashSet<String>,
    /// Whether the last new files were unusable or rejected.
    refused: bool,
}

impl ModuleFiles {
    /// Starts from the state at the boot: the running code is what was read then.
    pub(crate) fn new(
        node: Node,
        files: BTreeMap<String, PathBuf>,
        stopper: Stopper,
    ) -> ModuleFiles {
        let files = files.into_iter().map(|(name, path)| {
            let file = ModuleFile::at_boot(path, node.file_digest_of(&name));
            (name, file)
        });
        ModuleFiles {
            files: files.collect(),
            node,
            stopper,
            entries: HashMap::new(),
            debounce: Debounce::default(),
            kept: BTreeMap::new(),
            unbuilt: HashSet::new(),
            refused: false,
        }
    }

    /// Changes the set of files. What was read of a file at another path does not count any more.
    pub(crate) fn follow(&mut self, files: BTreeMap<String, PathBuf>) {
        self.files.retain(|name, _| files.contains_key(name));
        let mut stays = HashSet::new();
        for (name, path) in files {
            match self.files.get_mut(&name) {
                Some(file) if file.path() == path => drop(stays.insert(name)),
                Some(file) => file.move_to(path),
                None => drop(self.files.insert(name, ModuleFile::unread(path))),
            }
        }
        self.debounce.retain(|name| stays.contains(name));
        self.kept.retain(|name, _| stays.contains(name));
    }

    /// Sets the modules whose files are not read. A change of such a file is found when its
    /// module is not among them any more, even if the file has the bytes that were kept of it.
    pub(crate) fn set_unbuilt(&mut self, unbuilt: HashSet<String>) {
        for name in &unbuilt {
            if self.kept.remove(name).is_some()
                && let Some(file) = self.files.get_mut(name)
            {
                file.forget();
            }
        }
        self.unbuilt = unbuilt;
    }

    /// Returns whether what was last read of these modules is the running code.
    pub(crate) fn are_running(&self, modules: &[String]) -> bool {
        modules.iter().all(|name| {
            let digest = self.files.get(name).and_then(ModuleFile::digest);
            digest.is_some() && digest == self.node.digest_of(name)
        })
    }

    /// Returns the processes of these modules that do not run the current version.
    pub(crate) fn outdated(&self, modules: &[String]) -> Vec<Outdated> {
        self.node.outdated(modules.iter().map(String::as_str))
    }

    /// Returns whether the release has all the modules.
    pub(crate) fn are_loaded(&self) -> bool {
        let mut names = self.files.keys();
        names.all(|name| self.node.digest_of(name).is_some())
    }

    /// Returns the directory entries that determine what the files are.
    pub(crate) fn entries(&mut self) -> impl Iterator<Item = &PathBuf> {
        self.entries.clear();
        for (name, file) in &self.files {
            for entry in deciding_entries(file.path()) {
                self.entries.entry(entry).or_default().push(name.clone());
            }
        }
        self.entries.keys()
    }

    /// Notes that a directory entry has changed. Returns whether it matters.
    pub(crate) fn touch(
        &mut self,
        entry: &Path,
        hint: ChangeHint,
        noticed: u64,
        now: Instant,
    ) -> bool {
        let Some(modules) = self.entries.get(entry) else {
            return false;
        };
        for module in modules {
            self.debounce.touch(module, hint, noticed, now);
        }
        true
    }

    /// Notes that any file may have changed.
    pub(crate) fn touch_all(&mut self, noticed: u64, now: Instant) {
        for module in self.files.keys() {
            (self.debounce).touch(module, ChangeHint::default(), noticed, now);
        }
    }

    /// Returns when a changed file is due to be scanned.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        self.debounce.ready_at()
    }

    /// Scans the changed files that are due.
    pub(crate) fn scan_ready(&mut self, now: Instant) -> ScanResult {
        let ready = self.debounce.take_ready(now);
        match ready.values().map(|ready| ready.noticed).min() {
            Some(noticed) => self.scan_with(noticed, &Cause::Event, &ready),
            None => ScanResult::Nothing,
        }
    }

    /// Scans all files that are not being written, and swaps in what is new. `noticed` is the time
    /// of the change by the node's clock.
    pub(crate) fn scan(&mut self, noticed: u64, cause: &Cause) -> ScanResult {
        self.scan_with(noticed, cause, &BTreeMap::new())
    }

    fn scan_with(
        &mut self,
        noticed: u64,
        cause: &Cause,
        ready: &BTreeMap<String, Ready>,
    ) -> ScanResult {
        let (new, unusable) = self.read(noticed, cause, ready);
        let result = match (new.is_empty(), unusable) {
            (true, true) => ScanResult::Refused,
            (true, false) => ScanResult::Nothing,
            (false, _) => self.swap(new, cause, unusable),
        };
        match result {
            ScanResult::Nothing => {}
            ScanResult::Refused => self.refused = true,
            ScanResult::Same(_) | ScanResult::Swapped => {
                let recovered = std::mem::take(&mut self.refused);
                if result == ScanResult::Same(false) {
                    return ScanResult::Same(recovered);
                }
            }
        }
        result
    }

    /// Reads the files. Returns the new modules, and whether a file is unusable, which is reported.
    fn read(
        &mut self,
        noticed: u64,
        cause: &Cause,
        ready: &BTreeMap<String, Ready>,
    ) -> (Vec<ModuleBytes>, bool) {
        let (mut new, mut unusable) = (Vec::new(), false);
        for (name, file) in &mut self.files {
            let occasion = match cause {
                Cause::Built(_, modules) if modules.contains(name) => Occasion::Built,
                // A file that this build did not write may be half-written.
                Cause::Built(..) => continue,
                Cause::Event => Occasion::Event {
                    closed: ready.get(name).is_some_and(|ready| ready.done),
                },
                Cause::Periodic => Occasion::Periodic,
            };
            if self.unbuilt.contains(name)
                || (occasion != Occasion::Built && self.debounce.holds(name))
            {
                continue;
            }
            match file.read(occasion) {
                Reading::Nothing => {}
                Reading::New(bytes) => {
                    self.kept.remove(name);
                    new.push(ModuleBytes {
                        name: name.clone(),
                        bytes,
                        source: file.path().display().to_string(),
                        noticed: Some(noticed),
                    });
                }
                Reading::Unusable(reason) => {
                    unusable = true;
                    self.node.event_source().publish(Event::FileUnreadable {
                        module: name.clone(),
                        file: file.path().display().to_string(),
                        reason,
                    });
                }
            }
        }
        (new, unusable)
    }

    /// Deploys new modules, and those that are kept. A rejection is reported by the node; the old
    /// code keeps running.
    fn swap(&mut self, mut modules: Vec<ModuleBytes>, cause: &Cause, unusable: bool) -> ScanResult {
        modules.extend(std::mem::take(&mut self.kept).into_values());
        if self.stopper.is_stopped() {
            return ScanResult::Nothing;
        }
        let options = DeployOptions {
            made: match cause {
                Cause::Built(made, _) => Some(made.clone()),
                Cause::Event | Cause::Periodic => None,
            },
            from_files: true,
            ..DeployOptions::default()
        };
        let report = match self.node.deploy(modules.clone(), options) {
            Ok(report) => report,
            Err(error) => {
                modules.retain(|module| !error.is_caused_by(module));
                let kept = modules.into_iter();
                self.kept.extend(kept.map(|it| (it.name.clone(), it)));
                return ScanResult::Refused;
            }
        };
        for module in &modules {
            if let Some(file) = self.files.get_mut(&module.name) {
                file.is_running(&module.bytes);
            }
        }
        if unusable {
            return ScanResult::Refused;
        }
        if !report.modules.is_empty() {
            return ScanResult::Swapped;
        }
        if self.refused && !matches!(cause, Cause::Built(..)) {
            let modules: Vec<String> = modules.into_iter().map(|module| module.name).collect();
            let outdated = self.outdated(&modules);
            let recovered = Event::Recovered { modules, outdated };
            self.node.event_source().publish(recovered);
        }
        ScanResult::Same(false)
    }
}
