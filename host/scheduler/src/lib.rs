//! Run queues, worker threads, stealing and parking.
//!
//! The scheduler assigns process *indices* (`u32`) to worker threads and knows nothing else about a
//! process: no Wasm, no mailbox, no tokio. The implementor of [`Run`] owns the processes and their
//! state words; any thread with a [`Handle`] may make a process runnable.
//!
//! The contract of `wake`: an index is woken only when it is neither queued nor running. The caller
//! keeps that promise with one state word for each process. In return each wake causes exactly one
//! call of [`Run::run`] (plus one for each [`Next::Again`] and the like), two calls for one index
//! never overlap, and everything that happened before the wake is visible to that call.
//!
//! A waiting process is in no queue, so queues are bounded by the number of processes.
//!
//! Where to look:
//! - `idle`: which workers search, which sleep, and why no wake is lost. Start here; loom checks
//!   it.
//! - `parker`: a token, and where a worker waits for it.
//! - `poller`: what a worker waits for beside work.
//! - `worker`: the loop of one thread, and the order in which it picks work.
//! - `shared`: the state that threads share, and wakes from outside.
//! - `gate`: holds a worker between two slices.
//! - `handoff`: another thread continues as a worker while a slice blocks in place.
//!
//! Deliberately absent: timers (see [`Run::tick`]), and any reading of a clock that decides what
//! runs.

#![forbid(unsafe_code)]

mod sync;

#[cfg(not(loom))]
#[allow(
    unreachable_pub,
    reason = "public only for the loom model, which is another crate"
)]
mod idle;
// Loom's model is an integration test: it needs the protocol, and nothing else builds there.
#[cfg(loom)]
pub mod idle;
#[cfg(not(loom))]
#[allow(
    unreachable_pub,
    reason = "public only for the loom model, which is another crate"
)]
mod parker;
#[cfg(loom)]
pub mod parker;

#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod gate;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod handoff;
#[cfg(not(loom))]
mod metrics;
mod poller;
#[cfg(not(loom))]
mod scheduler;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod worker;

pub use self::poller::{Interrupt, Poller};
#[cfg(not(loom))]
pub use self::{
    config::{Config, MAX_WORKERS, MOST_OTHERS_SHARE, MakePoller, OTHERS_SHARE},
    error::Error,
    gate::Held,
    handle::Handle,
    handoff::{ResumeHandle, SPARE, SpareThread},
    metrics::{Metrics, SleepRecord, WorkerMetrics},
    scheduler::{Next, Run, Scheduler},
};
