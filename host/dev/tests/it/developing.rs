//! The development loop: sources, builds and swaps of an app that runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use exuvia_dev::{BuildWatcher, Event as DevEvent, WatchLimits};
use exuvia_node::Event;

use crate::developed::{
    Developed, answers, child, developed, developed_in, developed_with, manifest, module,
};
use crate::guests::{counter, eventually};
use crate::seen::Seen;

#[test]
fn a_saved_source_is_built_and_swapped_in_alone() {
    let mut it = developed();
    // Whole: one that is seen half written is built twice, rightly.
    it.save_by_rename("src/one.wat", &answers(2));
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
    assert_eq!((report.modules[0].from, report.modules[0].to), (Some(1), 2));
    assert_eq!((report.processes, report.verified), (1, 1));
    assert_eq!(report.verified_by_path, [("migrated", 1)]);
    assert_eq!(it.answer("one"), 2);
    assert_eq!(it.answer("two"), 1);
    assert_eq!(it.builds(), 1);

    it.save_by_rename("src/two.wat", &answers(3));
    assert_eq!(it.swap().modules[0].name, "two");
    assert_eq!(it.builds(), 2);
}

#[test]
fn an_event_without_a_changed_source_builds_nothing() {
    let mut it = developed();
    it.save_by_rename("src/one.wat", &answers(1));
    it.save("src/.one.wat.swp", "x");
    it.save("src/one.wat~", "x");
    it.save("src/4913", "x");
    fs::remove_file(it.path("src/4913")).unwrap();
    it.save("notes.txt", "x");
    it.save_by_rename("src/two.wat", &answers(1));
    it.save_by_rename("src/one.wat", &answers(2));
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
        Seen::Node(Event::Swap(report)) => panic!("the code is the same: {report:?}"),
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
            Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
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
            Seen::Node(Event::Swap(report)) => panic!("the code is the same: {report:?}"),
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
            Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
            _ => None,
        });
    }

    /// Saves a file that no build makes, and waits for its swap. What was written before
    /// it has been looked at by then.
    #[track_caller]
    fn swaps_three_alone(&mut self, answer: u64) {
        self.save_by_rename("out/three.wat", &answers(answer));
        let report = self.swap();
        let modules: Vec<&str> = report.modules.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(modules, ["three"]);
        assert_eq!(self.answer("three"), answer);
    }
}

#[test]
fn output_of_a_failed_build_is_not_swapped_in_until_it_succeeds() {
    let mut it = developed_with(&shared());
    it.save_by_rename("src/two.wat", "FAIL");
    it.fails_to_build();
    // `one` compiles, and is written; `two` does not.
    it.save_by_rename("src/one.wat", &answers(2));
    it.fails_to_build();
    assert_eq!(
        fs::read_to_string(it.path("out/one.wat")).unwrap(),
        answers(2)
    );
    it.swaps_three_alone(3);
    assert_eq!((it.answer("one"), it.answer("two")), (1, 1));
    // Nor is a file of the command that somebody else writes.
    it.save_by_rename("out/two.wat", &answers(9));
    it.swaps_three_alone(4);
    assert_eq!(it.answer("two"), 1);
    // An edit of the manifest looks at all files.
    it.edit(|text| text + &child("more", "three"));
    assert_eq!(it.edited().0, "children started: more");
    assert_eq!((it.answer("one"), it.answer("two")), (1, 1));

    // It succeeds, and leaves the file of `one` alone.
    it.save_by_rename("src/two.wat", &answers(5));
    assert_eq!(it.swap().modules.len(), 2);
    assert_eq!((it.answer("one"), it.answer("two")), (2, 5));
    // From now on other writers are heard again.
    it.save_by_rename("out/two.wat", &answers(6));
    assert_eq!(it.swap().modules[0].name, "two");
    assert_eq!(it.answer("two"), 6);
}

#[test]
fn modules_that_wait_for_a_rejected_one_are_not_swapped_in_while_their_build_fails() {
    let mut it = developed_with(&shared());
    it.save_by_rename("src/fault", "FAIL");
    it.fails_to_build();
    it.save_by_rename("src/one.wat", "(module)");
    it.fails_to_build();
    it.save_by_rename("src/two.wat", &answers(2));
    it.fails_to_build();
    fs::remove_file(it.path("src/fault")).unwrap();
    it.wait("a refusal", |event| match event {
        Seen::Node(Event::Refused { what, .. }) => {
            assert_eq!(what, "one, two");
            Some(())
        }
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
        _ => None,
    });
    // The new code of `two` waits for one that goes with it.
    it.save_by_rename("src/fault", "FAIL");
    it.fails_to_build();
    it.swaps_three_alone(3);
    it.save_by_rename("src/one.wat", &answers(2));
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
    it.save_by_rename("src/plan", "2\nbad\n");
    it.wait("a refusal", |event| match event {
        Seen::Node(Event::Refused { .. }) => Some(()),
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
        _ => None,
    });
    it.save_by_rename("src/plan", "none\nbad\n");
    it.wait("a failed build", |event| {
        matches!(event, Seen::Dev(DevEvent::BuildFailed { .. })).then_some(())
    });
    it.save_by_rename("src/plan", "2\nbad\n");
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
    it.save_by_rename("src/two.wat", "FAIL");
    it.fails_to_build();
    it.save_by_rename("out/two.wat", &answers(2));
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
        it.save_by_rename(&format!("src/{name}.wat"), &answers(700));
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
    it.save_by_rename("src/one.wat", &answers(9));
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
    let stale_timestamp = it.wait("a build", |event| match event {
        Seen::Dev(DevEvent::Built {
            stale_timestamp, ..
        }) => Some(stale_timestamp.clone()),
        Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
        _ => None,
    });
    assert_eq!(stale_timestamp.as_deref(), Some("src/one.wat"));
}

#[test]
fn warnings_of_a_successful_build_are_reported() {
    let speaks = manifest().replace("echo two >> builds.log", "echo careful");
    let mut it = developed_with(&format!("{speaks}# "));
    it.save("src/two.wat", &answers(2));
    let output = it.wait("its words", |event| match event {
        Seen::Dev(DevEvent::Built { output, new, .. }) => Some((output.clone(), *new)),
        Seen::Node(Event::Swap(report)) => panic!("swapped without a word: {report:?}"),
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
    it.save_by_rename("here/one.wat", &answers(2));
    eventually("the file is built", || it.answer("one") == 2);
    it.save("there/one.wat", &answers(3));
    std::os::unix::fs::symlink("../there", it.path("next")).unwrap();
    fs::rename(it.path("next"), it.path("src/lib")).unwrap();
    eventually("what the link leads to is built", || it.answer("one") == 3);
    it.save_by_rename("there/one.wat", &answers(4));
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
        let help = it.wait("that files are polled", |event| match event {
            Seen::Dev(DevEvent::Polling { help, .. }) => Some(help.clone()),
            _ => None,
        });
        assert!(help.contains("sysctl -w fs.inotify.max_user_"), "{help}");
        for answer in 2..4 {
            it.save_by_rename("src/one.wat", &answers(answer));
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
    it.save_by_rename("src/one.wat", &answers(2));
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
