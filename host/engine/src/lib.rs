//! The engine: everything that depends on wasmtime. It makes versions from module bytes
//! (`loader`, `instrument`), runs processes in frames (`executor`, `turn`, `frame`), pages
//! them out and in (`frames`, `image`, `pagemap`), upgrades them and their state to new
//! code (`upgrade`, `migrate`, `verify`) and back (`probation`), and serves the host calls
//! of guests (`calls`).
//!
//! `unsafe` is used only in `pagemap` and `cache`.
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod acquire;
mod artifact;
mod backtrace;
mod blocked;
mod cache;
mod calls;
mod capacity;
mod compile;
mod data;
mod error;
mod executor;
mod fiber_transfer;
mod frame;
mod frame_slots;
mod frames;
mod functions;
mod guest;
mod image;
mod instance;
mod loader;
mod migrate;
mod missing;
mod observer;
mod pagemap;
mod pool;
mod probation;
mod saved;
mod setup;
mod stack_policy;
mod text;
mod timing;
mod trace;
mod transaction;
mod turn;
mod upgrade;
mod verify;
mod wasi;

pub use artifact::Artifact;
pub use blocked::{ResumeHandle, SpareThread, Threads, prepare_thread};
pub use error::{LoadError, MissingExport, UpgradeError, VerifyError};
pub use executor::{Executor, ExecutorConfig, Metrics};
pub use exuvia_instrument::{MAX_MODULE_BYTES, SLICE};
pub use frames::{FrameCounts, default_frames, mappings_of};
pub use guest::{Busy, Guest, GuestProcess, GuestSystem};
pub use loader::{Engine, EngineConfig, THREAD_STACK};
pub use migrate::no_upgrade_path;
pub use observer::{Observer, Services};
pub use pagemap::Method;
pub use saved::{Copied, Saved};
pub use timing::{Tally, Timing};
pub use trace::{Direction, Traced};
pub use turn::TurnResult;
pub use verify::Verified;

/// Bytes of a page of Wasm memory.
pub const WASM_PAGE: u64 = 64 * 1024;
