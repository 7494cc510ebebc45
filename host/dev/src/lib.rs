//! Development: watches the module files of a running app and swaps in what changes; with a
//! [`BuildWatcher`] also its sources, which it builds, and its manifest, whose edits it applies.
//!
//! It uses the node as any other program may: it deploys bytes, changes limits and the supervision
//! tree, and adds its own events to the node's stream. It knows nothing of wasmtime, HTTP and the
//! command line; what it reports is an [`Event`].
#![forbid(unsafe_code)]

mod build;
mod build_watcher;
mod event;
mod live;
mod module_files;
mod rebuilder;
mod sources;
mod stamp;
mod text;
mod watcher;

pub use build::{BuildError, Built, KEPT_OUTPUT, Show, Stopper, build};
pub use build_watcher::BuildWatcher;
pub use event::Event;
pub use text::listed;
pub use watcher::{WatchLimits, Watcher};
