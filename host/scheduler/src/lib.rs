//! Run queues, worker threads, stealing and parking.
//!
//! The scheduler moves process *indices* (`u32`) to worker threads and knows nothing else about a
//! process: no Wasm, no mailbox, no tokio. Whoever implements [`Run`] owns the processes and their
//! state words; whoever holds a [`Handle`] may make a process runnable, from any thread.
//!
//! The contract of `wake`: an index is woken only when it is neither queued nor running. The caller
//! keeps that promise with one state word for each process. In return each wake leads to exactly one
//! call of [`Run::run`] (plus one for each [`Next::Again`]), two calls for one index never overlap,
//! and all that happened before the wake is visible to that call.
//!
//! A waiting process is in no queue, so queues are bounded by the number of processes.
//!
//! Where to look:
//! - `idle`: who searches, who sleeps, and why no wake is lost. Start here; loom checks it.
//! - `worker`: the loop of one thread, and the order in which it picks work.
//! - `shared`: what threads see of each other, and a wake that comes from outside.
//! - `gate`: holding a worker still between two slices.
//! - `relay`: another thread goes on as a worker while a slice waits.
//!
//! Deliberately absent: priorities, timers (see [`Run::tick`]),
//! and any reading of a clock that decides what runs.

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
#[cfg(loom)]
pub use sync::Parker;

#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod gate;
#[cfg(not(loom))]
mod handle;
#[cfg(not(loom))]
mod metrics;
#[cfg(not(loom))]
mod relay;
#[cfg(not(loom))]
mod scheduler;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use self::{
    config::{Config, MAX_WORKERS, MOST_OTHERS_SHARE, OTHERS_SHARE},
    error::Error,
    gate::Held,
    handle::Handle,
    metrics::{Metrics, WorkerMetrics},
    relay::{SPARE, StandIn, WayBack},
    scheduler::{Next, Run, Scheduler},
};
