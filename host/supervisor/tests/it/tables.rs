//! The behaviour of a supervisor according to OTP's documentation, case by case.

use exuvia_supervisor::{
    ChildCount, ChildSpec, ChildState, Event, ExitClass, RequestError, Restart, Shutdown,
    SpecError, Strategy, Supervisor, SupervisorSpec, TerminateReason,
};

use crate::world::{Outcome, World, brutal, exited, temporary, transient, worker, workers};

fn spec(strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec {
        strategy,
        ..SupervisorSpec::default()
    }
}

fn one_for_one() -> SupervisorSpec {
    spec(Strategy::OneForOne)
}

fn intensity(strategy: Strategy, intensity: u32, period_ms: u64) -> SupervisorSpec {
    SupervisorSpec {
        intensity,
        period_ms,
        ..spec(strategy)
    }
}

#[test]
fn children_start_in_order_and_stop_in_reverse() {
    let mut world = World::new(one_for_one(), workers(&["a", "b", "c"]));
    world.send(Event::Start);
    assert!(world.ready);
    assert_eq!(world.take_log(), "+a +b +c");
    world.send(Event::Stop);
    assert_eq!(world.take_log(), "-c -b -a");
    assert_eq!(world.terminated, Some(TerminateReason::Shutdown));
    assert!(world.machine.is_terminated());
}

#[test]
fn the_next_child_waits_for_the_one_before() {
    let mut world = World::new(one_for_one(), workers(&["a", "b"]));
    world.hold_starts = true;
    world.send(Event::Start);
    assert_eq!(
        world.starting.as_ref().map(|(_, id)| id.as_str()),
        Some("a")
    );
    world.finish(Outcome::Up);
    assert_eq!(
        world.starting.as_ref().map(|(_, id)| id.as_str()),
        Some("b")
    );
    assert!(!world.ready);
    world.finish(Outcome::Up);
    assert!(world.ready);
}

#[test]
fn a_supervisor_without_children_is_ready_at_once() {
    let mut world = World::started(one_for_one(), Vec::new());
    world.send(Event::Stop);
    assert_eq!(world.terminated, Some(TerminateReason::Shutdown));
}

#[test]
fn the_restart_type_decides() {
    use ExitClass::{Abnormal, Normal, Shutdown};
    use Restart::{Permanent, Temporary, Transient};
    for (restart, class, restarted) in [
        (Permanent, Normal, true),
        (Permanent, Shutdown, true),
        (Permanent, Abnormal, true),
        (Transient, Normal, false),
        (Transient, Shutdown, false),
        (Transient, Abnormal, true),
        (Temporary, Normal, false),
        (Temporary, Shutdown, false),
        (Temporary, Abnormal, false),
    ] {
        let mut world = World::started(one_for_one(), vec![worker("a").restart(restart)]);
        world.exit("a", class);
        assert_eq!(
            world.pid("a").is_some(),
            restarted,
            "{restart:?} after {class:?}"
        );
        let known = world.machine.child("a").is_some();
        assert_eq!(known, restart != Temporary, "{restart:?} after {class:?}");
    }
}

#[test]
fn one_for_one_leaves_the_others_alone() {
    let mut world = World::started(one_for_one(), workers(&["a", "b", "c"]));
    world.crash("b");
    assert_eq!(world.take_log(), "+b");
}

#[test]
fn one_for_all_restarts_everything() {
    let mut world = World::started(spec(Strategy::OneForAll), workers(&["a", "b", "c"]));
    world.crash("b");
    assert_eq!(world.take_log(), "-c -a +a +b +c");
}

#[test]
fn rest_for_one_restarts_the_later_ones() {
    let mut world = World::started(spec(Strategy::RestForOne), workers(&["a", "b", "c", "d"]));
    world.crash("b");
    assert_eq!(world.take_log(), "-d -c +b +c +d");
    world.crash("d");
    assert_eq!(world.take_log(), "+d");
}

