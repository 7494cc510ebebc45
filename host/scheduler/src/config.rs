//! Configuration: the number of workers and the properties of their threads.

use std::{fmt, sync::Arc, thread};

use crate::{metrics::SleepRecord, poller::Poller};

/// Maximum number of workers of one scheduler. The counts in `idle` would allow 65,535; beyond this
/// number, one list of sleepers under one lock would no longer scale.
pub const MAX_WORKERS: usize = 1024;

/// Default of `others_share`: of a hundred slices, how many go to processes that do not have high
/// priority while one with high priority waits. Few enough that high-priority processes hardly
/// notice it, and enough for an operator to terminate processes that never wait.
pub const OTHERS_SHARE: u32 = 10;
/// Maximum of that share.
pub const MOST_OTHERS_SHARE: u32 = 90;

/// The configuration of a scheduler.
#[derive(Clone)]
pub struct Config {
    /// Number of worker threads. The default is one for each core that this program may use.
    pub workers: usize,
    /// Threads are named `<name>-<worker>`. The system may truncate that to 15 bytes.
    pub name: String,
    /// Stack size of each worker thread in bytes; `None` uses the standard library's default.
    pub stack_size: Option<usize>,
    /// Of a hundred slices, how many go to other processes while a high-priority one waits; 0:
    /// none, as in Erlang. At most [`MOST_OTHERS_SHARE`].
    pub others_share: u32,
    /// Makes the poller of each worker; `None`: workers have none.
    pub pollers: Option<MakePoller>,
    /// Called on each worker thread before its first slice, with the worker's number.
    pub on_start: Option<OnStart>,
}

/// Makes the poller of a worker, by its number. The poller records when the worker's thread sleeps.
pub type MakePoller = Arc<dyn Fn(usize, SleepRecord) -> Box<dyn Poller> + Send + Sync>;

/// A callback for the start of a worker thread.
pub(crate) type OnStart = Arc<dyn Fn(usize) + Send + Sync>;

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS)),
            name: "exuvia-sched".to_owned(),
            stack_size: None,
            others_share: OTHERS_SHARE,
            pollers: None,
            on_start: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("workers", &self.workers)
            .field("name", &self.name)
            .field("stack_size", &self.stack_size)
            .field("others_share", &self.others_share)
            .field("pollers", &self.pollers.is_some())
            .field("on_start", &self.on_start.is_some())
            .finish()
    }
}
