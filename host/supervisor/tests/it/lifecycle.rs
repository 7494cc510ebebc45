//! Start and stop of a supervisor and its children, according to OTP's documentation.

use exuvia_supervisor::{
    ChildSpec, Event, ExitClass, RequestError, Shutdown, Strategy, Supervisor, TerminateReason,
};

use crate::world::{
    Outcome, World, brutal, exited, intensity, one_for_one, spec, temporary, worker, workers,
};

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
