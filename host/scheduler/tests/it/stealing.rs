//! Work does not stay with a busy worker while another one is idle.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use exuvia_scheduler::Next;

use crate::harness::{Fixture, Watch, until};

/// Process 0 wakes many others and then occupies its worker until they have run. That is only
/// possible on the other worker, which was asleep.
#[test]
fn a_sleeping_worker_steals_the_queue_of_a_busy_one() {
    const OTHERS: u32 = 100;
    let ran = Watch::<u32>::new();
    let home = Arc::new(AtomicU32::new(0));
    let fixture = {
        let (ran, home) = (Arc::clone(&ran), Arc::clone(&home));
        Fixture::new(2, 1 + OTHERS as usize, move |all, slice| {
            if slice.index == 0 {
                home.store(slice.worker as u32, Ordering::SeqCst);
                // The first half only wakes the sleeper, as any slice does.
                (1..=OTHERS / 2).for_each(|other| all.send(other));
                all.handle().slice_gets_long();
                (OTHERS / 2 + 1..=OTHERS).for_each(|other| all.send(other));
                ran.wait(|ran| *ran == OTHERS);
            } else {
                ran.update(|ran| *ran += 1);
            }
            Next::Idle
        })
    };
    until(|| fixture.handle.metrics().parked == 2);
    fixture.procs.send(0);
    ran.wait(|ran| *ran == OTHERS);
    let home = home.load(Ordering::SeqCst) as usize;
    let metrics = fixture.handle.metrics();
    assert!(metrics.workers[1 - home].steals >= 1, "{metrics:?}");
    assert!(metrics.workers[home].unparks >= 1, "{metrics:?}");
}

/// What a long slice has woken, before and after it announced its length, runs on the other worker.
#[test]
fn a_long_slice_delays_no_other() {
    let ran = Watch::<u32>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::new(2, 3, move |all, slice| {
            if slice.index == 0 {
                let before = ran.update(|ran| *ran);
                all.send(1);
                all.handle().slice_gets_long();
                all.send(2);
                ran.wait(|ran| *ran == before + 2);
            } else {
                ran.update(|ran| *ran += 1);
            }
            Next::Idle
        })
    };
    fixture.handle.slice_gets_long();
    for round in 1..=2_000 {
        fixture.procs.send(0);
        ran.wait(|ran| *ran == 2 * round);
    }
    // Neither went through the slot.
    assert_eq!(fixture.handle.metrics().total().slot_hits, 0);
}

/// While a worker is held, others run what waits in its queue.
#[test]
fn a_blocked_worker_delays_nothing() {
    const PROCS: u32 = 200;
    let ran = Watch::<u32>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::new(3, PROCS as usize, move |all, slice| {
            if slice.index == 0 {
                (1..PROCS).for_each(|other| all.send(other));
            }
            ran.update(|ran| *ran += 1);
            Next::Idle
        })
    };
    for worker in [0, 1, 2] {
        let held = fixture.handle.hold(worker).expect("outside, and running");
        assert_eq!(held.worker(), worker);
        ran.update(|ran| *ran = 0);
        fixture.procs.send(0);
        ran.wait(|ran| *ran == PROCS);
    }
}

/// Two wakes from outside put two workers to use, even though the second waker may have relied on
/// the searcher that the first one woke.
#[test]
fn two_wakes_from_outside_run_side_by_side() {
    let met = Watch::<u32>::new();
    let fixture = {
        let met = Arc::clone(&met);
        Fixture::new(2, 2, move |_, _| {
            // A meeting of two: each waits until the other has arrived.
            let mine = met.update(|met| {
                *met += 1;
                *met
            });
            met.wait(|met| *met >= mine.next_multiple_of(2));
            Next::Idle
        })
    };
    for round in 1..=2_000 {
        fixture.procs.send(0);
        fixture.procs.send(1);
        met.wait(|met| *met == 2 * round);
    }
}
