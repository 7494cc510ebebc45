//! The binary as a user meets it: wrong usage, no node, and a node from its
//! start to its end.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

mod app;
mod apps;
mod book;
mod browser;
mod channels;
mod dev;
mod examples;
mod inherited;
mod inspecting;
mod lines;
mod live;
mod mistakes;
mod operator;
mod pages;
mod polyglot;
mod releases;
mod remote;
mod roles;
mod running;
mod stalled;
mod stopping;
mod swaps;
mod templates;
mod terminal;
mod tools;
mod usage;
mod web;
