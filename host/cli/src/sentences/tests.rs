//! The lines that people read, for the data that a node reports.

use exuvia_node::{Event, Lingering, ModuleSwap, Outdated, Stages, SwapReport, UpgradeReport};

use super::{event, last_message, swap};

/// A swap in which nothing has changed.
fn unchanged() -> SwapReport {
    SwapReport {
        planned: false,
        release: 4,
        rollback: false,
        modules: Vec::new(),
        changed: Vec::new(),
        processes: 0,
        verified: 0,
        verified_by_path: Vec::new(),
        not_reused: None,
        exempt: 0,
        killed: 0,
        exempt_on: Vec::new(),
        outdated: Vec::new(),
        unended: Vec::new(),
        busy: Vec::new(),
        queued: 0,
        upgraded: Vec::new(),
        failed: 0,
        running_ms: None,
        pause_us: [0.0; 3],
        stages: Stages::default(),
    }
}

fn changed(name: &str) -> Vec<ModuleSwap> {
    vec![ModuleSwap {
        name: name.into(),
        from: Some(1),
        to: 2,
        digest: "0123".into(),
    }]
}

fn migrated(count: u64) -> SwapReport {
    SwapReport {
        modules: changed("actor"),
        processes: count,
        verified: count,
        verified_by_path: vec![("migrated", count)],
        not_reused: Some("one of the modules has no layout fingerprint".into()),
        ..unchanged()
    }
}

#[test]
fn a_swap_says_what_changed_and_how_processes_are_upgraded() {
    let line = swap(&migrated(10));
    assert!(
        line.starts_with("swap actor 1 -> 2  10 processes (verified 10: 10 migrated, because one of the modules has no layout fingerprint)  load "),
        "{line}"
    );
    assert!(!line.contains("pause"), "{line}");
    let reset = SwapReport {
        verified_by_path: vec![("reset", 1)],
        ..migrated(1)
    };
    let line = swap(&reset);
    assert!(
        line.starts_with("swap actor 1 -> 2  1 process (verified 1: 1 reset)"),
        "{line}"
    );
    let reused = SwapReport {
        verified_by_path: vec![("reused", 1)],
        not_reused: None,
        ..migrated(1)
    };
    assert!(swap(&reused).contains("(verified 1: 1 reused, the layout is the same)"));
    let exempt = SwapReport {
        processes: 3,
        exempt: 1,
        ..migrated(2)
    };
    let line = swap(&exempt);
    assert!(
        line.contains("3 processes (verified 2: 2 migrated, because "),
        "{line}"
    );
    assert!(line.contains(")  1 exempt  load "), "{line}");
}

#[test]
fn a_swap_names_the_files_whose_change_triggered_it() {
    let built = SwapReport {
        changed: vec!["src/one.wat".into()],
        stages: Stages {
            build: Some(3.0),
            ..Stages::default()
        },
        ..migrated(1)
    };
    let line = swap(&built);
    assert!(
        line.starts_with(
            "swap actor 1 -> 2  src/one.wat  1 process (verified 1: 1 migrated, because "
        ) && line.contains("  build 3 ms, load "),
        "{line}"
    );
}

#[test]
fn a_swap_counts_killed_processes_and_names_those_that_still_run_old_code() {
    let report = SwapReport {
        killed: 1,
        unended: vec!["<7.0>".into()],
        busy: vec!["<8.0> (receive)".into()],
        ..migrated(3)
    };
    let line = swap(&report);
    assert!(line.contains("  1 killed"), "{line}");
    assert!(line.contains("  not exited: <7.0>"), "{line}");
    assert!(
        line.contains("  1 in a waiting handler: <8.0> (receive)"),
        "{line}"
    );
}

