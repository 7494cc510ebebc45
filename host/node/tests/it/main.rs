//! The node as its users see it: real modules, real schedulers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for a condition with a deadline of the system's clock"
)]

mod abi;
mod actors;
mod background_upgrades;
mod blocking_in_place;
mod booting;
#[path = "../../../engine/tests/it/child.rs"]
mod child;
mod connecting;
mod datagrams;
mod deploying;
mod descendants;
mod endurance;
mod gateway;
mod groups;
mod guests;
mod http;
mod inspecting;
mod languages;
#[path = "../../../engine/tests/it/layout.rs"]
mod layout;
mod limits;
mod listening;
mod logging;
mod otp;
mod outbound;
mod pressure;
mod probation;
mod processes;
mod puppet;
mod releases;
mod rights;
mod sdk;
mod sending;
mod snapshot;
mod sockets;
mod supervision;
mod swaps;
mod tables;
mod tls;
mod upgrades;
mod uploads;
mod virtual_time;
mod waiting;
mod wasi;
mod web_soak;
