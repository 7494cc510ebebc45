//! The development loop: sources, builds, swaps and the manifest of an app that
//! runs. Sources are Wasm text, and the builds copy them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use exuvia_dev::{BuildWatcher, Event as DevEvent, Stopper, WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{App, Event, Filter, SwapReport};
use tokio::sync::broadcast;

use crate::guests::{STATE, ask, boot_options, counter, eventually};
use crate::seen::{Seen, event};

/// A counter that answers `answer` and keeps its state.
fn answers(answer: u64) -> String {
    counter("", &format!("(i64.const {answer})"), STATE)
}

/// Copies a source unless it has the word FAIL in it, and notes that it ran.
fn build_of(name: &str) -> String {
    format!(
        "echo {name} >> builds.log; if grep FAIL src/{name}.wat; then exit 7; fi; cp src/{name}.wat out/{name}.wat"
    )
}

fn module(name: &str) -> String {
    format!(
        "[modules.{name}]\npath = \"out/{name}.wat\"\nbuild = \"{}\"\nsources = [\"src/{name}.wat\"]\n",
        build_of(name)
    )
}

fn child(id: &str, module: &str) -> String {
    format!("[[supervisor.children]]\nid = \"{id}\"\nmodule = \"{module}\"\nname = \"{id}\"\n")
}

fn manifest() -> String {
    format!(
        "[app]\nname = \"developed\"\n{}{}{}{}",
        module("one"),
        module("two"),
        child("one", "one"),
        child("two", "two"),
    )
}

/// An app that is developed, in a folder of its own.
struct Developed {
    folder: tempfile::TempDir,
    app: App,
    events: broadcast::Receiver<Event>,
    stopper: Stopper,
    // Before the folder goes.
    watcher: Option<Watcher>,
}

fn developed() -> Developed {
    developed_with(&manifest())
}

fn developed_with(manifest: &str) -> Developed {
    developed_in(manifest, &WatchLimits::default(), |_| {})
}

