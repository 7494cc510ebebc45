//! Processes: messages, isolation, ends, fairness.

use std::time::Duration;

use exuvia_node::{CallFailed, Filter, Pid, SpawnOptions, TargetError};

use crate::guests::{COUNTER, ask, counter, deploy, node, node_with, spawn};

#[test]
fn the_counter_of_the_abi_page_counts() {
    let node = node();
    deploy(&node, "counter", COUNTER);
    let pid = spawn(&node, "counter", &7u64.to_le_bytes());
    assert_eq!(ask(&node, pid), 7);
    for _ in 0..100 {
        node.send(pid, 0, 3u64.to_le_bytes().to_vec()).unwrap();
    }
    assert_eq!(ask(&node, pid), 307);
    node.halt();
}

#[test]
fn numbers_that_are_no_pid_find_no_process() {
    let node = node();
    deploy(&node, "counter", COUNTER);
    let pid = spawn(&node, "counter", b"");
    let (slot, generation) = (pid.slot(), pid.generation());
    assert_eq!(node.find(&format!("{slot}.{generation}")).unwrap(), pid);
    for other in [
        format!("<{}.{generation}>", slot + Pid::SLOTS),
        format!("<{slot}.{}>", generation + Pid::LAST_GENERATION + 1),
        format!("<{slot}.{}>", u64::MAX),
    ] {
        let found = node.find(&other);
        assert!(matches!(found, Err(TargetError::NoProcess(_))), "{other}");
    }
    node.halt();
}

#[test]
fn a_thousand_processes_share_a_few_frames_and_keep_their_states() {
    let node = node_with(|config| config.frames = 8);
    deploy(&node, "counter", COUNTER);
    let pids: Vec<_> = (0..1_000u64)
        .map(|n| spawn(&node, "counter", &n.to_le_bytes()))
        .collect();
    for round in 0..3u64 {
        for (n, pid) in pids.iter().enumerate() {
            assert_eq!(ask(&node, *pid), n as u64 + round, "process {n}");
            node.send(*pid, 0, 1u64.to_le_bytes().to_vec()).unwrap();
        }
    }
    let info = node.info();
    assert!(info.frames <= 16, "{info:?}");
    assert!(info.page_ins > 1_000, "{info:?}");
    node.halt();
}

#[test]
fn a_trap_ends_only_its_process_and_reports_a_backtrace() {
    let node = node();
    deploy(
        &node,
        "trap",
        &counter(
            "(call $deep)",
            "(call $count)",
            "(func $deep (call $deeper)) (func $deeper (unreachable))",
        ),
    );
    let (victim, other) = (spawn(&node, "trap", b""), spawn(&node, "trap", b""));
    let mut events = node.events();
    node.send(victim, 0, Vec::new()).unwrap();
    let exit = loop {
        if let exuvia_node::Event::Exit { detail, .. } = events.blocking_recv().unwrap() {
            break detail;
        }
    };
    assert!(exit.contains("unreachable"), "{exit}");
    let (deeper, deep) = (
        exit.find("deeper").unwrap(),
        exit.rfind("at deep ").unwrap(),
    );
    assert!(deeper < deep, "{exit}");
    assert_eq!(ask(&node, other), 0);
    assert!(matches!(
        node.call(victim, 0, Vec::new(), Duration::from_secs(5)),
        Err(CallFailed::Down { .. })
    ));
    node.halt();
}

#[test]
fn a_spinning_process_starves_no_other() {
    let node = node_with(|config| config.schedulers = 1);
    deploy(
        &node,
        "spin",
        &counter("(loop $l (br $l))", "(call $count)", ""),
    );
    let spinners: Vec<_> = (0..8).map(|_| spawn(&node, "spin", b"")).collect();
    for pid in &spinners {
        node.send(*pid, 0, Vec::new()).unwrap();
    }
    let other = spawn(&node, "spin", b"");
    for _ in 0..100 {
        assert_eq!(ask(&node, other), 0);
    }
    for pid in spinners {
        node.kill(pid);
        assert!(matches!(
            node.call(pid, 0, Vec::new(), Duration::from_secs(5)),
            Err(CallFailed::Down { .. })
        ));
    }
    node.halt();
}

#[test]
fn a_name_is_free_again_when_its_process_has_ended() {
    let node = node();
    deploy(&node, "counter", COUNTER);
    let named = SpawnOptions {
        name: Some("it".into()),
        ..SpawnOptions::default()
    };
    let pid = node.spawn("counter", b"", &named).unwrap();
    assert_eq!(node.find("it").unwrap(), pid);
    let taken = node.spawn("counter", b"", &named).unwrap_err();
    assert_eq!(
        taken.to_string(),
        "the name `it` belongs to another process; choose another one"
    );
    node.kill(pid);
    let _ = node.call(pid, 0, Vec::new(), Duration::from_secs(5));
    assert!(node.find("it").is_err());
    node.spawn("counter", b"", &named).unwrap();
    node.halt();
}

#[test]
fn a_process_can_be_pinned_to_a_scheduler() {
    let node = node_with(|config| config.schedulers = 2);
    deploy(
        &node,
        "spin",
        &counter("(loop $l (br $l))", "(call $count)", ""),
    );
    deploy(&node, "counter", COUNTER);
    let on = |module: &str, scheduler: usize| {
        let options = SpawnOptions {
            scheduler: Some(scheduler),
            ..SpawnOptions::default()
        };
        node.spawn(module, &7u64.to_le_bytes(), &options)
    };
    for _ in 0..4 {
        let spinning = on("spin", 0).unwrap();
        node.send(spinning, 0, Vec::new()).unwrap();
    }
    let counters = [on("counter", 0).unwrap(), on("counter", 1).unwrap()];
    for _ in 0..50 {
        for pid in counters {
            assert_eq!(ask(&node, pid), 7);
        }
    }
    // No other scheduler has helped the first one, though it had more than it could do.
    let workers = node.scheduler().metrics().workers;
    assert_eq!(workers[1].steals, 0, "{workers:?}");
    let refused = on("counter", 2).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no process can be pinned to scheduler 2; choose one below 2"
    );
    node.halt();
}

#[test]
fn a_listing_of_one_module_is_complete_while_others_run() {
    let node = node_with(|config| config.schedulers = 1);
    deploy(
        &node,
        "spin",
        &counter("(loop $l (br $l))", "(call $count)", ""),
    );
    deploy(&node, "counter", COUNTER);
    for _ in 0..8 {
        let spinner = spawn(&node, "spin", b"");
        node.send(spinner, 0, Vec::new()).unwrap();
    }
    let pids: Vec<_> = (0..8u64)
        .map(|n| spawn(&node, "counter", &n.to_le_bytes()))
        .collect();
    for (n, pid) in pids.iter().enumerate() {
        assert_eq!(ask(&node, *pid), n as u64);
    }
    let list = |module: Option<&str>, limit| {
        let filter = Filter {
            module: module.map(str::to_owned),
            limit,
        };
        let listed = node.processes(&filter);
        listed.into_iter().map(|it| it.pid).collect::<Vec<_>>()
    };
    let first: Vec<_> = pids.iter().take(5).map(ToString::to_string).collect();
    assert_eq!(list(Some("counter"), 5), first);
    assert_eq!(list(Some("counter"), 100).len(), 8);
    assert_eq!(list(None, 3).len(), 3);
    assert_eq!(list(Some("spin"), 0), Vec::<String>::new());
    node.halt();
}
