//! The public behaviour of processes: signals, relations, names, timers, spawning and termination.
//!
//! `world` has a scheduler with one thread, which runs what the test selects, in the order that the
//! test selects. Only `stress` uses threads.

#![cfg(not(loom))]

mod calls;
mod links;
mod mailbox;
mod model;
mod monitors;
mod names;
mod parts;
mod requests;
mod shared;
mod sizes;
mod snapshot;
mod spawning;
mod stress;
mod timers;
mod world;
