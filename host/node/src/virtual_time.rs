//! Time that a test is the master of: a node whose clock stands still until
//! somebody moves it, and a way to wait until nobody has anything to do. What takes an hour by
//! the clock then takes no time, and happens in the same order each time.

use std::time::{Duration, Instant};

use exuvia_process::RunState;

use crate::node::Node;

/// How often it is looked whether somebody still has something to do.
const PAUSE: Duration = Duration::from_micros(50);

impl Node {
    /// Waits until no process has anything to do, and no timer is due: for a
    /// time at most, by the system's clock. False: somebody still runs.
    pub fn come_to_rest(&self, patience: Duration) -> bool {
        let until = real_now() + patience;
        loop {
            let before = self.slices();
            // Whoever was woken behind the one that looks has begun a slice since.
            if self.stands_still() && self.slices() == before {
                return true;
            }
            if real_now() > until {
                return false;
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Moves a clock that stands still, from timer to timer, so that each finds
    /// what came of those before; waits before each step as [`Node::come_to_rest`] does. False: somebody
    /// did not come to an end, and the clock stands where that was.
    pub fn advance(&self, by: Duration, patience: Duration) -> bool {
        let clock = &self.0.system.clock;
        let target = clock.now().saturating_add(nanoseconds(by));
        loop {
            if !self.come_to_rest(patience) {
                return false;
            }
            let now = clock.now();
            let next = self.next_timer().filter(|next| *next <= target);
            clock.advance(next.unwrap_or(target).saturating_sub(now));
            for worker in 0..self.scheduler().workers() {
                self.scheduler().unpark_worker(worker);
            }
            if next.is_none() {
                return self.come_to_rest(patience);
            }
        }
    }

    /// When the first timer is due, by the node's clock.
    pub fn next_timer(&self) -> Option<u64> {
        let timers = &self.0.system.timers;
        let next = (0..timers.shards()).map(|shard| timers.next(shard)).min();
        next.filter(|next| *next != u64::MAX)
    }

    fn slices(&self) -> u64 {
        let metrics = self.scheduler().metrics();
        metrics.workers.iter().map(|worker| worker.slices).sum()
    }

    fn stands_still(&self) -> bool {
        let system = &self.0.system;
        let due = self
            .next_timer()
            .is_some_and(|next| next <= system.clock.now());
        let mut slots = system
            .table
            .indices()
            .filter_map(|slot| system.table.slot(slot));
        // One that is awake may have taken timers that nobody has been told of yet.
        let asleep = self.scheduler().metrics().parked == self.scheduler().workers();
        asleep
            && !due
            && self.0.executor.in_host() == 0
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
