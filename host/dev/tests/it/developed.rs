//! An app that is developed: sources are Wasm text, and the builds copy them.

use std::fs;
use std::path::{Path, PathBuf};

use exuvia_dev::{BuildWatcher, Event as DevEvent, Stopper, WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{App, Event, SwapReport};
use tokio::sync::broadcast;

use crate::guests::{STATE, ask, boot_options, counter};
use crate::seen::{Seen, event};

/// A counter that answers `answer` and keeps its state.
pub(crate) fn answers(answer: u64) -> String {
    counter("", &format!("(i64.const {answer})"), STATE)
}

/// Copies a source unless it has the word FAIL in it, and notes that it ran.
pub(crate) fn build_of(name: &str) -> String {
    format!(
        "echo {name} >> builds.log; if grep FAIL src/{name}.wat; then exit 7; fi; cp src/{name}.wat out/{name}.wat"
    )
}

pub(crate) fn module(name: &str) -> String {
    format!(
        "[modules.{name}]\npath = \"out/{name}.wat\"\nbuild = \"{}\"\nsources = [\"src/{name}.wat\"]\n",
        build_of(name)
    )
}

pub(crate) fn child(id: &str, module: &str) -> String {
    format!("[[supervisor.children]]\nid = \"{id}\"\nmodule = \"{module}\"\nname = \"{id}\"\n")
}

pub(crate) fn manifest() -> String {
    format!(
        "[app]\nname = \"developed\"\n{}{}{}{}",
        module("one"),
        module("two"),
        child("one", "one"),
        child("two", "two"),
    )
}

/// An app that is developed, in a folder of its own.
pub(crate) struct Developed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) app: App,
    pub(crate) events: broadcast::Receiver<Event>,
    pub(crate) stopper: Stopper,
    // Before the folder goes.
    pub(crate) watcher: Option<Watcher>,
}

pub(crate) fn developed() -> Developed {
    developed_with(&manifest())
}

pub(crate) fn developed_with(manifest: &str) -> Developed {
    developed_in(manifest, &WatchLimits::default(), |_| {})
}

/// With files that are put in another place first.
pub(crate) fn developed_in(
    manifest: &str,
    limits: &WatchLimits,
    arrange: impl FnOnce(&Path),
) -> Developed {
    let folder = tempfile::tempdir().unwrap();
    for name in ["src", "out"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for name in ["one", "two"] {
        fs::write(folder.path().join(format!("src/{name}.wat")), answers(1)).unwrap();
    }
    fs::write(folder.path().join("exuvia.toml"), manifest).unwrap();
    arrange(folder.path());
    let mut build_watcher = BuildWatcher::open(folder.path(), false).unwrap();
    for step in build_watcher.manifest().builds() {
        build_watcher.build(&step).unwrap();
    }
    let manifest: Manifest = build_watcher.manifest().clone();
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap();
    let events = app.node().events();
    let stopper = build_watcher.stopper();
    let watcher = Watcher::develop(&app, build_watcher, limits).unwrap();
    let it = Developed {
        folder,
        app,
        events,
        stopper,
        watcher: Some(watcher),
    };
    fs::remove_file(it.path("builds.log")).unwrap();
    it
}

impl Developed {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn save(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Saves as many editors do: beside, then renamed.
    pub(crate) fn save_by_rename(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}~"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path("exuvia.toml")).unwrap();
        self.save_by_rename("exuvia.toml", &change(text));
    }

    #[track_caller]
    pub(crate) fn wait<T>(&mut self, what: &str, wanted: impl FnMut(&Seen<'_>) -> Option<T>) -> T {
        event(&mut self.events, what, wanted)
    }

    #[track_caller]
    pub(crate) fn swap(&mut self) -> SwapReport {
        self.wait("a swap", |event| match event {
            Seen::Node(Event::Swap(report)) => Some(SwapReport::clone(report)),
            Seen::Node(Event::Refused { reason, .. }) => panic!("refused: {reason}"),
            Seen::Dev(DevEvent::BuildFailed { reason, .. }) => panic!("not built: {reason}"),
            _ => None,
        })
    }

    /// What came of an edit of the manifest: what holds, what failed, what waits.
    #[track_caller]
    pub(crate) fn edited(&mut self) -> (String, String, String) {
        self.wait("an edit of the manifest", |event| match event {
            Seen::Dev(DevEvent::Manifest {
                applied,
                failed,
                restart,
            }) => Some((applied.join("; "), failed.join("; "), restart.join("; "))),
            Seen::Dev(DevEvent::ManifestRefused { reason }) => panic!("refused: {reason}"),
            _ => None,
        })
    }

    pub(crate) fn answer(&self, name: &str) -> u64 {
        ask(self.app.node(), self.app.node().find(name).unwrap())
    }

    pub(crate) fn builds(&self) -> usize {
        let log = fs::read_to_string(self.path("builds.log")).unwrap_or_default();
        log.lines().count()
    }

    pub(crate) fn is_there(&self, name: &str) -> bool {
        self.app.node().find(name).is_ok()
    }
}
