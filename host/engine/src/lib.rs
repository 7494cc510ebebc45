//! The engine: everything that depends on wasmtime. It makes versions from module bytes
//! (`loader`, `module`), runs processes in frames (`executor`, `process`, `instance`), pages
//! them out and in (`frames`), upgrades them and their state to new code
//! and back (`upgrade`), and serves the host calls of guests (`host_calls`).
//!
//! `unsafe` is used only in `instance::linear_memory` and `module::compile_cache`.
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod error;
mod executor;
mod frames;
mod guest;
mod host;
mod host_calls;
mod instance;
mod loader;
mod module;
mod observer;
mod process;
mod resources;
mod suspend;
mod timing;
mod trace;
mod upgrade;

pub use error::{LoadError, MissingExport, UpgradeError, VerifyError};
pub use executor::{Executor, ExecutorConfig};
pub use exuvia_image::Method;
pub use exuvia_instrument::{MAX_MODULE_BYTES, SLICE};
pub use frames::{FrameCounts, MOST_FRAMES, Metrics, default_frames, most_mappings};
pub use guest::{Busy, Guest, GuestProcess, GuestSystem};
pub use host_calls::{HostCaller, HostServices};
pub use loader::{Engine, EngineConfig, MemoryLayout, THREAD_STACK};
pub use module::info::{Artifact, DeadStack};
pub use observer::{Observer, Services};
pub use process::saved::{Copied, Saved};
pub use suspend::thread::{ResumeHandle, SpareThread, Threads, TurnResult, prepare_thread};
pub use timing::{Tally, Timing};
pub use trace::{Direction, Traced};
pub use upgrade::migrate::no_upgrade_path;
pub use upgrade::verify::Verified;

/// Bytes of a page of Wasm memory.
pub const WASM_PAGE: u64 = 64 * 1024;
