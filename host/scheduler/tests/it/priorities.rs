//! High priority runs before everything else, low priority after it, and nothing starves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use exuvia_scheduler::{Config, Next, Run, Scheduler};
use parking_lot::Mutex;

/// Records which processes run. Process `n` wants `left[n]` more slices; those below 100 have high
/// priority, those from 200 on low priority.
#[derive(Debug)]
struct Notes {
    left: Vec<AtomicU64>,
    order: Mutex<Vec<u32>>,
}

impl Default for Notes {
    fn default() -> Notes {
        Notes {
            left: (0..300).map(|_| AtomicU64::new(0)).collect(),
            order: Mutex::default(),
        }
    }
}

/// More than any test examines.
const MOST_NOTED: usize = 100_000;

impl Run for Notes {
    fn run(&self, _: usize, index: u32) -> Next {
        let mut order = self.order.lock();
        if order.len() < MOST_NOTED {
            order.push(index);
        }
        drop(order);
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
    order_with(workers, 0, procs)
}

fn order_with(workers: usize, others_share: u32, procs: &[(u32, u64)]) -> Vec<u32> {
    let notes = Arc::new(Notes::default());
    let config = Config {
        workers,
        others_share,
        ..Config::default()
    };
    let scheduler = Scheduler::start(config, notes.clone()).expect("threads are there");
    let handle = scheduler.handle();
    // None starts before all are queued.
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
    // While the others have something to do, the low-priority one gets an eighth.
    let both = &order[20..20 + 120];
    let low = both.iter().filter(|index| **index == 200).count();
    assert!((14..=16).contains(&low), "{low} of {}", both.len());
    let first = both.iter().position(|index| *index == 200).unwrap();
    assert!(first < 8, "{order:?}");
}

/// Returns the slices of other processes among 1,000 of high priority, which stand for "forever".
fn among_high(share: u32, procs: &[(u32, u64)]) -> Vec<u32> {
    let mut procs = procs.to_vec();
    procs.extend([(1, 500), (2, 500)]);
    let mut order = order_with(1, share, &procs);
    let end = order.iter().rposition(|index| *index < 100);
    let end = end.expect("those of high priority have run");
    order.truncate(end);
    order.retain(|index| *index >= 100);
    order
}

#[test]
fn normal_priority_gets_its_share_beside_busy_high_priority() {
    for (share, least, most) in [
        (10, 108, 112),
        (50, 990, 1000),
        (90, 8_900, 9_000),
        (1, 9, 11),
    ] {
        let got = among_high(share, &[(100, 5_000), (101, 5_000)]).len();
        assert!(
            (least..=most).contains(&got),
            "{got} with a share of {share}"
        );
    }
    // In alternation.
    let first = &among_high(10, &[(100, 50), (101, 50)])[..6];
    assert_eq!(first, [100, 101, 100, 101, 100, 101]);
}

#[test]
fn low_gets_one_of_eight_of_that_share() {
    let others = among_high(10, &[(100, 5_000), (200, 5_000)]);
    let low = others.iter().filter(|index| **index == 200).count();
    assert!((12..=15).contains(&low), "{low} of {}", others.len());
    // Or all of it, if no other process wants any.
    assert!(among_high(10, &[(200, 5_000)]).len() >= 108);
}

#[test]
fn without_a_share_other_priorities_wait_as_in_erlang() {
    assert!(among_high(0, &[(100, 50), (200, 50)]).is_empty());
}

/// Unused slices are not accumulated: a newcomer gets one slice at once.
#[test]
fn an_unused_share_is_not_saved_up() {
    let order = order_with(1, 50, &[(1, 400)]);
    assert_eq!(order.len(), 400);
    let others = among_high(50, &[(100, 3)]);
    assert_eq!(others, [100, 100, 100]);
}

/// Spinners on all workers starve no process, wherever it waits. They are stopped when the others
/// are done.
#[test]
fn work_in_the_injector_or_on_other_workers_gets_a_turn() {
    let notes = Arc::new(Notes::default());
    let config = Config {
        workers: 4,
        ..Config::default()
    };
    let scheduler = Scheduler::start(config, notes.clone()).expect("threads are there");
    let handle = scheduler.handle();
    for index in 0..8 {
        notes.left[index as usize].store(u64::MAX, Ordering::Relaxed);
        handle.wake_high(index);
    }
    let others = 100..140;
    for index in others.clone() {
        notes.left[index as usize].store(20, Ordering::Relaxed);
        handle.wake(index);
    }
    let left = |index| notes.left[index as usize].load(Ordering::Relaxed);
    while others.clone().any(|index| left(index) > 0) {
        std::thread::yield_now();
    }
    scheduler.shutdown();
}

#[test]
fn low_priority_runs_when_there_is_nothing_else() {
    assert_eq!(order(1, &[(200, 3)]), [200, 200, 200]);
    let order = order(1, &[(200, 2), (201, 2)]);
    assert_eq!(order, [200, 201, 200, 201]);
}

#[test]
fn all_priorities_finish_on_several_workers() {
    let procs: Vec<(u32, u64)> = (0..300).map(|index| (index, 40)).collect();
    let order = order(4, &procs);
    for index in 0..300 {
        assert_eq!(order.iter().filter(|it| **it == index).count(), 40);
    }
}

/// A sleeping worker is woken for either priority.
#[test]
fn sleeping_workers_are_woken() {
    for index in [1, 200] {
        for _ in 0..200 {
            assert_eq!(order(2, &[(index, 1)]), [index]);
        }
    }
}
