//! Restarts, according to OTP's documentation: which exit restarts which children, and how often.

use exuvia_supervisor::{ChildState, Event, ExitClass, Restart, Strategy, TerminateReason};

use crate::world::{
    Outcome, World, intensity, one_for_one, spec, temporary, transient, worker, workers,
};

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
