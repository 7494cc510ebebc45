//! Edits of the manifest of an app that runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use exuvia_dev::Event as DevEvent;
use exuvia_node::{Event, Filter};

use crate::developed::{Developed, answers, child, developed, developed_with, manifest, module};
use crate::guests::eventually;
use crate::seen::Seen;
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
        applied.starts_with("limits of one, two apply for 2 live processes"),
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
    assert_eq!(it.edited().0, "children changed from their next start: one");
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
    assert!(applied.contains("for 2 live processes"), "{applied}");
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
        it.save_by_rename("exuvia.toml", &format!("{}# {make}\n", manifest()));
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
