//! Releases outlast the node: a start goes on with the last one, unless a file was edited since.

use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{
    App, BootError, BootOptions, Choice, DeployOptions, Event, Events, ModuleBytes, NodeConfig,
    Origin, Outcome, Pid, ReleaseInfo, Retention, StartWith, StoreError, StoreOptions, SwapError,
};

use crate::guests::{STATE, ask, boot_options, counter, event, eventually, module, with_layout};

/// Counts messages, and answers with the count and a thousand times its version. `rest` is added.
fn code(version: u32, rest: &str) -> String {
    let count = "(call $set (i64.add (call $count) (i64.const 1)))";
    let answer = format!("(i64.add (call $count) (i64.const {version}000))");
    counter(count, &answer, &format!("{STATE}{rest}"))
}

/// Traps at its first message.
fn broken() -> String {
    let answer = "(i64.const 9)";
    counter("(unreachable)", answer, STATE)
}

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("it.wasm"), wat::parse_str(text).unwrap()).unwrap();
}

struct Running {
    app: App,
    resumed: Option<Event>,
}

fn try_boot(folder: &Path, start: StartWith) -> Result<Running, BootError> {
    try_boot_with(folder, "", start)
}

/// With more in the manifest.
fn try_boot_with(folder: &Path, more: &str, start: StartWith) -> Result<Running, BootError> {
    let text = format!(
        "[app]\nname = \"lasts\"\n[modules.it]\npath = \"it.wasm\"\n{more}\
        [[supervisor.children]]\nid = \"it\"\nname = \"it\"\nmodule = \"it\"\n"
    );
    let manifest = with_layout(Manifest::parse(&text, "exuvia.toml", folder).unwrap());
    let events = Events::default();
    let mut heard = events.listen();
    let usual = boot_options(&manifest);
    let app = App::boot(
        manifest,
        BootOptions {
            config: usual.config.map(|config| NodeConfig {
                release_threshold: 1,
                ..config
            }),
            events,
            store: Some(StoreOptions {
                path: folder.join("state/releases"),
                retention: Retention::default(),
                start,
            }),
            ..BootOptions::default()
        },
    )?;
    let resumed = std::iter::from_fn(|| heard.try_recv().ok())
        .find(|event| matches!(event, Event::Resumed(_)));
    Ok(Running { app, resumed })
}

fn boot(folder: &Path) -> Running {
    try_boot(folder, StartWith::Newer).unwrap_or_else(|error| panic!("{error}"))
}

impl Running {
    fn it(&self) -> Pid {
        self.app.node().find("it").unwrap()
    }

    fn answer(&self) -> u64 {
        ask(self.app.node(), self.it())
    }

    fn deploy(&self, text: &str, options: DeployOptions) -> Result<u64, SwapError> {
        let modules = vec![module("it", text)];
        Ok(self.app.node().deploy(modules, options)?.release)
    }

    fn releases(&self) -> Vec<ReleaseInfo> {
        self.app.node().releases()
    }

    /// The origins of all releases, oldest first.
    fn origins(&self) -> Vec<Origin> {
        let releases = self.releases().into_iter().rev();
        releases.map(|it| it.logged.unwrap().origin).collect()
    }

    /// Why `it` is not what both its file and the release have.
    fn choice(&self) -> Option<(u64, u64, Choice)> {
        match &self.resumed {
            Some(Event::Resumed(resumed)) => {
                let [only] = &resumed.modules[..] else {
                    panic!("{resumed:?}");
                };
                Some((resumed.stored, resumed.release, only.from))
            }
            _ => None,
        }
    }

    fn stop(self) {
        assert!(self.app.stop(Duration::from_secs(10)).orderly);
    }
}

fn deployed() -> DeployOptions {
    DeployOptions {
        author: "someone".into(),
        message: "why".into(),
        ..DeployOptions::default()
    }
}

