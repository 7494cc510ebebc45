//! How many workers, and what their threads are like.

use std::{fmt, sync::Arc, thread};

/// The most workers that one scheduler may have. The counts in `idle` would allow 65,535; past
/// this many, one list of sleepers under one lock is no longer a good idea.
pub const MAX_WORKERS: usize = 1024;

/// Of a hundred slices, those that go to others than what has high priority, if
/// nothing else is said. Few enough that who has high priority hardly sees it, and
/// enough for an operator to end those who never rest.
pub const OTHERS_SHARE: u32 = 10;
/// The greatest such share.
pub const MOST_OTHERS_SHARE: u32 = 90;

/// What to start a scheduler with.
#[derive(Clone)]
pub struct Config {
    /// Worker threads. The default is one for each core that this program may use.
    pub workers: usize,
    /// Threads are called `<name>-<worker>`. The system may cut it to 15 bytes.
    pub name: String,
    /// Stack of each worker thread in bytes; `None` takes the standard library's default.
    pub stack_size: Option<usize>,
    /// Of a hundred slices, how many go to others while something of high priority
    /// waits; 0: none, as in Erlang. At most [`MOST_OTHERS_SHARE`].
    pub others_share: u32,
    /// Called on each worker thread before its first slice, with the worker's number.
    pub on_start: Option<OnStart>,
}

/// A callback for the start of a worker thread.
pub(crate) type OnStart = Arc<dyn Fn(usize) + Send + Sync>;

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: thread::available_parallelism().map_or(1, |n| n.get().min(MAX_WORKERS)),
            name: "exuvia-sched".to_owned(),
            stack_size: None,
            others_share: OTHERS_SHARE,
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
            .field("on_start", &self.on_start.is_some())
            .finish()
    }
}