/// With files that are put in another place first.
fn developed_in(manifest: &str, limits: &WatchLimits, arrange: impl FnOnce(&Path)) -> Developed {
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
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn save(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Saves as many editors do: beside, then renamed.
    fn save_aside(&self, name: &str, text: &str) {
        let beside = self.path(&format!("{name}~"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.path(name)).unwrap();
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path("exuvia.toml")).unwrap();
        self.save_aside("exuvia.toml", &change(text));
    }

    #[track_caller]
    fn wait<T>(&mut self, what: &str, wanted: impl FnMut(&Seen<'_>) -> Option<T>) -> T {
        event(&mut self.events, what, wanted)
    }

    #[track_caller]
    fn swap(&mut self) -> SwapReport {
        self.wait("a swap", |event| match event {
            Seen::Node(Event::Swap(report)) => Some(report.clone()),
            Seen::Node(Event::Refused { reason, .. }) => panic!("refused: {reason}"),
            Seen::Dev(DevEvent::BuildFailed { reason, .. }) => panic!("not built: {reason}"),
            _ => None,
        })
    }

    /// What came of an edit of the manifest: what holds, what failed, what waits.
    #[track_caller]
    fn edited(&mut self) -> (String, String, String) {
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

    fn answer(&self, name: &str) -> u64 {
        ask(self.app.node(), self.app.node().find(name).unwrap())
    }

    fn builds(&self) -> usize {
        let log = fs::read_to_string(self.path("builds.log")).unwrap_or_default();
        log.lines().count()
    }

    fn is_there(&self, name: &str) -> bool {
        self.app.node().find(name).is_ok()
    }
}

#[test]
fn a_saved_source_is_built_and_swapped_in_alone() {
    let mut it = developed();
    // Whole: one that is seen half written is built twice, rightly.
    it.save_aside("src/one.wat", &answers(2));
    let building = it.wait("a build", |event| match event {
        Seen::Dev(DevEvent::Building { modules, changed }) => {
            Some((modules.clone(), changed.clone()))
        }
        _ => None,
    });
    assert_eq!(building.0, ["one"]);
    assert_eq!(building.1, ["src/one.wat"]);
    let report = it.swap();
    assert_eq!(report.modules.len(), 1);
    assert_eq!(report.changed, ["src/one.wat"]);
    assert!(report.stages.build.is_some());
    // There is no fingerprint of a layout, and so it says.
    assert!(report.not_reused.is_some(), "{report:?}");
    let line = report.to_string();
    assert!(
        line.starts_with(
            "swap one 1 -> 2  src/one.wat  1 process (verified 1: 1 migrated, because "
        ) && line.contains("  build "),
        "{line}"
    );
    assert_eq!(it.answer("one"), 2);
    assert_eq!(it.answer("two"), 1);
    assert_eq!(it.builds(), 1);

    it.save_aside("src/two.wat", &answers(3));
    assert_eq!(it.swap().modules[0].name, "two");
    assert_eq!(it.builds(), 2);
}

#[test]
fn an_event_without_a_changed_source_builds_nothing() {
    let mut it = developed();
    it.save_aside("src/one.wat", &answers(1));
    it.save("src/.one.wat.swp", "x");
    it.save("src/one.wat~", "x");
    it.save("src/4913", "x");
    fs::remove_file(it.path("src/4913")).unwrap();
    it.save("notes.txt", "x");
    it.save_aside("src/two.wat", &answers(1));
    it.save_aside("src/one.wat", &answers(2));
    it.swap();
    assert_eq!(it.builds(), 1);
}

#[test]
fn a_failed_build_keeps_the_old_code_until_it_is_fixed() {
    let mut it = developed();
    it.save("src/one.wat", ";; FAIL to say why\n(module)");
    let (reason, output) = it.wait("a failed build", |event| match event {
        Seen::Dev(DevEvent::BuildFailed { reason, output, .. }) => {
            Some((reason.clone(), output.clone()))
        }
        _ => None,
    });
    assert!(reason.ends_with("failed with exit code 7"), "{reason}");
    assert_eq!(output, ";; FAIL to say why\n");
    assert_eq!(it.answer("one"), 1);
    it.save("src/one.wat", &answers(1));
    let recovered = it.wait("the end of it", |event| match event {
        Seen::Dev(DevEvent::Built { recovered, new, .. }) => Some(*recovered && !*new),
        Seen::Node(Event::Swap(report)) => panic!("the code is the same: {report}"),
        _ => None,
    });
    assert!(recovered);
}

#[test]
fn a_rejected_swap_keeps_the_old_code_until_it_is_fixed() {
    let mut it = developed();
    let refuses = "(func (export \"save\") (result i32) (i32.const 1))\n\
        (func (export \"load\") (param i32 i32) (result i32) (i32.const 1))";
    for text in [
        // It does not assemble.
        "(module".to_owned(),
        // It cannot be loaded.
        "(module)".to_owned(),
        // It takes no state.
        counter("", "(i64.const 2)", refuses),
    ] {
        it.save("src/one.wat", &text);
        let help = it.wait("a refusal", |event| match event {
            Seen::Node(Event::Refused { help, .. }) => Some(help.clone()),
            Seen::Node(Event::Swap(report)) => panic!("swapped: {report}"),
            _ => None,
        });
        if text.contains("(func (export \"load\")") {
            // With the file that this build makes.
            let file = it.path("out/one.wat").display().to_string();
            let command = format!("`exuvia deploy --fresh {file} --name one`");
            assert!(help.as_ref().unwrap().contains(&command), "{help:?}");
        }
        assert_eq!(it.answer("one"), 1);
        it.save("src/one.wat", &answers(1));
        let recovered = it.wait("the end of it", |event| match event {
            Seen::Dev(DevEvent::Built { recovered, .. }) => Some(*recovered),
            Seen::Node(Event::Swap(report)) => panic!("the code is the same: {report}"),
            _ => None,
        });
        assert!(recovered, "{text}");
    }
    it.save("src/one.wat", &answers(5));
    it.swap();
    assert_eq!(it.answer("one"), 5);
}

/// One command that makes two modules, the first only if its source differs, and stops
/// before the second at the word FAIL, as `cargo build` may. `three` is made by hand.
fn shared() -> String {
    let command = "cmp -s src/one.wat out/one.wat || cp src/one.wat out/one.wat; \
        if grep -qs FAIL src/two.wat src/fault; then exit 7; fi; cp src/two.wat out/two.wat; \
        [ -e out/three.wat ] || cp src/one.wat out/three.wat; touch builds.log";
    let module = |name: &str| {
        format!(
            "[modules.{name}]\npath = \"out/{name}.wat\"\nbuild = \"{command}\"\nsources = [\"src\"]\n"
        )
    };
    format!(
        "[app]\nname = \"developed\"\n{}{}[modules.three]\npath = \"out/three.wat\"\n{}{}{}",
        module("one"),
        module("two"),
        child("one", "one"),
        child("two", "two"),
        child("three", "three"),
    )
}

impl Developed {
    #[track_caller]
    fn fails_to_build(&mut self) {
        self.wait("a failed build", |event| match event {
            Seen::Dev(DevEvent::BuildFailed { modules, .. }) => {
                assert_eq!(*modules, ["one", "two"]);
                Some(())
            }
            Seen::Node(Event::Swap(report)) => panic!("swapped: {report}"),
            _ => None,
        });
    }

    /// Saves a file that no build makes, and waits for its swap. What was written before
    /// it has been looked at by then.
    #[track_caller]
    fn swaps_three_alone(&mut self, answer: u64) {
        self.save_aside("out/three.wat", &answers(answer));
        let report = self.swap();
        let modules: Vec<&str> = report.modules.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(modules, ["three"]);
        assert_eq!(self.answer("three"), answer);
    }
}

#[test]
fn output_of_a_failed_build_is_not_swapped_in_until_it_succeeds() {
    let mut it = developed_with(&shared());
    it.save_aside("src/two.wat", "FAIL");
    it.fails_to_build();
    // `one` compiles, and is written; `two` does not.
    it.save_aside("src/one.wat", &answers(2));
    it.fails_to_build();
    assert_eq!(
        fs::read_to_string(it.path("out/one.wat")).unwrap(),
        answers(2)
    );
    it.swaps_three_alone(3);
    assert_eq!((it.answer("one"), it.answer("two")), (1, 1));
    // Nor is a file of the command that somebody else writes.
    it.save_aside("out/two.wat", &answers(9));
    it.swaps_three_alone(4);
    assert_eq!(it.answer("two"), 1);
    // An edit of the manifest looks at all files.
    it.edit(|text| text + &child("more", "three"));
    assert_eq!(it.edited().0, "children started: more");
    assert_eq!((it.answer("one"), it.answer("two")), (1, 1));

    // It succeeds, and leaves the file of `one` alone.
    it.save_aside("src/two.wat", &answers(5));
    assert_eq!(it.swap().modules.len(), 2);
    assert_eq!((it.answer("one"), it.answer("two")), (2, 5));
    // From now on other writers are heard again.
    it.save_aside("out/two.wat", &answers(6));
    assert_eq!(it.swap().modules[0].name, "two");
    assert_eq!(it.answer("two"), 6);
}

#[test]
fn modules_that_wait_for_a_rejected_one_are_not_swapped_in_while_their_build_fails() {
    let mut it = developed_with(&shared());
    it.save_aside("src/fault", "FAIL");
    it.fails_to_build();
    it.save_aside("src/one.wat", "(module)");
    it.fails_to_build();
    it.save_aside("src/two.wat", &answers(2));
    it.fails_to_build();
    fs::remove_file(it.path("src/fault")).unwrap();
    it.wait("a refusal", |event| match event {
        Seen::Node(Event::Refused { what, .. }) => {
            assert_eq!(what, "one, two");
            Some(())
        }
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report}"),
        _ => None,
    });
    // The new code of `two` waits for one that goes with it.
    it.save_aside("src/fault", "FAIL");
    it.fails_to_build();
    it.swaps_three_alone(3);
    it.save_aside("src/one.wat", &answers(2));
    it.fails_to_build();
    fs::remove_file(it.path("src/fault")).unwrap();
    assert_eq!(it.swap().modules.len(), 2);
    assert_eq!((it.answer("one"), it.answer("two")), (2, 2));
}

/// Two modules, each with a command of its own that reads `src/plan`: it has the name of a file for
/// each of them, and a name of no file makes its build fail.
fn planned() -> String {
    let module = |name: &str, line: u32| {
        format!(
            "[modules.{name}]\npath = \"out/{name}.wat\"\nbuild = \"cp made/$(sed -n {line}p src/plan).wat out/{name}.wat\"\n\
             sources = [\"src\"]\n"
        )
    };
    format!(
        "[app]\nname = \"developed\"\n{}{}{}{}",
        module("one", 1),
        module("two", 2),
        child("one", "one"),
        child("two", "two"),
    )
}

#[test]
fn a_module_of_a_refused_swap_is_swapped_in_when_its_build_succeeds_again_with_the_same_bytes() {
    let mut it = developed_in(&planned(), &WatchLimits::default(), |folder| {
        fs::create_dir(folder.join("made")).unwrap();
        for (name, text) in [
            ("1", answers(1)),
            ("2", answers(2)),
            ("bad", "(module)".into()),
        ] {
            fs::write(folder.join(format!("made/{name}.wat")), text).unwrap();
        }
        fs::write(folder.join("src/plan"), "1\n1\n").unwrap();
        fs::write(folder.join("builds.log"), "").unwrap();
    });
    it.save_aside("src/plan", "2\nbad\n");
    it.wait("a refusal", |event| match event {
        Seen::Node(Event::Refused { .. }) => Some(()),
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report}"),
        _ => None,
    });
    it.save_aside("src/plan", "none\nbad\n");
    it.wait("a failed build", |event| {
        matches!(event, Seen::Dev(DevEvent::BuildFailed { .. })).then_some(())
    });
    it.save_aside("src/plan", "2\nbad\n");
    let swapped = it.wait("a swap", |event| match event {
        Seen::Node(Event::Swap(report)) => Some(report.clone()),
        _ => None,
    });
    assert_eq!(swapped.modules.len(), 1);
    assert_eq!(it.answer("one"), 2);
}

#[test]
fn a_module_is_watched_again_when_its_failing_build_leaves_the_manifest() {
    let mut it = developed_with(&shared());
    it.save_aside("src/two.wat", "FAIL");
    it.fails_to_build();
    it.save_aside("out/two.wat", &answers(2));
    it.swaps_three_alone(3);
    it.edit(|text| {
        let (first, second) = text.split_once("[modules.two]").unwrap();
        let lines = second
            .lines()
            .filter(|line| !line.starts_with("build ") && !line.starts_with("sources "));
        let second: Vec<&str> = lines.collect();
        format!("{first}[modules.two]{}\n", second.join("\n"))
    });
    // The command is another one now, which makes `one` alone, and fails as well.
    let swapped = it.wait("a swap", |event| match event {
        Seen::Node(Event::Swap(report)) => Some(report.modules[0].name.clone()),
        _ => None,
    });
    assert_eq!(swapped, "two");
    assert_eq!(it.answer("two"), 2);
}

#[test]
fn many_saves_in_a_row_end_with_the_last() {
    let mut it = developed();
    for answer in 2..502 {
        it.save("src/one.wat", &answers(answer));
    }
    while it.swap().modules[0].name != "one" || it.answer("one") != 501 {}
    // Two changes of both at once, as when a branch is switched.
    for name in ["one", "two"] {
        it.save_aside(&format!("src/{name}.wat"), &answers(700));
    }
    eventually("both are new", || {
        it.answer("one") == 700 && it.answer("two") == 700
    });
}

#[test]
fn a_save_during_a_build_starts_another_build() {
    let slow = manifest().replace(
        "; cp src/one.wat",
        "; touch began; while ! [ -e go ]; do sleep 0.01; done; cp src/one.wat",
    );
    let folder_is_ready = slow.replace(
        "touch began;",
        "touch began; [ -e out/one.wat ] || touch go;",
    );
    let mut it = developed_with(&folder_is_ready);
    for name in ["go", "began"] {
        fs::remove_file(it.path(name)).unwrap();
    }
    it.save("src/one.wat", &answers(2));
    eventually("the build has begun", || it.path("began").exists());
    // Both while it is built.
    it.save("src/one.wat", &answers(3));
    it.save("src/one.wat", &answers(4));
    it.save("go", "");
    eventually("the last save runs", || it.answer("one") == 4);
    // What was saved is built once more, unless the first build has seen it.
    it.save("src/one.wat", &answers(5));
    while it.swap().modules[0].name != "one" || it.answer("one") != 5 {}
    assert!(it.builds() <= 4, "{} builds", it.builds());
}

#[test]
fn a_build_that_changes_its_sources_is_reported_and_slowed_down() {
    let notes = manifest().replace(
        "echo one >> builds.log",
        "echo x >> src/noted; echo one >> builds.log",
    );
    let notes = notes.replace("sources = [\"src/one.wat\"]", "sources = [\"src\"]");
    let mut it = developed_with(&notes);
    let files = it.wait("the complaint", |event| match event {
        Seen::Dev(DevEvent::BuildLoop { files }) => Some(files.clone()),
        _ => None,
    });
    assert_eq!(files, ["src/noted"]);
    // A change of somebody else is not held up by it.
    it.save_aside("src/one.wat", &answers(9));
    eventually("it is built", || it.answer("one") == 9);
}

#[test]
fn a_folder_of_sources_can_disappear_and_return() {
    let mut it = developed();
    fs::remove_dir_all(it.path("src")).unwrap();
    for _ in 0..2 {
        it.wait("failed builds", |event| {
            matches!(event, Seen::Dev(DevEvent::BuildFailed { .. })).then_some(())
        });
    }
    assert_eq!(it.answer("one"), 1);
    fs::create_dir(it.path("src")).unwrap();
    it.save("src/one.wat", &answers(2));
    it.save("src/two.wat", &answers(2));
    eventually("both are new", || {
        it.answer("one") == 2 && it.answer("two") == 2
    });
    it.save("src/one.wat", &answers(3));
    eventually("it is watched", || it.answer("one") == 3);
}

#[test]
fn a_build_that_skips_a_change_by_its_timestamps_is_reported() {
    let by_date = manifest().replace(
        "; cp src/one.wat out/one.wat",
        "; if ! [ -e out/one.wat ] || [ src/one.wat -nt out/one.wat ]; then cp src/one.wat out/one.wat; fi",
    );
    let mut it = developed_with(&by_date);
    // The clock was an hour ahead, and is right again.
    let later = SystemTime::now() + Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(it.path("out/one.wat"));
    file.unwrap().set_modified(later).unwrap();
    it.save("src/one.wat", &answers(2));
    let (line, stale_timestamp) = it.wait("a build", |event| match event {
        Seen::Dev(DevEvent::Built {
            stale_timestamp, ..
        }) => Some((event.to_string(), stale_timestamp.clone())),
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report}"),
        _ => None,
    });
    assert_eq!(stale_timestamp.as_deref(), Some("src/one.wat"));
    assert!(line.contains("touch src/one.wat"), "{line}");
}

