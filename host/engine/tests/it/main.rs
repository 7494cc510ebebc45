//! The engine as the node sees it: modules go in through `Engine::load`,
//! processes run through `Executor::run`, on one thread and a queue that the
//! tests own. So every order of events here is a chosen one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arguments;
mod blocking;
mod cache;
mod child;
mod exceptions;
mod floods;
mod growing;
mod isolation;
mod layout;
mod loader;
mod mail;
mod mutation;
mod neighbours;
mod paging;
mod panics;
mod pressure;
mod quotas;
mod reductions;
mod resets;
mod resident;
mod resources;
mod secrets;
mod snapshot;
mod starting;
mod stress;
mod transactions;
mod upgrade;
mod waits;
mod world;