#[test]
fn a_group_restart_forgets_temporary_children() {
    let children = vec![temporary("t"), worker("a"), temporary("u"), worker("b")];
    let mut world = World::started(spec(Strategy::OneForAll), children);
    world.crash("a");
    assert_eq!(world.take_log(), "-b -u -t +a +b");
    assert_eq!(world.machine.count_children().specs, 2);
}

#[test]
fn a_group_restart_starts_children_that_were_down() {
    let children = vec![transient("done"), worker("a"), worker("off")];
    let mut world = World::started(spec(Strategy::OneForAll), children);
    world.exit("done", ExitClass::Normal);
    world.ask_terminate("off");
    world.take_log();
    world.crash("a");
    assert_eq!(world.take_log(), "+done +a +off");
}

#[test]
fn a_normal_exit_of_a_transient_child_restarts_no_group() {
    let children = vec![worker("a"), transient("t")];
    let mut world = World::started(spec(Strategy::OneForAll), children);
    world.exit("t", ExitClass::Normal);
    assert_eq!(world.take_log(), "");
}

#[test]
fn two_exits_at_once_cause_one_group_restart() {
    let mut world = World::started(
        intensity(Strategy::OneForAll, 1, 1_000),
        workers(&["a", "b", "c"]),
    );
    world.hold_stops = true;
    world.crash("a");
    // c is being stopped when b ends.
    world.crash("b");
    let c = world.pid("c").expect("c");
    world.exit_pid(c, ExitClass::Shutdown, false);
    assert_eq!(world.take_log(), "-c +a +b +c");
    assert_eq!(world.terminated, None, "one restart was counted");
}

#[test]
fn one_restart_more_than_the_intensity_ends_the_supervisor() {
    let mut world = World::started(
        intensity(Strategy::OneForOne, 2, 1_000),
        workers(&["a", "b"]),
    );
    world.crash("a");
    world.crash("b");
    world.advance(1_000);
    assert_eq!(world.take_log(), "+a +b");
    world.crash("a");
    assert_eq!(world.take_log(), "-b");
    assert_eq!(
        world.terminated,
        Some(TerminateReason::ReachedMaxRestartIntensity { child: "a".into() })
    );
}

#[test]
fn restarts_outside_the_period_are_forgotten() {
    let mut world = World::started(intensity(Strategy::OneForOne, 1, 1_000), workers(&["a"]));
    for _ in 0..10 {
        world.crash("a");
        world.advance(1_001);
    }
    assert_eq!(world.terminated, None);
}

#[test]
fn intensity_zero_allows_no_restart() {
    let mut world = World::started(intensity(Strategy::OneForOne, 0, 1), workers(&["a", "b"]));
    world.crash("a");
    assert_eq!(world.take_log(), "-b");
    assert!(world.terminated.is_some());
}

#[test]
fn temporary_children_do_not_count() {
    let children = (0..10).map(|n| temporary(&format!("t{n}"))).collect();
    let mut world = World::started(intensity(Strategy::OneForOne, 0, 1_000), children);
    for n in 0..10 {
        world.crash(&format!("t{n}"));
    }
    assert_eq!(world.terminated, None);
}

#[test]
fn exits_caused_by_a_release_restart_without_being_counted() {
    let mut world = World::started(intensity(Strategy::OneForOne, 1, 1_000), workers(&["a"]));
    for _ in 0..50 {
        let pid = world.pid("a").expect("a");
        world.outcomes.push_back(Outcome::FailedByRelease);
        world.exit_pid(pid, ExitClass::Abnormal, true);
    }
    assert_eq!(world.terminated, None);
    world.crash("a");
    assert_eq!(world.terminated, None);
    world.crash("a");
    assert!(world.terminated.is_some());
}

#[test]
fn a_failed_first_start_stops_the_others_in_reverse() {
    let mut world = World::new(one_for_one(), workers(&["a", "b", "c", "d"]));
    world.outcomes = [Outcome::Up, Outcome::Up, Outcome::Failed].into();
    world.send(Event::Start);
    assert_eq!(world.take_log(), "+a +b !c -b -a");
    assert!(!world.ready);
    assert_eq!(
        world.terminated,
        Some(TerminateReason::StartFailed {
            child: "c".into(),
            reason: "c is broken".into()
        })
    );
}

