//! The watcher: what a change of a file is, and what is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use exuvia_dev::{Event as DevEvent, WatchLimits, Watcher};
use exuvia_manifest::Manifest;
use exuvia_node::{App, Event, SwapReport};
use tokio::sync::broadcast;

use crate::guests::{STATE, ask, boot_options, counter, eventually};
use crate::seen::{Seen, event};

/// A counter that answers `answer` and keeps its state.
fn wasm(answer: u64) -> Vec<u8> {
    wat::parse_str(counter("", &format!("(i64.const {answer})"), STATE)).unwrap()
}

/// An app whose two modules are watched, in a folder of its own.
struct Watched {
    folder: tempfile::TempDir,
    app: App,
    events: broadcast::Receiver<Event>,
    // Before the folder goes.
    watcher: Option<Watcher>,
}

fn watched() -> Watched {
    watched_within(&WatchLimits::default())
}

fn watched_within(limits: &WatchLimits) -> Watched {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("build")).unwrap();
    for name in ["one", "two"] {
        fs::write(folder.path().join(format!("build/{name}.wasm")), wasm(1)).unwrap();
    }
    let text = "[app]\nname = \"watched\"\n[modules.one]\npath = \"build/one.wasm\"\n[modules.two]\npath = \"build/two.wasm\"\n\
        [supervisor]\n[[supervisor.children]]\nid = \"one\"\nname = \"one\"\nmodule = \"one\"\n\
        [[supervisor.children]]\nid = \"two\"\nname = \"two\"\nmodule = \"two\"\n";
    let manifest = Manifest::parse(text, "exuvia.toml", folder.path()).unwrap();
    let options = boot_options(&manifest);
    let app = App::boot(manifest, options).unwrap();
    let events = app.node().events();
    let watcher = Watcher::watch(&app, limits).unwrap();
    Watched {
        folder,
        app,
        events,
        watcher: Some(watcher),
    }
}

