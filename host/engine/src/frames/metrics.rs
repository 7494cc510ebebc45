//! What the frame table counts, for display.

use std::sync::atomic::AtomicU64;

use crate::timing::{Tally, Timing};

/// Counters for display, with relaxed ordering.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Images loaded into frames.
    pub page_ins: AtomicU64,
    /// Images saved from frames to free them.
    pub page_outs: AtomicU64,
    /// Frames created.
    pub frames_made: AtomicU64,
    /// Entries that found their process in a frame.
    pub hits: Tally,
    /// The time of a page-in, with the page-out that frees a frame for it.
    pub page_in_time: Timing,
    /// The time of a page-out.
    pub page_out_time: Timing,
}