#[test]
fn a_start_goes_on_with_what_was_deployed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    assert_eq!((running.answer(), running.choice()), (1000, None));
    assert_eq!(running.deploy(&code(2, ""), deployed()).unwrap(), 2);
    assert_eq!(running.answer(), 2000);
    running.stop();

    for _ in 0..2 {
        let running = boot(folder.path());
        assert_eq!(running.answer(), 2000);
        assert_eq!(running.choice(), Some((2, 2, Choice::FileUnchanged)));
        assert_eq!(running.origins(), [Origin::Files, Origin::Deploy]);
        let last = &running.releases()[0];
        assert!(last.is_current);
        let logged = last.logged.as_ref().unwrap();
        assert_eq!(
            (logged.author.as_str(), logged.message.as_str()),
            ("someone", "why")
        );
        assert_eq!(running.app.node().info().release, 2);
        running.stop();
    }
    // Without its file, too.
    std::fs::remove_file(folder.path().join("it.wasm")).unwrap();
    let running = boot(folder.path());
    assert_eq!(running.answer(), 2000);
    assert_eq!(running.choice(), Some((2, 2, Choice::FileMissing)));
    // The next release has the next number.
    assert_eq!(running.deploy(&code(3, ""), deployed()).unwrap(), 3);
    running.stop();
}

#[test]
fn a_file_that_was_edited_since_wins_unless_the_release_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    running.deploy(&code(2, ""), deployed()).unwrap();
    running.stop();
    write(folder.path(), &code(3, ""));
    let running = try_boot(folder.path(), StartWith::Release).unwrap();
    assert_eq!(running.answer(), 2000);
    assert_eq!(running.choice(), Some((2, 2, Choice::Asked)));
    running.stop();
    // It was read then, and so it is not newer than the release that was asked for.
    let running = boot(folder.path());
    assert_eq!(
        (running.answer(), running.choice()),
        (2000, Some((2, 2, Choice::FileUnchanged)))
    );
    running.stop();

    write(folder.path(), &code(4, ""));
    let running = boot(folder.path());
    assert_eq!(
        (running.answer(), running.choice()),
        (4000, Some((2, 3, Choice::FileEdited)))
    );
    running.stop();
    // Back to what it was long ago: that is an edit as well.
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    assert_eq!(
        (running.answer(), running.choice()),
        (1000, Some((3, 4, Choice::FileEdited)))
    );
    assert_eq!(
        running.origins(),
        [Origin::Files, Origin::Deploy, Origin::Files, Origin::Files]
    );
    running.stop();

    // Any release may be asked for; it is a new one then.
    let running = try_boot(folder.path(), StartWith::Number(2)).unwrap();
    assert_eq!(
        (running.answer(), running.choice()),
        (2000, Some((2, 5, Choice::Asked)))
    );
    assert_eq!(running.origins()[4], Origin::Rollback(2));
    running.stop();
    let missing = try_boot(folder.path(), StartWith::Number(77)).map(|_| ());
    let error = missing.unwrap_err().to_string();
    assert_eq!(error, "there is no release 77 in the store");
}

#[test]
fn what_was_rolled_back_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    // As a watcher does.
    write(folder.path(), &code(2, ""));
    let options = DeployOptions {
        from_files: true,
        ..DeployOptions::default()
    };
    running.deploy(&code(2, ""), options).unwrap();
    running.app.node().rollback().unwrap();
    assert_eq!(running.answer(), 1000);
    running.stop();
    let running = boot(folder.path());
    assert_eq!(
        (running.answer(), running.choice()),
        (1000, Some((3, 3, Choice::FileUnchanged)))
    );

    // By the node itself: the release fails once, which is as often as it may.
    let mut events = running.app.node().events();
    assert_eq!(running.deploy(&broken(), deployed()).unwrap(), 4);
    running
        .app
        .node()
        .send(running.it(), 0, Vec::new())
        .unwrap();
    event(&mut events, "the rollback", |event| {
        matches!(event, Event::RolledBack { from: 4, .. }).then_some(())
    });
    eventually("the rollback is in the store", || {
        let last = &running.releases()[0];
        last.release == 5 && last.logged.is_some()
    });
    assert_eq!(
        running.origins()[2..],
        [Origin::Rollback(1), Origin::Deploy, Origin::Failure(3)]
    );
    let failed = running.releases()[1].logged.clone().unwrap();
    assert_eq!(failed.outcome, Outcome::RolledBack(5));
    running.stop();
    let running = boot(folder.path());
    assert_eq!(running.answer(), 1000);
    running.stop();
}

