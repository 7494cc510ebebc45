//! The binary as a user meets it: wrong usage, no node, and a node from its
//! start to its end.

#![forbid(unsafe_code)]

mod app;
mod end;
mod life;
mod usage;
