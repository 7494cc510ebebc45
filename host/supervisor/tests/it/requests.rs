//! Requests to a supervisor that runs, and changes of its specification.

use exuvia_supervisor::{
    ChildCount, ChildSpec, ChildState, Event, RequestError, SpecError, Strategy, Supervisor,
    SupervisorSpec, TerminateReason,
};

use crate::world::{Outcome, World, intensity, one_for_one, temporary, worker, workers};

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