#[test]
fn a_swap_without_a_change_says_which_processes_run_old_code() {
    assert_eq!(swap(&unchanged()), "nothing changed (release 4)");
    let exempt_on = || {
        vec![Lingering {
            module: "loops@1".into(),
            processes: 2,
        }]
    };
    let exempt = SwapReport {
        exempt: 2,
        exempt_on: exempt_on(),
        ..unchanged()
    };
    assert_eq!(
        swap(&exempt),
        "nothing changed (release 4); 2 processes are still exempt on loops@1; deploy it again with --kill to kill them"
    );
    let killed = SwapReport {
        killed: 3,
        exempt_on: exempt_on(),
        ..unchanged()
    };
    assert_eq!(
        swap(&killed),
        "nothing changed (release 4); killed: 2 processes were exempt on loops@1; 1 killed while computing"
    );
    let failed = SwapReport {
        outdated: vec![Outdated {
            module: "actor@1".into(),
            processes: 1,
            reverted: 0,
            failed: 1,
            exempt: 0,
        }],
        ..unchanged()
    };
    assert_eq!(
        swap(&failed),
        "nothing changed (release 4); 1 process on actor@1: 1 failed"
    );
}

fn upgrade() -> UpgradeReport {
    UpgradeReport {
        release: 2,
        rollback: false,
        modules: changed("actor"),
        superseded_by: None,
        processes: 10,
        upgraded: vec![("migrated", 10)],
        background: 10,
        failed: 0,
        reverted: 0,
        exempt: 0,
        pause_us: [1.0, 2.0, 3.0],
        running_ms: None,
        took_ms: 5.0,
    }
}

#[test]
fn a_completed_upgrade_has_its_paths_and_pauses() {
    assert_eq!(
        event(&Event::UpgradeCompleted(upgrade())),
        "upgrade-completed actor 1 -> 2  10 migrated (10 in the background)  pause p50/p99/max 1/2/3 us  0 failed, 0 reverted  5 ms after the commit"
    );
    let superseded = UpgradeReport {
        superseded_by: Some(3),
        upgraded: vec![("migrated", 3)],
        failed: 1,
        ..upgrade()
    };
    let line = event(&Event::UpgradeCompleted(superseded));
    assert!(
        line.starts_with(
            "superseded actor 1 -> 2 by release 3  3 of 10 processes had been upgraded: 3 migrated"
        ),
        "{line}"
    );
    assert!(line.contains("`exuvia restart PID`"), "{line}");
}

#[test]
fn a_refused_swap_is_one_line_with_process_cause_and_help() {
    let refused = Event::Refused {
        what: "actor".into(),
        reason: "everything".into(),
        process: Some("the-actor (<7.0>)".into()),
        cause: "`load` trapped\n  at f\n  at g".into(),
        not_reused: Some("the layouts differ".into()),
        help: Some("repair `load`".into()),
    };
    assert_eq!(
        event(&refused),
        "swap of actor refused, the old code keeps running: process the-actor (<7.0>): `load` trapped at f at g; help: repair `load`"
    );
}

#[test]
fn a_failed_upgrade_is_one_line() {
    let failed = Event::UpgradeFailed {
        pid: "<7.0>".into(),
        release: 2,
        reason: "trap\n  at f".into(),
    };
    assert_eq!(
        event(&failed),
        "upgrade-failed <7.0> to release 2: trap at f"
    );
}

#[test]
fn a_build_whose_source_looks_old_says_what_to_do() {
    let built = exuvia_dev::Event::Built {
        modules: vec!["one".into()],
        took_ms: 2.0,
        output: String::new(),
        new: false,
        is_current: true,
        outdated: Vec::new(),
        recovered: false,
        stale_timestamp: Some("src/one.wat".into()),
    };
    let line = event(&Event::External(std::sync::Arc::new(built)));
    assert!(
        line.starts_with("built one in 2 ms: it is the running code, nothing to swap; "),
        "{line}"
    );
    assert!(line.ends_with("run `touch src/one.wat`"), "{line}");
}

#[test]
fn a_long_message_is_shortened() {
    let last = exuvia_node::LastMessage {
        kind: "message".into(),
        from: "<1.0>".into(),
        tag: 7,
        payload: exuvia_node::Rendered::Text("x".repeat(300)),
    };
    let line = last_message(&last);
    assert!(line.starts_with("message from <1.0>, tag 7: xxx"), "{line}");
    assert!(line.ends_with("x...") && line.len() < 240, "{line}");
}