#[test]
fn a_failed_restart_counts_and_is_tried_again() {
    let mut world = World::started(
        intensity(Strategy::OneForOne, 3, 1_000),
        workers(&["a", "b"]),
    );
    world.outcomes = [Outcome::Failed, Outcome::Failed].into();
    world.crash("a");
    assert_eq!(world.take_log(), "!a !a +a");

    world.advance(1_001);
    world.outcomes = [Outcome::Failed; 4].into();
    world.crash("a");
    assert_eq!(world.take_log(), "!a !a !a -b");
    assert!(world.terminated.is_some());
}

#[test]
fn waiting_requests_come_before_the_next_attempt() {
    let mut world = World::started(one_for_one(), workers(&["a", "b"]));
    world.hold_starts = true;
    world.crash("a");
    world.crash("b");
    let request = world.ask_terminate("a");
    world.finish(Outcome::Failed);
    assert_eq!(
        world.starting.as_ref().map(|(_, id)| id.as_str()),
        Some("b")
    );
    world.finish(Outcome::Up);
    assert_eq!(world.answer(request), Some(Ok(None)));
    assert_eq!(world.starting, None, "a is no longer wanted");
    assert_eq!(
        world.machine.child("a").map(|child| child.state),
        Some(ChildState::Down)
    );
}

#[test]
fn a_group_restart_that_fails_in_the_middle_is_repeated() {
    let mut world = World::started(spec(Strategy::OneForAll), workers(&["a", "b", "c"]));
    world.outcomes = [Outcome::Up, Outcome::Failed].into();
    world.crash("c");
    assert_eq!(world.take_log(), "-b -a +a !b -a +a +b +c");

    let mut world = World::started(spec(Strategy::RestForOne), workers(&["a", "b", "c"]));
    world.outcomes = [Outcome::Up, Outcome::Failed].into();
    world.crash("b");
    assert_eq!(world.take_log(), "-c +b !c +c");
}

#[test]
fn each_child_is_stopped_as_its_spec_says() {
    let children = vec![
        worker("slow").shutdown(Shutdown::TimeoutMs(100)),
        brutal("brutal"),
        ChildSpec::supervisor("tree", ()),
    ];
    let mut world = World::started(one_for_one(), children);
    world.stubborn = ["slow", "tree"].map(String::from).into();
    world.send(Event::Stop);
    assert_eq!(world.take_log(), "-tree");
    world.advance(1_000_000);
    assert_eq!(world.take_log(), "", "infinity has no timer");
    world.exit("tree", ExitClass::Shutdown);
    assert_eq!(world.take_log(), "xbrutal -slow");
    world.advance(99);
    assert_eq!(world.terminated, None);
    world.advance(1);
    assert_eq!(world.take_log(), "xslow");
    assert!(world.terminated.is_some());
}

#[test]
fn a_child_that_stops_in_time_cancels_its_timer() {
    let mut world = World::started(one_for_one(), workers(&["a", "b"]));
    world.ask_terminate("a");
    assert!(world.timers.is_empty());
    assert_eq!(world.take_log(), "-a");
}

#[test]
fn children_are_added_or_rejected() {
    let mut world = World::started(one_for_one(), workers(&["a"]));
    let request = world.ask_start(worker("b"));
    let b = world.pid("b").expect("b");
    assert_eq!(world.answer(request), Some(Ok(Some(b))));

    let request = world.ask_start(worker("b"));
    assert_eq!(
        world.answer(request),
        Some(Err(RequestError::AlreadyStarted(b)))
    );

    world.ask_terminate("b");
    let request = world.ask_start(worker("b"));
    assert_eq!(
        world.answer(request),
        Some(Err(RequestError::AlreadyPresent))
    );

    world.outcomes.push_back(Outcome::Failed);
    let request = world.ask_start(worker("c"));
    assert_eq!(
        world.answer(request),
        Some(Err(RequestError::StartFailed("c is broken".into())))
    );
    assert!(world.machine.child("c").is_none());
    assert_eq!(
        world.terminated, None,
        "a failed request ends no other child"
    );

    world.outcomes.push_back(Outcome::Ignored);
    let request = world.ask_start(worker("d"));
    assert_eq!(world.answer(request), Some(Ok(None)));
    assert!(world.machine.child("d").is_some());
    world.outcomes.push_back(Outcome::Ignored);
    world.ask_start(temporary("e"));
    assert!(world.machine.child("e").is_none());
}

