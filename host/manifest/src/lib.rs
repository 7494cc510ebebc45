//! The manifest of an app, `exuvia.toml`: its modules, its supervision tree, names and limits.
//! `docs/manifest.md` describes every key.
//!
//! Reading a manifest needs no node and starts nothing, so `check`, editors and tests can use it
//! alone. Every mistake in a file is reported at once, each with its line, its cause and its fix
//! (see [`ManifestError`]). No text makes it panic.
//!
//! The model is the crate's own: it says what a user wrote, with the defaults filled in. The node
//! translates it to what its parts need. So this crate must never know the node, wasmtime, tokio
//! or a clock.
#![forbid(unsafe_code)]

mod cargo;
mod checks;
mod duration;
mod error;
pub mod files;
mod keys;
mod limits;
mod listen;
mod manifest;
mod module;
mod read;
mod schema;
mod settings;
mod supervisor;

pub use checks::usable;
pub use duration::{DURATION_FORM, parse_duration, shown_duration};
pub use error::{ManifestError, Place, Problem};
pub use limits::{Folder, Grants, Limits, MAX_GRANTS};
pub use listen::{
    Builtin, Cors, Listen, ListenAddress, Owner, Per, Protocol, Receiver, Route, RouteTarget, Tls,
    Udp,
};
pub use manifest::{
    AppConfig, FILE_NAME, MAX_MANIFEST_BYTES, Manifest, OwnMemory, is_app_name_character,
};
pub use module::{Build, BuildStep, MAX_MODULE_BYTES, MemoryLayout, Module};
pub use schema::schema;
pub use settings::{
    KEEP_AT_LEAST, Level, LogSettings, MAX_NORMAL_SHARE, NodeSettings, ReleaseSettings,
};
pub use supervisor::{
    Child, ChildInstance, MAX_CHILDREN, MAX_NAME_BYTES, MAX_SUPERVISOR_DEPTH, Process, Restart,
    Shutdown, Strategy, SupervisorEntry, Work,
};