#[test]
fn warnings_of_a_successful_build_are_reported() {
    let speaks = manifest().replace("echo two >> builds.log", "echo careful");
    let mut it = developed_with(&format!("{speaks}# "));
    it.save("src/two.wat", &answers(2));
    let output = it.wait("its words", |event| match event {
        Seen::Dev(DevEvent::Built { output, new, .. }) => Some((output.clone(), *new)),
        Seen::Node(Event::Swap(report)) => panic!("swapped without a word: {report}"),
        _ => None,
    });
    assert_eq!(output, ("careful\n".to_owned(), true));
    assert_eq!(it.swap().modules[0].name, "two");
}

#[test]
fn the_end_of_the_watcher_ends_the_build() {
    let hangs = manifest().replace(
        "; cp src/two.wat",
        "; [ -e out/two.wat ] && cp src/two.wat out/two.wat && touch began && sleep 600; cp src/two.wat",
    );
    let mut it = developed_with(&hangs);
    it.save("src/two.wat", &answers(2));
    eventually("it is building", || it.path("began").exists());
    let watcher = it.watcher.take();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(watcher);
        let _ = sender.send(());
    });
    // Long before the build would end by itself.
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(it.stopper.is_stopped());
    assert_eq!(it.answer("two"), 1);
}

/// Moves a file or folder to `elsewhere`, and leaves a link in its place.
fn link(folder: &Path, name: &str) {
    let elsewhere = folder.join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let to = elsewhere.join(Path::new(name).file_name().unwrap());
    fs::rename(folder.join(name), &to).unwrap();
    std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
}

