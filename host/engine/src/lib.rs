//! The engine: everything that knows wasmtime. It makes versions of module
//! bytes (`loader`, `instrument`), runs processes in frames (`executor`,
//! `frame`), pages them out and in (`frames`, `image`, `pagemap`), brings
//! them and their state into new code (`upgrade`, `crossing`, `verify`) and
//! back (`probation`), and serves what guests ask for (`calls`).
//!
//! `unsafe` stands in `pagemap` and `cache` only.
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod artifact;
mod aside;
mod backtrace;
mod baton;
mod body;
mod cache;
mod calls;
mod compile;
mod crossing;
mod data;
mod error;
mod executor;
mod frame;
mod frames;
mod functions;
mod guest;
mod image;
pub mod instrument;
mod loader;
mod missing;
mod observer;
mod pagemap;
mod places;
mod pool;
mod probation;
mod room;
mod saved;
mod seat;
mod setup;
mod stack;
mod text;
mod timing;
mod trace;
mod transaction;
mod turn;
mod upgrade;
mod verify;
mod wasi;

pub use artifact::Artifact;
pub use aside::{StandIn, Threads, WayBack, prepare_thread};
pub use crossing::no_way;
pub use error::{CrossError, LoadError, VerifyError};
pub use executor::{Executor, ExecutorConfig, Metrics};
pub use frames::{FrameCounts, default_frames, mappings_of};
pub use guest::{Busy, Guest, GuestOwn, GuestSystem};
pub use instrument::SLICE;
pub use loader::{Engine, EngineConfig, THREAD_STACK};
pub use observer::{Observer, Services};
pub use pagemap::Method;
pub use saved::{Copied, Saved};
pub use timing::{Tally, Timing};
pub use trace::{Direction, Traced};
pub use turn::Ran;
pub use verify::Verified;

/// Bytes of a page of Wasm memory.
pub const WASM_PAGE: u64 = 64 * 1024;
