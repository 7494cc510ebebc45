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
mod error;
pub mod files;
mod manifest;
mod read;

pub use error::{ManifestError, Place, Problem};
pub use manifest::*;