#[test]
fn an_edit_behind_a_link_is_seen() {
    for linked in [&["src/one.wat"][..], &["src"], &["exuvia.toml"]] {
        for sources in ["src/one.wat", "src"] {
            let named = format!("sources = [\"{sources}\"]");
            let text = manifest().replace("sources = [\"src/one.wat\"]", &named);
            let mut it = developed_in(&text, &WatchLimits::default(), |folder| {
                for name in linked {
                    link(folder, name);
                }
            });
            for number in 2..5 {
                // In place, so that the link stays.
                it.save("src/one.wat", &answers(number));
                eventually("the source is built", || it.answer("one") == number);
            }
            for number in 2..5 {
                let id = format!("more-{number}");
                let text = fs::read_to_string(it.path("exuvia.toml")).unwrap();
                it.save("exuvia.toml", &(text + &child(&id, "two")));
                let started = format!("children started: {id}");
                assert_eq!(it.edited().0, started, "{linked:?}");
            }
        }
    }
}

#[test]
fn a_folder_of_links_is_followed_and_links_can_be_redirected() {
    let text = manifest()
        .replace("src/one.wat", "src/lib/one.wat")
        .replace("sources = [\"src/lib/one.wat\"]", "sources = [\"src\"]");
    let it = developed_in(&text, &WatchLimits::default(), |folder| {
        for place in ["here", "there"] {
            fs::create_dir(folder.join(place)).unwrap();
            fs::write(folder.join(place).join("one.wat"), answers(1)).unwrap();
        }
        std::os::unix::fs::symlink("../here", folder.join("src/lib")).unwrap();
    });
    it.save_aside("here/one.wat", &answers(2));
    eventually("the file is built", || it.answer("one") == 2);
    it.save("there/one.wat", &answers(3));
    std::os::unix::fs::symlink("../there", it.path("next")).unwrap();
    fs::rename(it.path("next"), it.path("src/lib")).unwrap();
    eventually("what the link leads to is built", || it.answer("one") == 3);
    it.save_aside("there/one.wat", &answers(4));
    eventually("and is watched", || it.answer("one") == 4);
}

