//! What happens when the system refuses mappings, addresses or memory for one more frame.
//! That is not the fault of the process that wanted one: the node continues with the frames
//! that exist and tries again later.
//!
//! Not here: how memory is reclaimed. `frames::reclaim` does that.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_process::{Clock, ReportInterval};
use parking_lot::Mutex;

/// How long no frame is tried again after a failure, in nanoseconds. A try costs some
/// system calls under the kernel's lock on the mappings.
pub(crate) const PAUSE: u64 = 100_000_000;

/// The failures to make frames.
#[derive(Debug, Default)]
pub(crate) struct SystemCapacity {
    failures: AtomicU64,
    /// When to try again, by the node's clock; 0 if nothing has failed yet.
    retry_at: AtomicU64,
    /// Why the last frame could not be made, if that was not logged yet.
    reason: Mutex<Option<String>>,
    reports: ReportInterval,
}

impl SystemCapacity {
    /// Returns how many frames could not be made.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns when to try again, by the node's clock, which may be in the past; 0 if nothing has
    /// failed yet.
    #[inline]
    pub(crate) fn retry_at(&self) -> u64 {
        self.retry_at.load(Ordering::Relaxed)
    }

    /// Returns whether one has failed within the last [`PAUSE`].
    #[inline]
    pub(crate) fn is_short(&self, clock: &Clock) -> bool {
        let retry_at = self.retry_at();
        retry_at != 0 && clock.now() < retry_at
    }

    /// Records that the system refused a frame, with the system's own words.
    pub(crate) fn failed(&self, clock: &Clock, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let retry_at = clock.now().saturating_add(PAUSE);
        self.retry_at.store(retry_at, Ordering::Relaxed);
        *self.reason.lock() = Some(reason);
    }

    /// Returns a line for the log, if there is something to report. It may read long files,
    /// so it must not run on a scheduler's thread.
    pub(crate) fn news(&self, clock: &Clock, frames: usize) -> Option<String> {
        let reason = {
            let mut reason = self.reason.lock();
            if reason.is_none() || !self.reports.admits(clock) {
                return None;
            }
            reason.take()?
        };
        let failures = self.failures();
        Some(format!(
            "no frame could be created ({reason}; {failures} so far), so processes wait for the {frames} existing ones: {}",
            advice()
        ))
    }
}

/// Returns what is likely to be exhausted, and what to do about it.
pub(crate) fn advice() -> String {
    let allowed = most_mappings();
    let mappings = mappings().unwrap_or(0);
    // A single operation may need some mappings at once.
    if mappings + 64 >= allowed {
        return format!(
            "it uses {mappings} of the {allowed} mappings that `vm.max_map_count` allows; raise it (`sysctl -w vm.max_map_count={}`), or lower `frames` in `[node]`",
            allowed.saturating_mul(4)
        );
    }
    if let Some(limit) = address_space() {
        return format!(
            "its address space is limited to {limit} bytes, and each frame reserves {} of them; start it without that limit (`ulimit -v unlimited`)",
            exuvia_image::RESERVED
        );
    }
    "the system is out of memory; lower `frame_memory` or `frames` in `[node]`, or give it more memory".into()
}

/// Returns the number of mappings of this process. It reads in small parts, because memory
/// may be exhausted.
fn mappings() -> std::io::Result<usize> {
    let mut maps = std::fs::File::open("/proc/self/maps")?;
    let mut buffer = [0; 4096];
    let mut lines = 0;
    loop {
        match maps.read(&mut buffer)? {
            0 => return Ok(lines),
            read => lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

/// Returns how many mappings a process of the system may have: `vm.max_map_count`.
pub fn most_mappings() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530)
}

/// Returns how many bytes of addresses this process may have, if they are limited.
pub(crate) fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_and_the_shortage_is_reported_periodically() {
        let (capacity, clock) = (SystemCapacity::default(), Clock::manual());
        assert!(!capacity.is_short(&clock));
        assert_eq!(capacity.news(&clock, 3), None);
        capacity.failed(&clock, "first".into());
        assert!(capacity.is_short(&clock));
        let news = capacity.news(&clock, 3);
        let news = news.unwrap_or_default();
        assert!(
            news.contains("first") && news.contains("the 3 existing"),
            "{news}"
        );
        clock.advance(PAUSE);
        assert!(!capacity.is_short(&clock));
        capacity.failed(&clock, "second".into());
        assert_eq!((capacity.news(&clock, 3), capacity.failures()), (None, 2));
        clock.advance(ReportInterval::NANOSECONDS);
        let news = capacity.news(&clock, 3).unwrap_or_default();
        assert!(news.contains("second"), "{news}");
        clock.advance(ReportInterval::NANOSECONDS);
        assert_eq!(capacity.news(&clock, 3), None);
    }
}