#[test]
fn children_are_terminated_restarted_and_deleted() {
    let mut world = World::started(one_for_one(), vec![worker("a"), temporary("t")]);
    let running = world.ask_restart("a");
    assert_eq!(world.answer(running), Some(Err(RequestError::Running)));
    let running = world.ask_delete("a");
    assert_eq!(world.answer(running), Some(Err(RequestError::Running)));

    let stopped = world.ask_terminate("a");
    assert_eq!(world.answer(stopped), Some(Ok(None)));
    let again = world.ask_terminate("a");
    assert_eq!(
        world.answer(again),
        Some(Ok(None)),
        "what is down stays down"
    );
    world.outcomes.push_back(Outcome::Failed);
    let failed = world.ask_restart("a");
    assert_eq!(
        world.answer(failed),
        Some(Err(RequestError::StartFailed("a is broken".into())))
    );
    let restarted = world.ask_restart("a");
    assert_eq!(world.answer(restarted), Some(Ok(world.pid("a"))));

    world.ask_terminate("a");
    let deleted = world.ask_delete("a");
    assert_eq!(world.answer(deleted), Some(Ok(None)));
    world.ask_terminate("t");
    for id in ["a", "t"] {
        for request in [
            world.ask_terminate(id),
            world.ask_restart(id),
            world.ask_delete(id),
        ] {
            assert_eq!(world.answer(request), Some(Err(RequestError::NotFound)));
        }
    }
}

#[test]
fn a_child_that_waits_for_its_next_attempt_is_restarting() {
    let mut world = World::started(one_for_one(), workers(&["a", "b"]));
    world.hold_starts = true;
    world.crash("a");
    world.crash("b");
    let restart = world.ask_restart("a");
    let delete = world.ask_delete("a");
    world.finish(Outcome::Failed);
    assert_eq!(
        world.machine.child("a").map(|child| child.state),
        Some(ChildState::Restarting)
    );
    world.finish(Outcome::Up);
    assert_eq!(world.answer(restart), Some(Err(RequestError::Restarting)));
    assert_eq!(world.answer(delete), Some(Err(RequestError::Restarting)));
    world.finish(Outcome::Up);
    assert!(world.pid("a").is_some());
}

#[test]
fn children_are_counted() {
    let children = vec![worker("a"), ChildSpec::supervisor("s", ()), worker("b")];
    let mut world = World::started(one_for_one(), children);
    world.ask_terminate("b");
    assert_eq!(
        world.machine.count_children(),
        ChildCount {
            specs: 3,
            active: 2,
            supervisors: 1,
            workers: 2
        }
    );
    let a = world.pid("a").expect("a");
    let found = world.machine.child_with_pid(a).expect("a");
    assert_eq!(&*found.spec.id, "a");
}

#[test]
fn a_stop_cancels_the_start_under_way() {
    for (outcome, log) in [
        (Outcome::Failed, "+a ?b !b -a"),
        (Outcome::Ignored, "+a ?b ~b -a"),
        (Outcome::Up, "+a ?b +b -b -a"),
    ] {
        let mut world = World::new(one_for_one(), workers(&["a", "b", "c"]));
        world.hold_starts = true;
        world.send(Event::Start);
        world.finish(Outcome::Up);
        world.send(Event::Stop);
        assert_eq!(world.terminated, None);
        world.finish(outcome);
        assert_eq!(world.take_log(), log);
        assert_eq!(world.terminated, Some(TerminateReason::Shutdown));
    }
}

