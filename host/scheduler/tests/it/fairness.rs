//! No process starves: not beside spinners, not beside a pair in the slot, not in the injector.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use exuvia_scheduler::Next;

use crate::harness::{Fixture, Watch};

/// Two processes wake each other while eight others never stop.
#[test]
fn spinners_do_not_starve_a_pair() {
    const SPINNERS: u32 = 8;
    const HOPS: u64 = 2_000;
    for workers in [1, 2] {
        let done = Watch::<bool>::new();
        let stop = Arc::new(AtomicBool::new(false));
        let hops = AtomicU64::new(0);
        let fixture = {
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            Fixture::new(workers, 2 + SPINNERS as usize, move |all, slice| {
                if slice.index >= 2 {
                    return match stop.load(Ordering::SeqCst) {
                        true => Next::Idle,
                        false => Next::Again,
                    };
                }
                if hops.fetch_add(1, Ordering::SeqCst) < HOPS {
                    all.send(1 - slice.index);
                } else {
                    done.update(|done| *done = true);
                }
                Next::Idle
            })
        };
        for spinner in 2..2 + SPINNERS {
            fixture.procs.send(spinner);
        }
        // From outside, while the workers never run out of work.
        fixture.procs.send(0);
        done.wait(|done| *done);
        stop.store(true, Ordering::SeqCst);
    }
}

/// A pair that wakes each other forever holds the slot; the queue still gets every fourth turn.
#[test]
fn a_pair_in_the_slot_leaves_turns_to_the_queue() {
    const OTHER_TURNS: u64 = 1_000;
    let counts = Watch::<(u64, u64)>::new();
    let fixture = {
        let counts = Arc::clone(&counts);
        Fixture::new(1, 3, move |all, slice| {
            let over = counts.update(|(pair, other)| {
                let over = *other == OTHER_TURNS;
                if !over {
                    *if slice.index == 2 { other } else { pair } += 1;
                }
                over
            });
            match slice.index {
                _ if over => Next::Idle,
                2 => {
                    // Its first slice starts the pair, so that all three are on the same worker.
                    (0..slice.credits).for_each(|_| all.send(0));
                    Next::Again
                }
                index => {
                    all.send(1 - index);
                    Next::Idle
                }
            }
        })
    };
    fixture.procs.send(2);
    counts.wait(|(_, other)| *other == OTHER_TURNS);
    counts.update(|(pair, _)| {
        assert!(*pair <= 3 * (OTHER_TURNS + 1), "{pair} turns for the pair");
        assert!(*pair >= 3 * (OTHER_TURNS - 1), "the slot is in use: {pair}");
    });
}

/// The injector is checked although the queue never runs out.
#[test]
fn the_injector_is_served_beside_a_full_queue() {
    let slices = Arc::new(AtomicU64::new(0));
    let seen = Watch::<Option<u64>>::new();
    let fixture = {
        let (slices, seen) = (Arc::clone(&slices), Arc::clone(&seen));
        Fixture::new(1, 11, move |all, slice| {
            let now = slices.fetch_add(1, Ordering::SeqCst);
            if slice.index == 10 {
                seen.update(|seen| *seen = Some(now));
                return Next::Idle;
            }
            // Process 0 starts the other spinners, so that all of them are on the same worker.
            if slice.index == 0 && slice.credits > 0 {
                (1..10).for_each(|other| all.send(other));
            }
            match seen.update(|seen| *seen) {
                Some(_) => Next::Idle,
                None => Next::Again,
            }
        })
    };
    fixture.procs.send(0);
    crate::harness::until(|| slices.load(Ordering::SeqCst) > 100);
    let held = fixture.handle.hold(0).expect("outside, and running");
    let before = slices.load(Ordering::SeqCst);
    fixture.procs.send(10);
    drop(held);
    seen.wait(Option::is_some);
    let waited = seen.update(|seen| seen.expect("waited for")) - before;
    assert!(waited <= 61, "{waited} slices before it ran");
}
