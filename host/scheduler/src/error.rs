//! Errors of starting a scheduler. A running scheduler has none.

use std::io;

use crate::config::MAX_WORKERS;

/// Why a scheduler did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number of workers is 0 or above [`MAX_WORKERS`].
    #[error("invalid number of workers {0}: it must be between 1 and {MAX_WORKERS}")]
    Workers(usize),
    /// The system refused to create a thread. The threads that had started are stopped again.
    #[error("worker thread {worker} did not start: {source}")]
    Thread {
        /// The worker without a thread.
        worker: usize,
        /// The system's error.
        source: io::Error,
    },
}
