//! Processes as their users see them: signals, relations, names, timers,
//! births and ends.
//!
//! `world` holds a scheduler with one thread, which runs what the test tells
//! it to, in the order the test wants. Only `stress` has threads.

#![cfg(not(loom))]

mod births;
mod links;
mod mailbox;
mod model;
mod monitors;
mod names;
mod parts;
mod requests;
mod shared;
mod sizes;
mod stress;
mod timers;
mod world;