#[test]
fn without_watches_sources_are_polled() {
    for (notifications, watches) in [(false, usize::MAX), (true, 1)] {
        let limits = WatchLimits {
            notifications,
            watches,
            ..WatchLimits::default()
        };
        let mut it = developed_in(&manifest(), &limits, |_| {});
        let line = it.wait("that it looks", |event| match event {
            Seen::Dev(DevEvent::Polling { .. }) => Some(event.to_string()),
            _ => None,
        });
        assert!(line.contains("sysctl -w fs.inotify.max_user_"), "{line}");
        for answer in 2..4 {
            it.save_aside("src/one.wat", &answers(answer));
            eventually("it is built", || it.answer("one") == answer);
        }
        it.edit(|text| text + &child("more", "two"));
        assert_eq!(it.edited().0, "children started: more");
    }
}

#[test]
fn a_pipe_among_the_sources_does_not_block() {
    let everything = manifest().replace("sources = [\"src/one.wat\"]", "sources = [\"src\"]");
    let mut it = developed_with(&everything);
    for name in [".gitignore", ".ignore", "pipe.wat"] {
        let made = std::process::Command::new("mkfifo")
            .arg(it.path("src").join(name))
            .status();
        assert!(made.unwrap().success());
    }
    it.save_aside("src/one.wat", &answers(2));
    eventually("it is built", || it.answer("one") == 2);
    let watcher = it.watcher.take();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(watcher);
        let _ = sender.send(());
    });
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
}