impl Watched {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("build/{name}.wasm"))
    }

    /// Puts a file in place as compilers and editors do: beside, then renamed.
    fn rename_over(&self, name: &str, bytes: &[u8]) {
        replace(&self.path(name), bytes);
    }

    fn swap(&mut self) -> SwapReport {
        event(&mut self.events, "a swap", |event| match event {
            Seen::Node(Event::Swap(report)) => Some(SwapReport::clone(report)),
            Seen::Node(Event::Refused { reason, .. }) => panic!("refused: {reason}"),
            _ => None,
        })
    }

    fn refusal(&mut self) -> String {
        event(&mut self.events, "a refusal", |event| match event {
            Seen::Node(Event::Swap(report)) => panic!("swapped: {report:?}"),
            Seen::Node(Event::Refused { reason, .. }) => Some(reason.clone()),
            _ => None,
        })
    }

    #[track_caller]
    fn answers(&self, name: &str, answer: u64) {
        let pid = self.app.node().find(name).unwrap();
        assert_eq!(ask(self.app.node(), pid), answer);
    }

    /// The next swap is this one: whatever came before was no change.
    #[track_caller]
    fn next_is(&mut self, name: &str, answer: u64) {
        self.rename_over(name, &wasm(answer));
        let report = self.swap();
        let names: Vec<_> = report
            .modules
            .iter()
            .map(|module| module.name.as_str())
            .collect();
        assert_eq!(names, [name]);
        self.answers(name, answer);
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("tmp");
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn each_rename_over_a_file_is_swapped_in() {
    let mut it = watched();
    for answer in 2..5 {
        it.rename_over("one", &wasm(answer));
        let report = it.swap();
        assert_eq!(report.modules.len(), 1);
        assert_eq!(report.release, answer);
        it.answers("one", answer);
        it.answers("two", 1);
    }
}

#[test]
fn a_file_that_is_written_in_pieces_is_never_loaded_partially() {
    use std::io::Write as _;
    let mut it = watched();
    let bytes = wasm(2);
    let mut file = fs::File::create(it.path("one")).unwrap();
    // Truncated, and nothing in it for longer than any debouncing: no event
    // can tell us so, so the other module's swap is waited for.
    it.next_is("two", 7);
    file.write_all(&bytes).unwrap();
    drop(file);
    let report = it.swap();
    assert_eq!(report.modules[0].name, "one");
    it.answers("one", 2);
    // Cut in the middle and left so: refused, and the old code runs.
    fs::write(it.path("one"), &wasm(3)[..100]).unwrap();
    it.refusal();
    it.answers("one", 2);
    fs::write(it.path("one"), wasm(3)).unwrap();
    it.swap();
    it.answers("one", 3);
}

#[test]
fn a_touch_without_a_change_is_ignored() {
    let mut it = watched();
    let same = wasm(1);
    let file = fs::File::options()
        .append(true)
        .open(it.path("one"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
    drop(file);
    it.rename_over("one", &same);
    fs::write(it.path("one"), &same).unwrap();
    it.next_is("two", 2);
    assert_eq!(it.app.node().info().release, 2);
    // Nor is a file beside.
    fs::write(it.folder.path().join("build/three.wasm"), wasm(9)).unwrap();
    it.next_is("one", 2);
    assert_eq!(it.app.node().info().release, 3);
}

#[test]
fn two_files_that_change_together_are_one_swap() {
    let mut it = watched();
    it.rename_over("one", &wasm(2));
    it.rename_over("two", &wasm(3));
    let report = it.swap();
    let mut names: Vec<_> = report
        .modules
        .iter()
        .map(|module| module.name.clone())
        .collect();
    names.sort();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(report.release, 2);
    it.answers("one", 2);
    it.answers("two", 3);
}

#[test]
fn a_broken_file_is_rejected_and_can_be_fixed() {
    let mut it = watched();
    it.rename_over("one", b"this is no module");
    let reason = it.refusal();
    assert!(reason.contains("one.wasm"), "{reason}");
    it.answers("one", 1);
    it.rename_over("one", &wasm(2));
    it.swap();
    it.answers("one", 2);
    // Broken, then as it was: nothing to do, and the next change is seen.
    it.rename_over("one", b"broken again");
    it.refusal();
    it.rename_over("one", &wasm(2));
    it.next_is("one", 5);
}

#[test]
fn if_one_of_two_is_broken_neither_is_swapped_until_it_is_fixed() {
    let mut it = watched();
    it.rename_over("one", b"broken");
    it.rename_over("two", &wasm(2));
    it.refusal();
    it.answers("two", 1);
    it.rename_over("one", &wasm(2));
    let report = it.swap();
    assert_eq!(report.modules.len(), 2, "the good one is not forgotten");
    it.answers("one", 2);
    it.answers("two", 2);
}

#[test]
fn a_module_that_fails_verification_does_not_hold_back_others() {
    let mut it = watched();
    let picky = STATE.replace("(i32.const 0))", "(i32.const 1))");
    let picky = wat::parse_str(counter("", "(i64.const 2)", &picky)).unwrap();
    it.rename_over("one", &picky);
    it.rename_over("two", &wasm(2));
    let reason = it.refusal();
    assert!(reason.contains("one"), "{reason}");
    it.answers("two", 1);
    // Only the one that was refused is left out of the next swap.
    it.rename_over("two", &wasm(3));
    let report = it.swap();
    assert_eq!(report.modules.len(), 1);
    it.answers("one", 1);
    it.answers("two", 3);
}

#[test]
fn a_folder_can_disappear_and_return() {
    let mut it = watched();
    for answer in 2..4 {
        fs::remove_dir_all(it.folder.path().join("build")).unwrap();
        // Gone is no change: the code runs on.
        it.answers("one", answer - 1);
        fs::create_dir(it.folder.path().join("build")).unwrap();
        for name in ["one", "two"] {
            fs::write(it.path(name), wasm(answer)).unwrap();
        }
        // One swap or two: the files are not written at once.
        let mut modules = it.swap().modules.len();
        while modules < 2 {
            modules += it.swap().modules.len();
        }
        it.answers("one", answer);
        it.answers("two", answer);
    }
}

#[test]
fn a_folder_can_be_replaced_by_another() {
    let mut it = watched();
    let (build, new) = (it.folder.path().join("build"), it.folder.path().join("new"));
    fs::create_dir(&new).unwrap();
    fs::write(new.join("one.wasm"), wasm(2)).unwrap();
    fs::write(new.join("two.wasm"), wasm(1)).unwrap();
    fs::rename(&build, it.folder.path().join("old")).unwrap();
    fs::rename(&new, &build).unwrap();
    let report = it.swap();
    assert_eq!(report.modules.len(), 1);
    it.answers("one", 2);
    it.next_is("one", 3);
}

#[test]
fn a_file_in_a_folder_that_is_created_later_is_watched() {
    let mut it = watched();
    let deep = it.folder.path().join("build");
    fs::remove_dir_all(&deep).unwrap();
    // Made in steps, and the file last, after the watcher has seen the folder.
    fs::create_dir(&deep).unwrap();
    fs::write(it.path("two"), wasm(6)).unwrap();
    it.swap();
    it.rename_over("one", &wasm(4));
    it.swap();
    it.answers("one", 4);
}

#[test]
fn a_link_to_a_file_is_followed() {
    let mut it = watched();
    let store = it.folder.path().join("store");
    fs::create_dir(&store).unwrap();
    for answer in 2..4u64 {
        let to = store.join(format!("{answer}.wasm"));
        fs::write(&to, wasm(answer)).unwrap();
        let beside = it.folder.path().join("build/link.tmp");
        std::os::unix::fs::symlink(&to, &beside).unwrap();
        fs::rename(&beside, it.path("one")).unwrap();
        it.swap();
        it.answers("one", answer);
    }
}

#[test]
fn a_dropped_watcher_stops_watching() {
    let it = watched();
    let Watched {
        folder,
        app,
        mut events,
        watcher,
    } = it;
    drop(watcher);
    replace(&folder.path().join("build/one.wasm"), &wasm(2));
    // Another one begins where the files are, and sees what changes now only
    // if it differs from what runs.
    let again = Watcher::watch(&app, &WatchLimits::default()).unwrap();
    replace(&folder.path().join("build/two.wasm"), &wasm(2));
    let report = event(&mut events, "a swap", |event| match event {
        Seen::Node(Event::Swap(report)) => Some(SwapReport::clone(report)),
        _ => None,
    });
    assert!(report.modules.iter().any(|module| module.name == "two"));
    eventually("both run", || {
        ["one", "two"]
            .iter()
            .all(|name| ask(app.node(), app.node().find(name).unwrap()) == 2)
    });
    drop(again);
    assert!(app.stop(Duration::from_secs(10)).orderly);
}

/// A counter that answers what is at 4096, where its data has a number; and the same
/// as far as its file goes before that data.
fn with_data(number: u64) -> (Vec<u8>, usize) {
    let bytes: String = (number.to_le_bytes().iter())
        .map(|byte| format!("\\{byte:02x}"))
        .collect();
    let data = format!("{STATE} (data (i32.const 4096) \"{bytes}\")");
    let text = counter("", "(i64.load (i32.const 4096))", &data);
    let module = wat::parse_str(text).unwrap();
    // Before it: the section's id and size, one segment, its place, its size.
    let at = (module.windows(8))
        .position(|bytes| bytes == number.to_le_bytes())
        .unwrap();
    (module, at - 9)
}

#[test]
fn the_data_section_of_the_test_module_is_where_expected() {
    let (module, cut) = with_data(5);
    assert_eq!(module[cut], 11, "the id of the data section");
}

#[test]
fn a_busy_neighbouring_file_delays_nothing() {
    let mut it = watched();
    let noise = it.folder.path().join("build/noise");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let busy = std::thread::spawn(move || {
        while stopped
            .recv_timeout(Duration::from_millis(10))
            .is_err_and(|it| it == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            fs::write(&noise, "x").unwrap();
        }
    });
    it.rename_over("one", &wasm(2));
    it.swap();
    it.answers("one", 2);
    // Neither is what no event tells of, as a file that is cut off.
    fs::write(it.path("one"), &wasm(3)[..100]).unwrap();
    it.refusal();
    drop(stop);
    busy.join().unwrap();
}

#[test]
fn a_file_that_is_open_for_writing_is_not_loaded_at_the_end_of_a_section() {
    use std::io::Write as _;
    let mut it = watched();
    let (module, cut) = with_data(5);
    let mut file = fs::File::create(it.path("one")).unwrap();
    file.write_all(&module[..cut]).unwrap();
    it.next_is("two", 7);
    file.write_all(&module[cut..]).unwrap();
    drop(file);
    let report = it.swap();
    assert_eq!(report.modules[0].name, "one");
    it.answers("one", 5);
}

#[test]
fn a_file_that_lost_its_data_section_is_read_again() {
    use std::io::Write as _;
    let mut it = watched();
    it.rename_over("one", &with_data(5).0);
    it.swap();
    // Its writer closes it in between.
    let (module, cut) = with_data(6);
    fs::write(it.path("one"), &module[..cut]).unwrap();
    it.next_is("two", 7);
    let mut file = fs::File::options()
        .append(true)
        .open(it.path("one"))
        .unwrap();
    file.write_all(&module[cut..]).unwrap();
    drop(file);
    it.swap();
    it.answers("one", 6);
    // Who wants it without gets it, a little later.
    it.rename_over("one", &wasm(9));
    it.swap();
    it.answers("one", 9);
}

#[test]
fn a_text_module_that_is_written_slowly_is_never_loaded_partially() {
    use std::io::Write as _;
    let mut it = watched();
    // Text is text, whatever its file is called.
    let text = counter("", "(i64.const 4)", STATE);
    let (one, two) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(it.path("one")).unwrap();
    file.write_all(one.as_bytes()).unwrap();
    it.next_is("two", 7);
    file.write_all(two.as_bytes()).unwrap();
    drop(file);
    let report = it.swap();
    assert_eq!(report.modules[0].name, "one");
    it.answers("one", 4);
}

#[test]
fn files_and_folders_behind_links_are_watched() {
    let mut it = watched();
    let at = |name: &str| it.folder.path().join(name);
    for name in ["store", "store/a", "store/b"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("one.wasm"), wasm(1)).unwrap();
    }
    let (a, b, link) = (at("store/a"), at("store/b"), at("build/one.wasm"));
    std::os::unix::fs::symlink(&a, at("current")).unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("../current/one.wasm", &link).unwrap();
    replace(&a.join("one.wasm"), &wasm(2));
    it.swap();
    it.answers("one", 2);
    fs::write(b.join("one.wasm"), wasm(3)).unwrap();
    let beside = it.folder.path().join("next");
    std::os::unix::fs::symlink(&b, &beside).unwrap();
    fs::rename(beside, it.folder.path().join("current")).unwrap();
    it.swap();
    it.answers("one", 3);
    replace(&b.join("one.wasm"), &wasm(4));
    it.swap();
    it.answers("one", 4);
}

#[test]
fn a_pipe_in_place_of_a_file_is_reported_and_does_not_block() {
    let mut it = watched();
    fs::remove_file(it.path("one")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(it.path("one"))
        .status();
    assert!(made.unwrap().success());
    let reason = event(&mut it.events, "the pipe", |event| match event {
        Seen::Dev(DevEvent::FileUnreadable { reason, .. }) => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason, "is not a regular file");
    it.next_is("two", 2);
    it.rename_over("one", &wasm(3));
    it.swap();
    it.answers("one", 3);
}

#[test]
fn without_watches_files_are_polled() {
    for (notifications, watches, setting) in [
        (false, usize::MAX, "fs.inotify.max_user_instances"),
        (true, 0, "fs.inotify.max_user_watches"),
    ] {
        let mut it = watched_within(&WatchLimits {
            notifications,
            watches,
            ..WatchLimits::default()
        });
        let help = event(&mut it.events, "that it looks", |event| match event {
            Seen::Dev(DevEvent::Polling { help, .. }) => Some(help.clone()),
            _ => None,
        });
        assert!(help.contains(setting), "{help}");
        assert!(it.watcher.as_ref().unwrap().polling_reason().is_some());
        for answer in 2..4 {
            it.next_is("one", answer);
        }
    }
}

#[test]
fn a_file_system_that_hangs_does_not_delay_the_stop() {
    use std::sync::{Arc, Mutex};
    let answers = Arc::new(Mutex::new(()));
    let (asks, asked) = std::sync::mpsc::channel();
    let waits = answers.clone();
    let mut it = watched_within(&WatchLimits {
        before_scan: Some(Arc::new(move || {
            let _ = asks.send(());
            drop(waits.lock());
        })),
        ..WatchLimits::default()
    });
    let silence = answers.lock().unwrap();
    while asked.try_recv().is_ok() {}
    it.rename_over("one", &wasm(2));
    asked.recv().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let watcher = it.watcher.take();
    std::thread::spawn(move || {
        drop(watcher);
        let _ = sender.send(());
    });
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(it.app.stop(Duration::from_secs(10)).orderly);
    // What answers at last swaps nothing any more.
    drop(silence);
    while asked.recv().is_ok() {}
    let swapped = |event: Event| matches!(event, Event::Swap(_));
    assert!(!std::iter::from_fn(|| it.events.try_recv().ok()).any(swapped));
}
