//! Measures the cost of a hop: within a worker, across workers, and in a long queue.
//!
//! The processes only wake each other, so all of the time is the scheduler's own cost.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use exuvia_scheduler::{Config, Handle, Next, Run, Scheduler};

/// `procs` processes; each slice decrements `left`.
struct Bench {
    /// The schedulers: process `n` is in `n % handles.len()`.
    handles: OnceLock<Vec<Handle>>,
    procs: u32,
    again: bool,
    left: AtomicU64,
    /// Slices after the end, so that a run of "again" drains before the next.
    draining: AtomicU64,
    done: mpsc::SyncSender<()>,
}

impl Run for Bench {
    fn run(&self, _: usize, index: u32) -> Next {
        let left = self.left.load(Ordering::Relaxed);
        if self.again {
            if left == 0 {
                if self.draining.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.done.send(()).expect("the bench waits");
                }
                return Next::Idle;
            }
            self.left.store(left - 1, Ordering::Relaxed);
            return Next::Again;
        }
        if left == 0 {
            self.done.send(()).expect("the bench waits");
            return Next::Idle;
        }
        // Only one process runs at a time, so a load and a store are enough.
        self.left.store(left - 1, Ordering::Relaxed);
        let next = index + 1;
        self.wake(if next == self.procs { 0 } else { next });
        Next::Idle
    }

    fn tick(&self, _: usize) -> Option<Duration> {
        None
    }
}

impl Bench {
    fn wake(&self, index: u32) {
        let handles = self.handles.get().expect("set before the first wake");
        // At most two schedulers, so a mask does it: a division would show in the figures.
        handles[index as usize & (handles.len() - 1)].wake(index);
    }
}

/// Returns a function that measures hops with `schedulers` of `workers` each; process `n` is in
/// scheduler `n % schedulers`.
fn hops(schedulers: usize, workers: usize, procs: u32, again: bool) -> impl FnMut(u64) -> Duration {
    let (done, wait) = mpsc::sync_channel(1);
    let bench = Arc::new(Bench {
        handles: OnceLock::new(),
        procs,
        again,
        left: AtomicU64::new(0),
        draining: AtomicU64::new(0),
        done,
    });
    let schedulers: Vec<_> = (0..schedulers)
        .map(|_| {
            let config = Config {
                workers,
                ..Config::default()
            };
            Scheduler::start(config, Arc::clone(&bench)).expect("start")
        })
        .collect();
    let handles = schedulers.iter().map(Scheduler::handle).collect();
    bench.handles.set(handles).expect("set once");
    move |iterations| {
        let _running = &schedulers;
        bench.left.store(iterations, Ordering::Relaxed);
        let start = now();
        if again {
            bench.draining.store(procs.into(), Ordering::Relaxed);
            (0..procs).for_each(|index| bench.wake(index));
        } else {
            bench.wake(0);
        }
        wait.recv().expect("a worker answers");
        start.elapsed()
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn wake(c: &mut Criterion) {
    let mut group = c.benchmark_group("wake");
    group.throughput(Throughput::Elements(1));
    group.bench_function("pair, one worker", |b| {
        let mut hops = hops(1, 1, 2, false);
        b.iter_custom(&mut hops);
    });
    group.bench_function("pair, two workers free to take it", |b| {
        let mut hops = hops(1, 2, 2, false);
        b.iter_custom(&mut hops);
    });
    group.bench_function("pair, each on its own worker", |b| {
        let mut hops = hops(2, 1, 2, false);
        b.iter_custom(&mut hops);
    });
    group.bench_function("ring of 503, one worker", |b| {
        let mut hops = hops(1, 1, 503, false);
        b.iter_custom(&mut hops);
    });
    group.bench_function("1,000 runnable, one worker", |b| {
        let mut hops = hops(1, 1, 1_000, true);
        b.iter_custom(&mut hops);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = wake
}
criterion_main!(benches);
