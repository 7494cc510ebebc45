//! Clocks and random numbers of WASI that are the same for all processes, for an initialization whose
//! result all share (see `instance/fixed.rs`).

use std::time::Duration;

use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::instance::fixed::{CLOCK, Fixed};

/// Random bytes until they begin anew: more than any runtime draws to start.
const RANDOM: usize = 16 * 1024;

/// Sets those of a stage of the initialization.
pub(super) fn set(builder: &mut WasiCtxBuilder, stage: &'static str) {
    let mut bytes = vec![0; RANDOM];
    Fixed::of(stage).fill(&mut bytes);
    builder
        .insecure_random_seed(u128::from_le_bytes(
            *bytes.first_chunk().unwrap_or(&[0; 16]),
        ))
        .insecure_random(Deterministic::new(bytes.clone()))
        .secure_random(Deterministic::new(bytes))
        .wall_clock(Stopped)
        .monotonic_clock(Stopped);
}

/// A clock that stands at [`CLOCK`].
struct Stopped;

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(CLOCK)
    }
}

impl HostMonotonicClock for Stopped {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        CLOCK
    }
}
