//! What the engine asks of the threads that run turns, so that a guest can wait on the stack of one:
//! the thread blocks in place, and a spare thread continues as the scheduler. The guest's side is in
//! `frames::blocked`.

use std::any::Any;
use std::sync::Arc;

/// How a turn left its process.
#[derive(Debug)]
pub enum TurnResult {
    /// It waits, or has exited.
    Idle,
    /// It has more to do: its state is QUEUED, and the caller puts it into a run queue.
    Ready,
    /// Its turn continues on another thread, which needs to be a scheduler: the caller hands its
    /// own role over to that thread, through this handle.
    Elsewhere(Arc<dyn ResumeHandle>),
    /// Its turn has ended on another thread: this thread has blocked in place in the middle of it,
    /// and is no scheduler's thread any more.
    Ended,
}

/// Lets spare threads take over from schedulers whose thread blocks in place.
pub trait Threads: Send + Sync + std::fmt::Debug {
    /// Returns whether there is a spare thread for each scheduler. A thread that gets
    /// `true` before it enters a guest also gets a spare thread if that guest waits.
    fn may_block_in_place(&self) -> bool;

    /// Returns a thread that can take over as this thread's scheduler, or `None` if this is
    /// not a scheduler's thread or too many threads are blocked in place.
    fn spare_thread(&self) -> Option<Box<dyn SpareThread>>;

    /// Reports that the turn on this thread takes longer than others, so that no work waits
    /// for its end.
    fn turn_gets_long(&self);
}

/// A thread that is ready to take over as a scheduler.
pub trait SpareThread {
    /// Returns the handle by which the blocked thread becomes a scheduler again.
    fn resume_handle(&self) -> Arc<dyn ResumeHandle>;

    /// Makes it this thread's scheduler. First it calls `then`, which ends the turn of the
    /// process in slot `index`.
    fn take_over(self: Box<Self>, index: u32, then: Box<dyn FnOnce() -> TurnResult + Send>);
}

/// How a thread that is blocked in place becomes a scheduler again.
/// [`TurnResult::Elsewhere`] returns it to the implementation that made it.
pub trait ResumeHandle: Any + Send + Sync + std::fmt::Debug {
    /// Waits, on the thread that is blocked in place, until that thread is a scheduler
    /// again.
    fn wait(&self);
}

/// Prepares a thread that will call [`Executor::run`](crate::Executor::run). Call it once
/// on each such thread, while memory is available: it allocates the stack for signals,
/// which wasmtime would otherwise allocate at the first entry, and fail if it could not.
pub fn prepare_thread() {
    wasmtime::Engine::tls_eager_initialize();
}
