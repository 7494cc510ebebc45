//! Makes one core module of a component of the world `exuvia:actor` (`guest-sdk/component`).
//!
//! A process is a core module with one memory, which is what an image and a frame need. A component is several core
//! modules that share memories and tables, and a description of how they are wired. [`fuse`] does the wiring once and
//! for all: the functions, tables and globals of all instances become those of one module, and what would be passed
//! through the canonical ABI is passed by [`adapter`](self#the-adapter) code inside of it.
//! So nothing behind this crate knows of components: metering, paging and swaps are as for any module, and what a library
//! remembers of WASI is in the process's own memory.
//!
//! # The adapter
//!
//! The files of the folder `adapter` are one more core module, in Wasm text. It exports what a component may import (interfaces of WASI 0.2, the host
//! interface of the world), lowered by the canonical ABI, and `run`, `save` and `load`, which lift the exports of the
//! world. It imports the host calls of `guest-sdk/abi.md` and functions of WASI preview 1.
//!
//! Guarantees:
//! - Arbitrary bytes produce an error, never a panic.
//! - The component is validated first, so the wiring is well typed.
//!
//! Sources: Component Model, `Binary.md` and `CanonicalABI.md`; WASI 0.2.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod adapter;
mod error;
mod fuse;
mod graph;
mod merge;
mod module;

pub use error::ComponentError;
pub use fuse::fuse;

/// Whether bytes begin as those of a component do.
pub fn is_component(wasm: &[u8]) -> bool {
    wasm.starts_with(b"\0asm\x0d\0\x01\0")
}
