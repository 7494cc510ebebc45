//! What has high priority goes before all else, what has low behind, and nothing is
//! forgotten.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use exuvia_scheduler::{Config, Next, Run, Scheduler};
use parking_lot::Mutex;

/// Notes who runs. Process `n` wants `left[n]` slices more; those below 100 have
/// high, those from 200 on low priority.
#[derive(Debug)]
struct Notes {
    left: Vec<AtomicU64>,
    order: Mutex<Vec<u32>>,
}

impl Run for Notes {
    fn run(&self, _: usize, index: u32) -> Next {
        self.order.lock().push(index);
        match self.left[index as usize].fetch_sub(1, Ordering::Relaxed) {
            1 => Next::Idle,
            _ if index < 100 => Next::AgainHigh,
            _ if index < 200 => Next::Again,
            _ => Next::AgainLow,
        }
    }

    fn tick(&self, _: usize) -> Option<Duration> {
        None
    }
}

fn order(workers: usize, procs: &[(u32, u64)]) -> Vec<u32> {
    let notes = Arc::new(Notes {
        left: (0..300).map(|_| AtomicU64::new(0)).collect(),
        order: Mutex::default(),
    });
    let config = Config {
        workers,
        ..Config::default()
    };
    let scheduler = Scheduler::start(config, notes.clone()).expect("threads are there");
    let handle = scheduler.handle();
    // Nobody begins before all are there.
    let held: Vec<_> = (0..workers).map(|n| handle.hold(n)).collect();
    for (index, slices) in procs {
        notes.left[*index as usize].store(*slices, Ordering::Relaxed);
        match index {
            0..100 => handle.wake_high(*index),
            100..200 => handle.wake(*index),
            _ => handle.wake_low(*index),
        }
    }
    drop(held);
    let all: u64 = procs.iter().map(|(_, slices)| slices).sum();
    while (notes.order.lock().len() as u64) < all {
        std::thread::yield_now();
    }
    scheduler.shutdown();
    let order = notes.order.lock();
    order.clone()
}

#[test]
fn high_goes_first_and_low_gets_one_slice_of_eight() {
    let order = order(1, &[(200, 20), (100, 80), (101, 80), (1, 10), (2, 10)]);
    assert!(order[..20].iter().all(|index| *index < 100), "{order:?}");
    // While the others have something to do, the low one has an eighth.
    let both = &order[20..20 + 120];
    let low = both.iter().filter(|index| **index == 200).count();
    assert!((14..=16).contains(&low), "{low} of {}", both.len());
    let first = both.iter().position(|index| *index == 200).unwrap();
    assert!(first < 8, "{order:?}");
}

#[test]
fn what_has_low_priority_runs_when_there_is_nothing_else() {
    assert_eq!(order(1, &[(200, 3)]), [200, 200, 200]);
    let order = order(1, &[(200, 2), (201, 2)]);
    assert_eq!(order, [200, 201, 200, 201]);
}

#[test]
fn all_get_done_on_several_workers() {
    let procs: Vec<(u32, u64)> = (0..300).map(|index| (index, 40)).collect();
    let order = order(4, &procs);
    for index in 0..300 {
        assert_eq!(order.iter().filter(|it| **it == index).count(), 40);
    }
}

/// A worker that sleeps is woken for either.
#[test]
fn sleepers_are_woken() {
    for index in [1, 200] {
        for _ in 0..200 {
            assert_eq!(order(2, &[(index, 1)]), [index]);
        }
    }
}
