//! Development: watches the module files of a running app and swaps in what changes; with a
//! [`BuildWatcher`] also its sources, which it builds, and its manifest, whose edits it applies.
//!
//! It uses the node as any other program may: it deploys bytes, changes limits and the supervision
//! tree, and adds its own events to the node's stream. It knows nothing of wasmtime, HTTP and the
//! command line; what it tells users is an [`Event`].
#![forbid(unsafe_code)]

mod build;
mod event;
mod live;
mod watch;

pub use build::{BuildError, Built, KEPT_OUTPUT, Show, Stopper, build};
pub use event::Event;
pub use watch::{BuildWatcher, WatchLimits, Watcher};
