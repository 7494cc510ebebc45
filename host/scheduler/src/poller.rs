//! What a worker waits for beside work: sockets, for instance. The scheduler knows only when to look.

use std::{sync::Arc, time::Duration};

/// What a worker looks at between slices, and waits for instead of sleeping. It belongs to one worker, but may move with it
/// to another thread. What it handles may wake processes: they go to this worker's queue.
pub trait Poller: Send + 'static {
    /// Returns whether there is anything to look at. If not, nothing else here is called, and the worker sleeps as it does
    /// without a poller. Whoever gives a poller that is not in use something to look at calls
    /// [`Handle::unpark_worker`](crate::Handle::unpark_worker) afterwards.
    fn is_in_use(&self) -> bool;

    /// Handles what is ready, or a part of it, without waiting.
    fn poll(&mut self);

    /// Handles what is ready, and waits for more until [`Interrupt::interrupt`] was called, since the last wait at the
    /// earliest, or this time has passed. It may also return for no reason.
    fn wait(&mut self, time: Option<Duration>);

    /// Returns how a wait is ended.
    fn interrupt(&self) -> Arc<dyn Interrupt>;
}

/// Ends the wait of a [`Poller`].
pub trait Interrupt: Send + Sync {
    /// Makes the current wait return, or the next one at once. Called from any thread.
    fn interrupt(&self);
}
