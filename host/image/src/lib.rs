//! What differs between a process and the base of its version: written pages, bases, images. And where
//! frames have their memories and stacks.
//!
//! `pagemap` asks the kernel which pages of a frame's memory were written, `memories` owns those
//! memories, `stacks` the stacks of their fibers, and `image` compares what was written with the base. The engine is the only user;
//! nothing here knows wasmtime, or what the bytes mean.
//!
//! Most of the host's `unsafe` code is in this crate: calls of the kernel about mappings. Each is
//! behind a function that is safe, or that states what its caller must guarantee.
#![deny(clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs)]

mod arena;
mod base_file;
mod faults;
mod format;
mod image;
mod mapping;
mod memories;
mod pagemap;
mod stacks;

pub use arena::MOST_PACKED;
pub use faults::{Faults, thread_number};
pub use format::ImageError;
pub use image::{After, Base, Image, Scratch};
pub use mapping::release;
pub use memories::{Extent, GUARD, Memories, RESERVED, Reserve};
pub use pagemap::{Method, PageMap, total, total_from};
pub use stacks::{FiberStack, Stacks, mappings_of_stack};

/// Page size in bytes, on all machines that the host supports.
pub const PAGE: usize = 4096;
/// Bytes of a page of Wasm memory.
const WASM_PAGE: usize = 64 * 1024;
