//! No wake is lost and none runs twice, whatever sends and however workers park and wake.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use exuvia_scheduler::Next;

use crate::harness::{Fixture, Watch};

/// Spreads messages without a shared random source.
fn scatter(x: u64) -> u64 {
    let x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// Several threads send from outside; the processes pass each message on until a budget is spent.
/// Every message is handled exactly once.
fn chains(workers: usize, procs: u64, senders: u64, seeds: u64, total: u64) {
    let done = Watch::<bool>::new();
    let handled = Arc::new(AtomicU64::new(0));
    let started = Arc::new(AtomicU64::new(senders * seeds));
    let fixture = {
        let (done, handled) = (Arc::clone(&done), Arc::clone(&handled));
        let started = Arc::clone(&started);
        Fixture::new(workers, procs as usize, move |all, slice| {
            for _ in 0..slice.credits {
                // A message is handled once; while the budget lasts it causes another one.
                let count = handled.fetch_add(1, Ordering::SeqCst) + 1;
                if started.fetch_add(1, Ordering::SeqCst) < total {
                    all.send((scatter(count) % procs) as u32);
                } else {
                    started.fetch_sub(1, Ordering::SeqCst);
                }
                assert!(count <= total);
                if count == total {
                    done.update(|done| *done = true);
                }
            }
            Next::Idle
        })
    };
    thread::scope(|scope| {
        for sender in 0..senders {
            let all = &fixture.procs;
            scope.spawn(move || {
                for seed in 0..seeds {
                    all.send((scatter(sender << 32 | seed) % procs) as u32);
                }
            });
        }
    });
    done.wait(|done| *done);
    drop(fixture);
    assert_eq!(handled.load(Ordering::SeqCst), total);
}

#[test]
fn chains_on_one_worker() {
    chains(1, 16, 3, 500, 200_000);
}

#[test]
fn chains_on_two_workers() {
    chains(2, 64, 4, 2_000, 500_000);
}

#[test]
fn chains_on_more_workers_than_cores() {
    chains(8, 100, 4, 2_000, 300_000);
}

#[test]
fn few_messages_among_many_workers() {
    // Most workers sleep most of the time, so nearly every message coincides with a park.
    chains(4, 8, 2, 1, 50_000);
}

#[test]
fn each_lone_wake_from_outside_arrives() {
    const ROUNDS: u64 = 20_000;
    for workers in [1, 3] {
        let answered = Arc::new(AtomicU64::new(0));
        let watch = Watch::<u64>::new();
        let fixture = {
            let (answered, watch) = (Arc::clone(&answered), Arc::clone(&watch));
            Fixture::new(workers, 1, move |_, slice| {
                answered.fetch_add(slice.credits, Ordering::SeqCst);
                watch.update(|seen| *seen += slice.credits);
                Next::Idle
            })
        };
        for round in 1..=ROUNDS {
            fixture.procs.send(0);
            watch.wait(|seen| *seen == round);
        }
        assert_eq!(answered.load(Ordering::SeqCst), ROUNDS);
    }
}
