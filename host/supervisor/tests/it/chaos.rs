//! Random orders of reports, exits, timers and requests. [`World`] checks the
//! invariants at every step; a stop at the end must leave no process running.

use exuvia_supervisor::{ChildSpec, ChildState, Event, ExitClass, Shutdown, SupervisorSpec};
use proptest::prelude::*;

use crate::model::{Generate, classes, outcomes, restarts, strategies};
use crate::world::{Outcome, Spec, World};

#[derive(Clone, Debug)]
enum Step {
    Answer(Outcome),
    Exit(prop::sample::Index, ExitClass, bool),
    Advance(u64),
    Start(u8, Spec),
    Terminate(u8),
    Restart(u8),
    Delete(u8),
    Stop,
}

fn specs() -> impl Generate<Value = Spec> {
    let shutdown = prop_oneof![
        Just(Shutdown::BrutalKill),
        (0_u64..50).prop_map(Shutdown::TimeoutMs),
        Just(Shutdown::Infinity),
    ];
    (restarts(), shutdown).prop_map(|(restart, shutdown)| {
        ChildSpec::worker("", ())
            .restart(restart)
            .shutdown(shutdown)
    })
}

fn steps() -> impl Generate<Value = Step> {
    prop_oneof![
        12 => outcomes().prop_map(Step::Answer),
        12 => (any::<prop::sample::Index>(), classes(), any::<bool>())
            .prop_map(|(which, class, by_release)| Step::Exit(which, class, by_release)),
        4 => (0_u64..60).prop_map(Step::Advance),
        4 => (0_u8..8, specs()).prop_map(|(id, spec)| Step::Start(id, spec)),
        2 => (0_u8..8).prop_map(Step::Terminate),
        2 => (0_u8..8).prop_map(Step::Restart),
        2 => (0_u8..8).prop_map(Step::Delete),
        1 => Just(Step::Stop),
    ]
}

fn named(n: u8, spec: Spec) -> Spec {
    let id = format!("c{n}").into();
    ChildSpec { id, ..spec }
}

fn perform(step: Step, world: &mut World) {
    match step {
        Step::Answer(outcome) => {
            if world.starting.is_some() {
                world.finish(outcome);
            }
        }
        Step::Exit(which, class, by_release) => {
            if !world.live.is_empty() {
                let pids: Vec<_> = world.live.keys().copied().collect();
                world.exit_pid(*which.get(&pids), class, by_release);
            }
        }
        Step::Advance(ms) => world.advance(ms),
        Step::Start(n, spec) => {
            world.ask_start(named(n, spec));
        }
        Step::Terminate(n) => {
            world.ask_terminate(&format!("c{n}"));
        }
        Step::Restart(n) => {
            world.ask_restart(&format!("c{n}"));
        }
        Step::Delete(n) => {
            world.ask_delete(&format!("c{n}"));
        }
        Step::Stop => world.send(Event::Stop),
    }
}

/// Checks that the machine and the world agree on the live processes.
fn check_agreement(world: &World) -> Result<(), TestCaseError> {
    let mut known: Vec<_> = world
        .machine
        .which_children()
        .filter_map(|child| child.state.pid())
        .collect();
    known.sort_unstable();
    let live: Vec<_> = world.live.keys().copied().collect();
    prop_assert_eq!(&known, &live);
    prop_assert_eq!(world.machine.count_children().active, live.len());
    let starting = world
        .machine
        .which_children()
        .any(|child| child.state == ChildState::Starting);
    prop_assert_eq!(starting, world.starting.is_some());
    Ok(())
}

/// Checks that after a stop the running children are stopped last first, whatever was
/// in progress.
fn check_stop(world: &mut World) -> Result<(), TestCaseError> {
    world.send(Event::Stop);
    if world.starting.is_some() {
        world.finish(Outcome::Up);
    }
    let under_way = world.asked();
    let mut expected: Vec<_> = world
        .live
        .iter()
        .map(|(pid, child)| (child.key, *pid))
        .collect();
    expected.sort_unstable();
    expected.reverse();
    if let Some(first) = under_way {
        // The child that was already being stopped comes first.
        expected.retain(|(_, pid)| *pid != first);
        world.exit_pid(first, ExitClass::Shutdown, false);
    }
    for (_, pid) in expected {
        prop_assert_eq!(world.asked(), Some(pid));
        world.exit_pid(pid, ExitClass::Shutdown, false);
    }
    prop_assert!(world.terminated.is_some());
    prop_assert!(world.machine.is_terminated());
    prop_assert_eq!(world.machine.count_children().specs, 0);
    let answered = u64::try_from(world.replies.len()).expect("few");
    prop_assert_eq!(answered, world.requests(), "each request has one answer");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_child_runs_twice_and_none_is_left_over(
        strategy in strategies(),
        intensity in 0_u32..8,
        period_ms in 1_u64..100,
        children in prop::collection::vec(specs(), 0..6),
        steps in prop::collection::vec(steps(), 0..120),
    ) {
        let spec = SupervisorSpec { strategy, intensity, period_ms, max_children: 7 };
        let children = (0..).zip(children).map(|(n, spec)| named(n, spec)).collect();
        let mut world = World::new(spec, children);
        world.hold_starts = true;
        world.hold_stops = true;
        world.send(Event::Start);
        for step in steps {
            perform(step, &mut world);
            check_agreement(&world)?;
        }
        check_stop(&mut world)?;
    }
}