#[test]
fn changes_are_awaited_before_the_app_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("src")).unwrap();
    fs::create_dir(at("out")).unwrap();
    fs::write(at("src/one.wat"), "FAIL").unwrap();
    fs::write(
        at("exuvia.toml"),
        format!("[app]\nname = \"a\"\n{}", module("one")),
    )
    .unwrap();
    let mut build_watcher = BuildWatcher::open(folder.path(), false).unwrap();
    let step = build_watcher.manifest().builds().remove(0);
    assert!(build_watcher.build(&step).is_err());
    fs::write(at("src/one.wat"), answers(1)).unwrap();
    assert_eq!(build_watcher.wait().unwrap(), ["src/one.wat"]);
    build_watcher.build(&step).unwrap();
    fs::write(at("exuvia.toml"), "[app]\nname = \"B\"").unwrap();
    assert!(build_watcher.wait().is_err());
    fs::write(at("exuvia.toml"), "[app]\nname = \"b\"").unwrap();
    assert_eq!(build_watcher.wait().unwrap(), ["exuvia.toml"]);
    assert_eq!(build_watcher.manifest().name, "b");
    build_watcher.stopper().stop();
    assert!(build_watcher.wait().unwrap().is_empty());
}

// ---- the manifest ------------------------------------------------------------

fn memory_of(it: &Developed, name: &str) -> u64 {
    let pid = it.app.node().find(name).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let look = move |process: &mut exuvia_node::GuestProcess, _: &_| {
        let _ = sender.send(process.limits().memory);
    };
    it.app.node().system().control(pid, look).unwrap();
    receiver.recv_timeout(Duration::from_secs(30)).unwrap()
}

#[test]
fn changed_limits_apply_to_running_and_new_processes() {
    let mut it = developed();
    let before = it.app.node().find("one").unwrap();
    assert_eq!(memory_of(&it, "one"), 16 << 20);
    it.edit(|text| text + "\n[limits]\nmemory = \"2MiB\"\n");
    let (applied, failed, restart) = it.edited();
    assert!(
        applied.starts_with("limits of one, two hold for 2 living processes"),
        "{applied}"
    );
    assert_eq!((failed.as_str(), restart.as_str()), ("", ""));
    assert_eq!(memory_of(&it, "one"), 2 << 20);
    // Nobody was restarted, and whoever comes later has them too.
    assert_eq!(it.app.node().find("one").unwrap(), before);
    it.app.node().kill(before);
    eventually("it is restarted", || {
        it.app.node().find("one").is_ok_and(|pid| pid != before)
    });
    assert_eq!(memory_of(&it, "one"), 2 << 20);

    // The node was set up for no more than it was started with.
    it.edit(|text| text.replace("2MiB", "1GiB"));
    let (_, _, restart) = it.edited();
    assert!(restart.contains("`limits.memory` above"), "{restart}");
    assert_eq!(memory_of(&it, "two"), 16 << 20);
}

#[test]
fn children_are_added_and_removed_without_touching_others() {
    let mut it = developed();
    let one = it.app.node().find("one").unwrap();
    let more = "[[supervisor.children]]\nid = \"more\"\nmodule = \"two\"\ncount = 3\nname = \"more-{n}\"\n";
    it.edit(|text| text + more);
    let (applied, ..) = it.edited();
    assert_eq!(applied, "children started: more-0, more-1, more-2");
    assert!(it.is_there("more-2"));

    it.edit(|text| text.replace("count = 3", "count = 1"));
    let (applied, ..) = it.edited();
    assert_eq!(applied, "children stopped: more-1, more-2");
    assert!(it.is_there("more-0") && !it.is_there("more-1"));

    it.edit(|text| text.replace(more, "").replace(&child("two", "two"), ""));
    it.edited();
    eventually("they are stopped", || !it.is_there("two"));
    assert_eq!(it.app.node().find("one").unwrap(), one);

    // A stopped child may come again, also under a name that it had.
    it.edit(|text| text + &child("two", "two"));
    assert_eq!(it.edited().0, "children started: two");
    assert_eq!(it.answer("two"), 1);
}

