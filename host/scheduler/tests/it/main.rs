//! The scheduler's public behaviour: wakes, order, fairness, stealing, stopping.
//!
//! Tests wait for conditions, never for time. `harness` holds an executor that keeps the contract
//! of `wake` and checks the scheduler's side of it.

#![cfg(not(loom))]

mod fairness;
mod handoff;
mod harness;
mod lifecycle;
mod order;
mod parking;
mod pinning;
mod polling;
mod priorities;
mod stealing;
mod stress;