#[test]
fn a_rollback_reaches_releases_from_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    for version in 2..=4 {
        running.deploy(&code(version, ""), deployed()).unwrap();
    }
    running.stop();
    let running = boot(folder.path());
    let node = running.app.node().clone();
    node.send(running.it(), 0, Vec::new()).unwrap();
    for (answer, to) in [(3001, 3), (2001, 2), (1001, 1)] {
        let report = node.rollback_with(&deployed()).unwrap();
        assert!(report.rollback);
        assert_eq!(running.answer(), answer);
        assert_eq!(running.releases()[0].origin, to);
    }
    let error = node.rollback().unwrap_err();
    assert_eq!(error.code(), "no-earlier-release");
    // Forward again, by its number; and to what runs, which is nothing new.
    node.rollback_to(4, &deployed()).unwrap();
    assert_eq!(running.answer(), 4001);
    let report = node.rollback_to(4, &deployed()).unwrap();
    assert!(report.modules.is_empty());
    let error = node.rollback_to(99, &deployed()).unwrap_err();
    assert!(matches!(&error, SwapError::Store(it) if matches!(**it, StoreError::NoRelease(99))));
    // The store ends with the app, whoever still holds the node.
    running.stop();
    let running = boot(folder.path());
    assert_eq!((running.answer(), running.releases()[0].release), (4000, 8));
    running.stop();
}

#[test]
fn a_release_says_what_became_of_it_and_has_its_modules() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    let node = running.app.node().clone();
    running.deploy(&code(2, ""), deployed()).unwrap();
    assert_eq!(running.answer(), 2000);
    let outcome = || running.releases()[0].logged.as_ref().unwrap().outcome;
    let complete = Outcome::Complete {
        upgraded: 1,
        failed: 0,
        reverted: 0,
    };
    eventually("the upgrade is complete", || outcome() == complete);
    for version in [1, 2] {
        let found = node.module_of(version.into(), "it").unwrap().unwrap();
        assert_eq!(found, wat::parse_str(code(version, "")).unwrap());
    }
    assert_eq!(node.module_of(1, "other").unwrap(), None);
    assert!(node.pin_release(1, true).unwrap());
    assert!(!node.pin_release(1, true).unwrap());
    for version in 3..30 {
        running.deploy(&code(version, ""), deployed()).unwrap();
    }
    let kept: Vec<u64> = running.releases().iter().map(|it| it.release).collect();
    assert_eq!(kept.len(), Retention::default().releases + 1);
    assert_eq!((kept[0], kept[20]), (29, 1));
    running.stop();
}

/// A module that is new to the manifest comes from its file; one that was deployed beside it stays.
#[test]
fn modules_beside_the_manifest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    let other = ModuleBytes {
        name: "other".into(),
        ..module("it", &code(7, ""))
    };
    running.app.node().deploy(vec![other], deployed()).unwrap();
    running.stop();
    let running = boot(folder.path());
    let node = running.app.node();
    let pid = node.spawn("other", b"", &exuvia_node::SpawnOptions::default());
    assert_eq!(ask(node, pid.unwrap()), 7000);
    assert_eq!(running.releases()[0].release, 2);
    running.stop();
}

#[test]
fn an_app_that_does_not_start_leaves_no_release() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    boot(folder.path()).stop();
    // It does not acknowledge its start.
    write(
        folder.path(),
        &code(
            2,
            "(func (export \"exuvia_schema\") (result i32) unreachable)",
        ),
    );
    assert!(try_boot(folder.path(), StartWith::Newer).is_err());
    let running = try_boot(folder.path(), StartWith::Release).unwrap();
    assert_eq!((running.answer(), running.releases().len()), (1000, 1));
    // One store, one node.
    let error = try_boot(folder.path(), StartWith::Newer)
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().ends_with("is in use by another node"),
        "{error}"
    );
    assert!(error.help().is_some());
    running.stop();
}

#[test]
fn without_a_store_there_is_nothing_to_restore() {
    let node = crate::guests::node();
    crate::guests::deploy(&node, "it", &code(1, ""));
    for error in [
        node.rollback_to(1, &deployed()).unwrap_err(),
        node.pin_release(1, true).unwrap_err(),
        node.module_of(1, "it").unwrap_err(),
    ] {
        assert_eq!(error.code(), "no-store");
    }
    assert_eq!(node.releases().len(), 1);
    node.halt();
}