#[test]
fn a_changed_child_keeps_running_and_restarts_with_its_new_spec() {
    let mut it = developed();
    let before = it.app.node().find("one").unwrap();
    it.edit(|text| text.replace("name = \"one\"", "name = \"uno\""));
    assert_eq!(
        it.edited().0,
        "children changed from their next start on: one"
    );
    assert_eq!(it.app.node().find("one").unwrap(), before);
    it.app.node().kill(before);
    let child = it.wait("its restart", |event| match event {
        Seen::Node(Event::Restarted { child, .. }) => Some(child.clone()),
        _ => None,
    });
    assert_eq!(child, "one");
    eventually("it has its new name", || it.is_there("uno"));
    assert!(!it.is_there("one"));
}

#[test]
fn a_child_that_cannot_start_is_reported_and_the_others_start() {
    let mut it = developed();
    // The name is taken by somebody whom the manifest does not know.
    let taken = it.app.node().find("one").unwrap();
    it.app.node().system().register("taken", taken).ok();
    let blocked = child("blocked", "two").replace("name = \"blocked\"", "name = \"taken\"");
    it.edit(|text| text + &blocked + &child("fine", "two"));
    let (applied, failed, _) = it.edited();
    assert_eq!(applied, "children started: fine");
    assert!(failed.starts_with("child `blocked`: "), "{failed}");
}

#[test]
fn limits_of_one_child_apply_to_it_alone() {
    let two = |memory: &str| {
        format!(
            "{}{}{}[supervisor.children.limits]\nmemory = \"{memory}\"\n{}",
            manifest().replace(&child("one", "one"), ""),
            child("other", "one"),
            child("one", "one"),
            child("last", "one"),
        )
    };
    let mut it = developed_with(&two("16MiB"));
    it.edit(|_| two("1MiB"));
    assert_eq!(it.edited().0, "children with other limits: one");
    for (name, memory) in [("one", 1 << 20), ("other", 16 << 20), ("last", 16 << 20)] {
        assert_eq!(memory_of(&it, name), memory, "{name}");
    }
}

#[test]
fn limits_that_cannot_change_do_not_affect_later_changes() {
    let mut it = developed();
    it.edit(|text| text + "\n[limits]\nmemory = \"32MiB\"\n");
    it.edited();
    it.edit(|text| text.replace("32MiB", "2MiB"));
    let (applied, ..) = it.edited();
    assert!(applied.contains("for 2 living processes"), "{applied}");
    assert_eq!(memory_of(&it, "one"), 2 << 20);
}

#[test]
fn a_child_that_could_not_start_does_when_the_cause_is_fixed() {
    let mut it = developed();
    // Its module needs more than it may have.
    let limited = "[supervisor.children.limits]\nmemory = \"64KiB\"\n";
    it.save(
        "src/two.wat",
        &answers(2).replace(
            "(memory (export \"memory\") 1)",
            "(memory (export \"memory\") 2)",
        ),
    );
    it.swap();
    it.edit(|text| text + &child("late", "two") + limited);
    let (_, failed, _) = it.edited();
    assert!(failed.contains("child `late`"), "{failed}");
    it.edit(|text| text.replace("64KiB", "256KiB"));
    assert_eq!(it.edited().0, "children started: late");

    // Its module is not there until its build is mended.
    it.save("src/three.wat", "FAIL");
    it.edit(|text| text + &module("three") + &child("three", "three"));
    let (_, failed, _) = it.edited();
    assert!(failed.contains("child `three`"), "{failed}");
    it.save("src/three.wat", &answers(3));
    assert_eq!(it.edited().0, "children started: three");
    assert_eq!(it.answer("three"), 3);
}

#[test]
fn many_children_that_cannot_start_and_a_stop_in_the_middle() {
    let mut it = developed();
    let many = "[[supervisor.children]]\nid = \"many\"\nmodule = \"none\"\ncount = 5000\n[modules.none]\npath = \"none.wasm\"\n";
    it.edit(|text| text + many);
    let (_, failed, _) = it.edited();
    assert!(failed.contains("child `many-0`") && it.answer("one") == 1);
    it.edit(|text| text.replace("count = 5000", "count = 5001"));
    drop(it.watcher.take());
    let report = it.app.stop(Duration::from_secs(30));
    assert!(report.orderly, "{report:?}");
}

