//! Timers of parked workers: the deadline itself, and one that is set earlier meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use exuvia_scheduler::Next;

use crate::harness::{Fixture, Watch, until};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_earlier_timer_reaches_a_worker_that_sleeps_for_long() {
    const ROUNDS: u64 = 5_000;
    // The flag is the timer: set by the test, fired by the worker's tick.
    let due = Arc::new(AtomicBool::new(false));
    let fired = Watch::<u64>::new();
    let fixture = {
        let (due, fired) = (Arc::clone(&due), Arc::clone(&fired));
        Fixture::with_tick(
            2,
            1,
            move |worker| {
                if worker == 1 && due.swap(false, Ordering::SeqCst) {
                    fired.update(|fired| *fired += 1);
                }
                Some(HOUR)
            },
            |_, _| Next::Idle,
        )
    };
    for round in 1..=ROUNDS {
        due.store(true, Ordering::SeqCst);
        fixture.handle.unpark_worker(1);
        fired.wait(|fired| *fired == round);
    }
}

#[test]
fn a_deadline_ends_the_sleep_and_its_wakes_run() {
    let ran = Watch::<u64>::new();
    let armed = Arc::new(AtomicBool::new(false));
    // The tick needs the processes, which are created after it.
    let procs = Arc::new(std::sync::OnceLock::<std::sync::Weak<crate::harness::Procs>>::new());
    let fixture = {
        let (ran, armed, procs) = (Arc::clone(&ran), Arc::clone(&armed), Arc::clone(&procs));
        Fixture::with_tick(
            1,
            3,
            move |_| {
                let procs = procs.get().and_then(std::sync::Weak::upgrade);
                if let Some(procs) = procs
                    && armed.swap(false, Ordering::SeqCst)
                {
                    (0..3).for_each(|index| procs.send(index));
                    return None;
                }
                // The first call returns a deadline that soon passes; then the timer is due.
                armed.store(true, Ordering::SeqCst);
                Some(Duration::from_micros(200))
            },
            move |_, _| {
                ran.update(|ran| *ran += 1);
                Next::Idle
            },
        )
    };
    procs.set(Arc::downgrade(&fixture.procs)).expect("set once");
    ran.wait(|ran| *ran >= 300);
}

/// Ticks continue while a worker is never out of work.
#[test]
fn a_busy_worker_ticks() {
    let ticks = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let fixture = {
        let (ticks, enough) = (Arc::clone(&ticks), Arc::clone(&enough));
        Fixture::with_tick(
            1,
            1,
            move |_| {
                ticks.fetch_add(1, Ordering::SeqCst);
                None
            },
            move |_, _| match enough.load(Ordering::SeqCst) {
                true => Next::Idle,
                false => Next::Again,
            },
        )
    };
    fixture.procs.send(0);
    until(|| fixture.handle.metrics().total().slices > 10);
    let before = ticks.load(Ordering::SeqCst);
    let slices = fixture.handle.metrics().total().slices;
    until(|| ticks.load(Ordering::SeqCst) >= before + 100);
    enough.store(true, Ordering::SeqCst);
    until(|| fixture.handle.metrics().parked == 1);
    let total = fixture.handle.metrics().total();
    assert_eq!(total.ticks, ticks.load(Ordering::SeqCst));
    assert!(total.slices > slices);
    // A slice that ends with `Again` counts as eight of 32.
    assert!(total.ticks >= total.slices / 4, "{total:?}");
}

/// Idle workers sleep: they do not spin.
#[test]
fn idle_workers_sleep_until_something_happens() {
    let fixture = Fixture::new(3, 1, |_, _| Next::Idle);
    until(|| fixture.handle.metrics().parked == 3);
    let before = fixture.handle.metrics();
    assert_eq!(before.total().slices, 0);
    fixture.procs.send(0);
    until(|| fixture.handle.metrics().total().slices == 1);
    until(|| fixture.handle.metrics().parked == 3);
    let after = fixture.handle.metrics();
    assert_eq!(after.outside_unparks, 1);
    // One worker was woken for one process, and it woke no other.
    assert_eq!(after.total().unparks, 0);
    assert_eq!(after.total().injector_pops, 1);
}
