//! Time under a test's control: a node whose clock stands still until the test moves it, and a way
//! to wait until no process has anything to do. What takes an hour by the clock then takes no time,
//! and happens in the same order each time.

use std::time::{Duration, Instant};

use exuvia_process::RunState;

use super::Core;

/// How often it is checked whether a process still has something to do.
const PAUSE: Duration = Duration::from_micros(50);

impl Core {
    /// Waits until no process has anything to do and no timer is due, for `patience` at most by the
    /// system's clock. Returns whether that state was reached.
    pub(crate) fn come_to_rest(&self, patience: Duration) -> bool {
        let until = real_now() + patience;
        loop {
            let before = self.slices();
            // A process that was woken behind the scan has begun a slice since.
            if self.stands_still() && self.slices() == before {
                return true;
            }
            if real_now() > until {
                return false;
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Moves a manual clock, from timer to timer, so that each one finds the effects of those
    /// before; waits before each step as [`Core::come_to_rest`] does. Returns `false` if a process
    /// does not become idle in time; the clock then stays at that step.
    pub(crate) fn advance(&self, by: Duration, patience: Duration) -> bool {
        let clock = &self.system.clock;
        let target = clock.now().saturating_add(nanoseconds(by));
        loop {
            if !self.come_to_rest(patience) {
                return false;
            }
            let now = clock.now();
            let next = self.next_timer().filter(|next| *next <= target);
            clock.advance(next.unwrap_or(target).saturating_sub(now));
            for worker in 0..self.schedulers.workers() {
                self.schedulers.unpark_worker(worker);
            }
            if next.is_none() {
                return self.come_to_rest(patience);
            }
        }
    }

    /// Returns when the first timer is due, by the node's clock.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let timers = &self.system.timers;
        let next = (0..timers.shards()).map(|shard| timers.next(shard)).min();
        next.filter(|next| *next != u64::MAX)
    }

    fn slices(&self) -> u64 {
        let metrics = self.schedulers.metrics();
        metrics.workers.iter().map(|worker| worker.slices).sum()
    }

    fn stands_still(&self) -> bool {
        let system = &self.system;
        let due = self
            .next_timer()
            .is_some_and(|next| next <= system.clock.now());
        let mut slots = system
            .table
            .indices()
            .filter_map(|slot| system.table.slot(slot));
        // A worker that is awake may have taken timers that it has not delivered yet.
        let asleep = self.schedulers.metrics().parked == self.schedulers.workers();
        asleep
            && !due
            && self.executor.in_host() == 0
            && slots.all(|slot| matches!(slot.state.get(), RunState::Free | RunState::Idle))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the node's own clock stands still"
)]
fn real_now() -> Instant {
    Instant::now()
}
