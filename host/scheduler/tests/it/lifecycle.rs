//! Start, stop, panics, and what a handle returns.

use std::{
    panic,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use exuvia_scheduler::{Config, Error, MAX_WORKERS, Next, Run, Scheduler};
use parking_lot::Mutex;

use crate::harness::{Fixture, Watch, until};

/// Suppresses the output of expected panics.
fn quiet_workers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = thread::current();
            if !thread
                .name()
                .is_some_and(|n| n.starts_with("exuvia-sched-"))
            {
                before(info);
            }
        }));
    });
}

struct Nothing;

impl Run for Nothing {
    fn run(&self, _: usize, _: u32) -> Next {
        Next::Idle
    }

    fn tick(&self, _: usize) -> Option<std::time::Duration> {
        None
    }
}

#[test]
fn shutdown_ends_after_the_current_slices() {
    for _ in 0..50 {
        let slices = Arc::new(AtomicU64::new(0));
        let mut fixture = {
            let slices = Arc::clone(&slices);
            Fixture::new(2, 8, move |_, _| {
                slices.fetch_add(1, Ordering::SeqCst);
                Next::Again
            })
        };
        (0..8).for_each(|index| fixture.procs.send(index));
        until(|| slices.load(Ordering::SeqCst) > 100);
        fixture.scheduler.take().expect("running").shutdown();
        let at_end = slices.load(Ordering::SeqCst);
        assert_eq!(
            Arc::strong_count(&fixture.procs),
            1,
            "the workers let go of `run`"
        );
        // A wake after the stop has no effect.
        fixture.handle.wake(0);
        assert_eq!(slices.load(Ordering::SeqCst), at_end);
        assert!(fixture.handle.hold(0).is_none(), "a stopped worker");
    }
}

#[test]
fn a_scheduler_starts_and_stops_without_work() {
    for workers in [1, 2, 5] {
        for _ in 0..100 {
            drop(Fixture::new(workers, 0, |_, _| Next::Idle));
        }
    }
}

#[test]
fn a_blocked_worker_can_be_stopped() {
    let mut fixture = Fixture::new(2, 0, |_, _| Next::Idle);
    let held = fixture.handle.hold(0).expect("outside, and running");
    let twice = fixture.handle.hold(0).expect("two may hold one worker");
    drop(fixture.scheduler.take());
    drop((held, twice));
}

#[test]
fn a_scheduler_may_be_dropped_on_its_own_worker() {
    let cell = Arc::new(Mutex::new(None::<Scheduler>));
    let ended = Watch::<bool>::new();
    let mut fixture = {
        let (cell, ended) = (Arc::clone(&cell), Arc::clone(&ended));
        Fixture::new(2, 1, move |_, _| {
            drop(cell.lock().take().expect("put there before the wake"));
            ended.update(|ended| *ended = true);
            Next::Idle
        })
    };
    *cell.lock() = fixture.scheduler.take();
    fixture.procs.send(0);
    ended.wait(|ended| *ended);
    // The thread that could not be joined releases `run` as its last action.
    until(|| Arc::strong_count(&fixture.procs) == 1);
}

#[test]
fn a_panic_ends_the_slice_and_not_the_worker() {
    quiet_workers();
    let ran = Watch::<u64>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::new(1, 4, move |_, slice| {
            ran.update(|ran| *ran += 1);
            assert_ne!(slice.index, 2, "on purpose");
            Next::Idle
        })
    };
    for round in 1..=10 {
        (0..4).for_each(|index| fixture.procs.send(index));
        ran.wait(|ran| *ran == 4 * round);
        until(|| fixture.procs.panicked.lock().len() as u64 == round);
    }
    assert!(fixture.procs.panicked.lock().iter().all(|&p| p == 2));
    assert_eq!(fixture.handle.metrics().total().panics, 10);
}

#[test]
fn a_panic_in_tick_or_on_start_is_survived() {
    quiet_workers();
    let once = AtomicBool::new(true);
    let ran = Watch::<bool>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::with_tick(
            1,
            1,
            move |_| {
                assert!(!once.swap(false, Ordering::SeqCst), "on purpose");
                None
            },
            move |_, _| {
                ran.update(|ran| *ran = true);
                Next::Idle
            },
        )
    };
    until(|| fixture.handle.metrics().total().panics == 1);
    fixture.procs.send(0);
    ran.wait(|ran| *ran);

    let config = Config {
        workers: 1,
        on_start: Some(Arc::new(|_| panic!("on purpose"))),
        ..Config::default()
    };
    let scheduler = Scheduler::start(config, Arc::new(Nothing)).expect("start");
    scheduler.handle().wake(0);
    until(|| scheduler.handle().metrics().total().slices == 1);
}

#[test]
fn worker_threads_have_names_and_a_start_callback() {
    let names = Watch::<Vec<(usize, String)>>::new();
    let seen = Arc::clone(&names);
    let config = Config {
        workers: 3,
        stack_size: Some(256 << 10),
        on_start: Some(Arc::new(move |worker| {
            let name = thread::current().name().expect("named").to_owned();
            seen.update(|seen| seen.push((worker, name)));
        })),
        ..Config::default()
    };
    let run: Arc<dyn Run> = Arc::new(Nothing);
    let scheduler = Scheduler::start(config, run).expect("start");
    assert_eq!(scheduler.handle().workers(), 3);
    names.wait(|names| names.len() == 3);
    names.update(|names| {
        names.sort();
        for (worker, name) in names.iter() {
            assert_eq!(*name, format!("exuvia-sched-{worker}"));
        }
    });
}

#[test]
fn the_number_of_workers_has_limits() {
    for workers in [0, MAX_WORKERS + 1] {
        let config = Config {
            workers,
            ..Config::default()
        };
        let error = Scheduler::start(config, Arc::new(Nothing)).expect_err("refused");
        assert!(matches!(error, Error::Workers(n) if n == workers));
        assert!(error.to_string().contains("between 1 and 1024"), "{error}");
    }
}

#[test]
fn workers_of_two_schedulers_are_distinguished() {
    let other = Fixture::new(1, 0, |_, _| Next::Idle);
    let answers = Watch::<Option<(Option<usize>, Option<usize>, bool)>>::new();
    let fixture = {
        let (answers, other) = (Arc::clone(&answers), other.handle.clone());
        Fixture::new(1, 1, move |all, slice| {
            let answer = (
                all.handle().current_worker(),
                other.current_worker(),
                all.handle().hold(slice.worker).is_none(),
            );
            answers.update(|answers| *answers = Some(answer));
            Next::Idle
        })
    };
    assert_eq!(fixture.handle.current_worker(), None);
    fixture.procs.send(0);
    answers.wait(Option::is_some);
    answers.update(|answers| assert_eq!(*answers, Some((Some(0), None, true))));
}