#[test]
fn a_start_that_does_not_end_is_killed() {
    let mut world = World::new(
        one_for_one(),
        vec![worker("a").shutdown(Shutdown::TimeoutMs(10))],
    );
    world.hold_starts = true;
    world.send(Event::Start);
    world.send(Event::Stop);
    world.advance(10);
    assert_eq!(world.take_log(), "?a ?a");
    world.finish(Outcome::Failed);
    assert!(world.terminated.is_some());
}

#[test]
fn a_stop_takes_over_from_a_group_restart() {
    let mut world = World::started(
        spec(Strategy::OneForAll),
        vec![worker("a"), worker("b"), temporary("t")],
    );
    world.hold_stops = true;
    world.crash("a");
    world.send(Event::Stop);
    world.hold_stops = false;
    world.exit("t", ExitClass::Shutdown);
    assert_eq!(world.take_log(), "-t -b");
    assert_eq!(world.terminated, Some(TerminateReason::Shutdown));
}

#[test]
fn a_stop_rejects_waiting_requests() {
    let mut world = World::started(one_for_one(), workers(&["a"]));
    world.hold_starts = true;
    let under_way = world.ask_start(worker("b"));
    let waiting = world.ask_delete("a");
    world.send(Event::Stop);
    let late = world.ask_restart("a");
    world.finish(Outcome::Failed);
    for request in [under_way, waiting, late] {
        assert_eq!(world.answer(request), Some(Err(RequestError::NotRunning)));
    }
    let after = world.ask_restart("a");
    assert_eq!(world.answer(after), Some(Err(RequestError::NotRunning)));
}

#[test]
fn before_the_start_nothing_runs() {
    let mut world = World::new(one_for_one(), workers(&["a"]));
    let early = world.ask_start(worker("b"));
    assert_eq!(world.answer(early), Some(Err(RequestError::NotRunning)));
    world.send(Event::Stop);
    assert_eq!(world.terminated, Some(TerminateReason::Shutdown));
    world.send(Event::Start);
    assert_eq!(world.take_log(), "");
}

#[test]
fn children_that_end_while_another_starts_are_restarted_after_it() {
    let mut world = World::new(one_for_one(), workers(&["a", "b"]));
    world.hold_starts = true;
    world.send(Event::Start);
    world.finish(Outcome::Up);
    world.crash("a");
    world.finish(Outcome::Up);
    world.finish(Outcome::Up);
    assert_eq!(world.take_log(), "+a +b +a");
    assert!(world.ready);
}

#[test]
fn unknown_and_repeated_events_change_nothing() {
    let mut world = World::started(one_for_one(), workers(&["a"]));
    let before = world.states();
    world.send(exited(999, ExitClass::Abnormal));
    world.send(Event::Start);
    let pid = world.pid("a").expect("a");
    let key = world.live.get(&pid).expect("a").key;
    world.send(Event::ChildStarted { key, pid });
    world.send(Event::ChildIgnored { key });
    assert_eq!(world.states(), before);
    assert_eq!(world.take_log(), "");

    // A process that no plan waits for is killed.
    let actions = world
        .machine
        .handle(0, Event::ChildStarted { key, pid: 77 });
    assert_eq!(actions, [exuvia_supervisor::Action::Kill { pid: 77 }]);
}

#[test]
fn invalid_specs_are_rejected() {
    type Machine = Supervisor<u32, (), String>;
    let refused =
        |spec, children: Vec<ChildSpec<()>>| Machine::new(spec, children).map(|_| ()).unwrap_err();
    assert_eq!(
        refused(one_for_one(), workers(&["a", "b", "a"])),
        SpecError::DuplicateId("a".into())
    );
    assert_eq!(
        refused(intensity(Strategy::OneForOne, 1, 0), Vec::new()),
        SpecError::EmptyPeriod
    );
    let small = SupervisorSpec {
        max_children: 1,
        ..one_for_one()
    };
    assert_eq!(
        refused(small.clone(), workers(&["a", "b"])),
        SpecError::TooManyChildren { limit: 1 }
    );
    let mut world = World::started(small, workers(&["a"]));
    let request = world.ask_start(worker("b"));
    assert_eq!(
        world.answer(request),
        Some(Err(RequestError::TooManyChildren { limit: 1 }))
    );
}