/// What was built in its place and then deployed was read, as far as a start is concerned.
#[test]
fn a_file_that_was_deployed_and_rolled_back_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    write(folder.path(), &code(2, ""));
    running.deploy(&code(2, ""), deployed()).unwrap();
    running.app.node().rollback().unwrap();
    running.stop();
    let running = boot(folder.path());
    assert_eq!(running.answer(), 1000);
    assert_eq!(running.choice(), Some((3, 3, Choice::FileUnchanged)));
    // A file that was refused was read, too: the release goes on.
    write(folder.path(), "(module)");
    let options = DeployOptions {
        from_files: true,
        ..DeployOptions::default()
    };
    running.deploy("(module)", options).unwrap_err();
    running.stop();
    let running = boot(folder.path());
    assert_eq!(running.answer(), 1000);
    running.stop();
    // One that was made meanwhile is taken, and if it is nothing, the way out is named.
    write(folder.path(), "(module (memory 1))");
    let failed = try_boot(folder.path(), StartWith::Newer).map(|_| ());
    let help = failed.unwrap_err().help().unwrap();
    assert!(
        help.contains("`exuvia run --release` starts with release 3"),
        "{help}"
    );
}

/// What cannot be read at one start is not an edit at the next.
#[test]
fn a_file_that_is_away_for_a_while_is_not_newer() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    running.deploy(&code(2, ""), deployed()).unwrap();
    running.stop();
    std::fs::remove_file(folder.path().join("it.wasm")).unwrap();
    let running = boot(folder.path());
    assert_eq!(running.choice(), Some((2, 2, Choice::FileMissing)));
    running.stop();
    std::fs::create_dir(folder.path().join("it.wasm")).unwrap();
    let running = boot(folder.path());
    assert_eq!(running.choice(), Some((2, 2, Choice::FileUnreadable)));
    running.stop();
    std::fs::remove_dir(folder.path().join("it.wasm")).unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    assert_eq!(
        (running.answer(), running.choice()),
        (2000, Some((2, 2, Choice::FileUnchanged)))
    );
    running.stop();
}

/// Bad releases and their rollbacks fill the log; what the node rolls back to stays in it.
#[test]
fn a_release_from_long_ago_that_runs_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    running.deploy(&code(2, ""), deployed()).unwrap();
    let node = running.app.node().clone();
    for version in 0..15 {
        let bad = code(100 + version, "");
        running.deploy(&bad, deployed()).unwrap();
        node.rollback_with(&deployed()).unwrap();
    }
    assert_eq!(running.answer(), 2000);
    node.rollback_with(&deployed()).unwrap();
    assert_eq!(running.answer(), 1000);
    let last = running.releases().swap_remove(0);
    assert_eq!(last.logged.unwrap().message, "why");
    drop(node);
    running.stop();
    let running = boot(folder.path());
    assert_eq!(running.answer(), 1000);
    running.stop();
}

/// After a start, a rollback goes past releases that failed.
#[test]
fn a_rollback_after_a_start_skips_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    let running = boot(folder.path());
    running.deploy(&code(2, ""), deployed()).unwrap();
    running.app.node().rollback().unwrap();
    running.deploy(&code(4, ""), deployed()).unwrap();
    running.stop();
    let running = boot(folder.path());
    let node = running.app.node().clone();
    node.rollback().unwrap();
    assert_eq!(running.answer(), 1000);
    assert_eq!(node.rollback().unwrap_err().code(), "no-earlier-release");
    drop(node);
    running.stop();
}

#[test]
fn a_module_that_left_the_manifest_is_gone_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &code(1, ""));
    std::fs::write(
        folder.path().join("more.wasm"),
        wat::parse_str(code(5, "")).unwrap(),
    )
    .unwrap();
    let more = "[modules.more]\npath = \"more.wasm\"\n";
    let running = try_boot_with(folder.path(), more, StartWith::Newer).unwrap();
    running.stop();
    let running = boot(folder.path());
    assert_eq!(running.choice(), Some((1, 2, Choice::Dropped)));
    assert_eq!(running.releases()[0].modules.len(), 1);
    running.stop();
    let running = try_boot_with(folder.path(), more, StartWith::Newer).unwrap();
    assert_eq!(running.choice(), Some((2, 3, Choice::NotInRelease)));
    running.stop();
}