#[test]
fn an_edit_reaches_nested_supervisors() {
    let below = "[[supervisor.children]]\nid = \"below\"\n[supervisor.children.supervisor]\nintensity = 2\n\
        [[supervisor.children.supervisor.children]]\nid = \"deep\"\nmodule = \"two\"\nname = \"deep\"\n";
    let mut it = developed_with(&format!("{}{below}", manifest()));
    let deep = it.app.node().find("deep").unwrap();
    let another = "[[supervisor.children.supervisor.children]]\nid = \"deeper\"\nmodule = \"two\"\nname = \"deeper\"\n";
    it.edit(|text| text.replace("intensity = 2", "intensity = 9") + another);
    let (applied, failed, restart) = it.edited();
    assert_eq!(
        applied,
        "strategy and intensity of a supervisor; children started: deeper"
    );
    assert_eq!((failed.as_str(), restart.as_str()), ("", ""));
    assert_eq!(it.app.node().find("deep").unwrap(), deep);
    // It has its intensity: the third end within the period is no longer the last.
    for _ in 0..5 {
        let pid = it.app.node().find("deep").unwrap();
        it.app.node().kill(pid);
        eventually("it is restarted", || {
            it.app.node().find("deep").is_ok_and(|now| now != pid)
        });
    }
    assert!(it.is_there("one"));
}

#[test]
fn a_module_is_added_with_its_build_and_its_children() {
    let mut it = developed();
    it.save("src/three.wat", &answers(3));
    it.edit(|text| text + &module("three") + &child("three", "three"));
    assert_eq!(it.edited().0, "children started: three");
    assert_eq!(it.answer("three"), 3);
    it.save("src/three.wat", &answers(4));
    eventually("it is watched", || it.answer("three") == 4);
    // And one that somebody else has built.
    it.save("out/four.wat", &answers(4));
    it.edit(|text| text + "[modules.four]\npath = \"out/four.wat\"\n" + &child("four", "four"));
    assert_eq!(it.edited().0, "children started: four");
    assert_eq!(it.answer("four"), 4);
}

#[test]
fn fixed_settings_are_named_and_a_broken_manifest_changes_nothing() {
    let mut it = developed();
    it.edit(|text| {
        text.replace("\"developed\"", "\"other\"") + "[node]\nschedulers = 1\nprobation = 9\n"
    });
    let (applied, _, restart) = it.edited();
    assert_eq!(applied, "");
    assert_eq!(
        restart,
        "the app's name; `schedulers`, `probation` of `[node]`"
    );
    it.edit(|text| text + "[nodes]\n");
    let reason = it.wait("a refusal", |event| match event {
        Seen::Dev(DevEvent::ManifestRefused { reason }) => Some(reason.clone()),
        Seen::Dev(DevEvent::Manifest { .. }) => panic!("taken"),
        _ => None,
    });
    assert!(reason.contains("unknown key `nodes`"), "{reason}");
    fs::remove_file(it.path("exuvia.toml")).unwrap();
    it.wait("a refusal", |event| {
        matches!(event, Seen::Dev(DevEvent::ManifestRefused { .. })).then_some(())
    });
    assert_eq!(it.answer("one"), 1);
    it.save("exuvia.toml", &(manifest() + &child("more", "two")));
    assert_eq!(it.edited().0, "children started: more");
    let filter = Filter::default();
    assert!(it.app.node().processes(&filter).len() >= 5);
    let path: &Path = it.folder.path();
    assert!(path.exists());
}

#[test]
fn a_child_starts_when_the_file_of_its_module_appears() {
    let mut it = developed();
    let late = "[modules.late]\npath = \"out/late.wat\"\n";
    it.edit(|text| text + late + &child("late", "late"));
    let (_, failed, _) = it.edited();
    assert!(failed.contains("child `late`"), "{failed}");
    it.save("out/late.wat", &answers(8));
    assert_eq!(it.edited().0, "children started: late");
    assert_eq!(it.answer("late"), 8);
}

#[test]
fn a_manifest_that_is_not_a_file_or_is_endless_is_rejected() {
    let mut it = developed();
    for make in ["mkfifo", "ln -s /dev/zero", "mkdir"] {
        let script = format!("{make} other && mv exuvia.toml old && mv other exuvia.toml");
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(it.folder.path())
            .status();
        assert!(status.unwrap().success());
        it.wait(make, |event| {
            matches!(event, Seen::Dev(DevEvent::ManifestRefused { .. })).then_some(())
        });
        fs::remove_dir_all(it.path("exuvia.toml"))
            .or_else(|_| fs::remove_file(it.path("exuvia.toml")))
            .unwrap();
        it.save_aside("exuvia.toml", &format!("{}# {make}\n", manifest()));
        it.edited();
    }
    it.save("src/one.wat", &answers(6));
    eventually("sources are watched", || it.answer("one") == 6);
}

#[test]
fn a_changed_path_of_a_module_applies_at_once() {
    let it = developed_with(
        &(manifest() + "[modules.made]\npath = \"out/one.wat\"\n" + &child("made", "made")),
    );
    it.save("out/other.wat", &answers(7));
    it.edit(|text| {
        let before = "[modules.made]\npath = \"out/one.wat\"";
        text.replace(before, "[modules.made]\npath = \"out/other.wat\"")
    });
    eventually("the other file runs", || it.answer("made") == 7);
    it.save("out/other.wat", &answers(8));
    eventually("it is watched", || it.answer("made") == 8);
}