/// If any operation were linear, each exit would walk over all children, and this test
/// would not end in useful time.
#[test]
fn a_hundred_thousand_children() {
    const COUNT: u32 = 100_000;
    let spec = intensity(Strategy::OneForOne, COUNT, 1_000);
    let children = (0..COUNT).map(|n| ChildSpec::worker(format!("c{n}"), ()));
    let mut machine: Supervisor<u32, (), String> =
        Supervisor::new(spec, children).expect("a good spec");
    let mut out = Vec::new();
    let mut next_pid = 0;
    machine.handle_into(0, Event::Start, &mut out);
    while let Some(action) = out.pop() {
        if let exuvia_supervisor::Action::StartChild { key, .. } = action {
            let pid = next_pid;
            next_pid += 1;
            machine.handle_into(0, Event::ChildStarted { key, pid }, &mut out);
        }
    }
    assert_eq!(machine.count_children().active, 100_000);
    for pid in 0..COUNT {
        machine.handle_into(1, exited(pid, ExitClass::Abnormal), &mut out);
        match out.pop() {
            Some(exuvia_supervisor::Action::StartChild { key, .. }) => {
                let pid = pid + COUNT;
                machine.handle_into(1, Event::ChildStarted { key, pid }, &mut out);
            }
            other => panic!("expected a start, not {other:?}"),
        }
    }
    machine.handle_into(2, Event::Stop, &mut out);
    let mut stopped = 0;
    while let Some(action) = out.pop() {
        match action {
            exuvia_supervisor::Action::Exit { pid } => {
                stopped += 1;
                machine.handle_into(2, exited(pid, ExitClass::Shutdown), &mut out);
            }
            exuvia_supervisor::Action::Terminate { reason } => {
                assert_eq!(reason, TerminateReason::Shutdown);
            }
            _ => {}
        }
    }
    assert_eq!(stopped, COUNT);
    assert!(machine.is_terminated());
}

// ---- new specs for a running supervisor -------------------------------------

#[test]
fn a_changed_strategy_applies_from_the_next_exit() {
    let mut world = World::new(one_for_one(), workers(&["a", "b"]));
    world.send(Event::Start);
    world.take_log();
    let all = intensity(Strategy::OneForAll, 1, 1_000);
    assert_eq!(world.machine.reconfigure(all), Ok(()));
    world.crash("a");
    assert_eq!(world.take_log(), "-b +a +b");
    // So does the intensity: the second restart exceeds it.
    world.crash("b");
    assert!(matches!(
        world.terminated,
        Some(TerminateReason::ReachedMaxRestartIntensity { .. })
    ));
    let mut world = World::new(one_for_one(), workers(&["a"]));
    let empty = intensity(Strategy::OneForOne, 1, 0);
    assert_eq!(
        world.machine.reconfigure(empty),
        Err(SpecError::EmptyPeriod)
    );
    world.send(Event::Start);
}

#[test]
fn a_changed_child_spec_applies_from_its_next_exit() {
    let mut world = World::new(one_for_one(), workers(&["a", "b"]));
    world.send(Event::Start);
    world.take_log();
    assert!(world.machine.respecify(temporary("a")));
    assert!(!world.machine.respecify(worker("c")));
    assert_eq!(world.take_log(), "", "no child is restarted for it");
    world.crash("a");
    assert_eq!(world.take_log(), "", "it is temporary now");
    let left: Vec<_> = world.machine.which_children().collect();
    assert_eq!(left.len(), 1);
    let below = ChildSpec::supervisor("b", ());
    assert!(world.machine.respecify(below));
    let count = world.machine.count_children();
    assert_eq!((count.supervisors, count.workers), (1, 0));
}
