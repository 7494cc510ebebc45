//! Processes that only one worker may run. The harness checks that no other does.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use exuvia_scheduler::Next;

use crate::harness::{Fixture, Watch, until};

const WORKERS: usize = 4;

/// The even ones are pinned, distributed over the workers.
fn every_other(index: u32) -> Option<usize> {
    index
        .is_multiple_of(2)
        .then_some(index as usize / 2 % WORKERS)
}

/// Processes that wake one another, and a thread outside that wakes them all.
#[test]
fn a_pinned_process_runs_on_its_worker_whichever_wakes_it() {
    const PROCS: u32 = 32;
    const HOPS: u64 = 50_000;
    let left = Arc::new(AtomicU64::new(HOPS));
    let taken = Watch::<u64>::new();
    let fixture = {
        let (left, taken) = (Arc::clone(&left), Arc::clone(&taken));
        Fixture::pinned(WORKERS, PROCS as usize, every_other, move |all, slice| {
            for credit in 0..slice.credits {
                let order = Ordering::SeqCst;
                let hop = left.fetch_update(order, order, |left| left.checked_sub(1));
                if let Ok(hop) = hop {
                    // Never itself; sometimes near, sometimes far.
                    let step = 1 + (hop + credit) % u64::from(PROCS - 1);
                    all.send((slice.index + step as u32) % PROCS);
                }
            }
            taken.update(|taken| *taken += slice.credits);
            // Some run a second time without a reason.
            if slice.credits > 0 && slice.index.is_multiple_of(3) {
                Next::Again
            } else {
                Next::Idle
            }
        })
    };
    for round in 0..100 {
        (0..PROCS).for_each(|index| fixture.procs.send((index + round) % PROCS));
    }
    taken.wait(|taken| *taken == HOPS + 100 * u64::from(PROCS));
}

#[test]
fn a_sleeping_worker_is_woken_for_work_pinned_to_it() {
    let ran = Watch::<u64>::new();
    let fixture = {
        let ran = Arc::clone(&ran);
        Fixture::pinned(
            WORKERS,
            2 * WORKERS,
            |index| Some(index as usize % WORKERS),
            move |_, slice| {
                ran.update(|ran| *ran += slice.credits);
                Next::Idle
            },
        )
    };
    for round in 1..=500 {
        until(|| fixture.handle.metrics().parked == WORKERS);
        fixture.procs.send(round as u32 % (2 * WORKERS as u32));
        ran.wait(|ran| *ran == round);
    }
}

/// Back and forth between two workers, which find each other asleep, searching and running.
#[test]
fn two_processes_pinned_to_different_workers_exchange_messages() {
    const ROUNDS: u64 = 20_000;
    let hops = Watch::<u64>::new();
    let fixture = {
        let hops = Arc::clone(&hops);
        Fixture::pinned(
            2,
            2,
            |index| Some(index as usize),
            move |all, slice| {
                let hops = hops.update(|hops| {
                    *hops += slice.credits;
                    *hops
                });
                if hops < ROUNDS {
                    all.send(1 - slice.index);
                }
                Next::Idle
            },
        )
    };
    fixture.procs.send(0);
    hops.wait(|hops| *hops == ROUNDS);
    assert_eq!(fixture.handle.metrics().total().steals, 0);
}

/// One pinned process and one that is not, neither of which ever waits.
#[test]
fn pinned_work_and_the_queue_alternate() {
    const SLICES: u64 = 10_000;
    let seen = Watch::<[u64; 2]>::new();
    let fixture = {
        let seen = Arc::clone(&seen);
        Fixture::pinned(
            1,
            2,
            |index| (index == 0).then_some(0),
            move |_, slice| {
                let all = seen.update(|seen| {
                    seen[slice.index as usize] += 1;
                    seen[0] + seen[1]
                });
                if all < SLICES {
                    Next::Again
                } else {
                    Next::Idle
                }
            },
        )
    };
    let held = fixture.handle.hold(0);
    fixture.procs.send(0);
    fixture.procs.send(1);
    drop(held);
    seen.wait(|seen| seen[0] + seen[1] >= SLICES);
    seen.wait(|seen| seen[0].abs_diff(seen[1]) <= SLICES / 10);
}

#[test]
fn pinning_to_a_missing_worker_is_rejected() {
    let fixture = Fixture::new(2, 1, |_, _| Next::Idle);
    let wake = std::panic::AssertUnwindSafe(|| fixture.handle.wake_on(2, 0));
    let woken = std::panic::catch_unwind(wake);
    assert!(woken.is_err());
}
