//! What happens when the system gives no room for one more frame: mappings,
//! addresses or memory. It is no fault of the process that wanted one: whoever
//! makes frames goes on with those that there are, and tries again later.
//!
//! Deliberately absent: giving room back. `frames` does that.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_process::Clock;
use parking_lot::Mutex;
use rustix::io::Errno;

use crate::pagemap::NO_ADDRESSES;

/// How long nobody tries again after a failure, nanoseconds. A try costs some
/// system calls under the kernel's lock on the mappings.
pub(crate) const PAUSE: u64 = 100_000_000;
/// How often it is told at most, nanoseconds.
const TOLD_EVERY: u64 = 30_000_000_000;

/// Whether the system has refused mappings, addresses or memory.
pub(crate) fn is_no_room(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>().copied();
        let io = cause.downcast_ref::<std::io::Error>();
        let errno = errno.or_else(|| io.and_then(Errno::from_io_error));
        matches!(errno, Some(Errno::NOMEM | Errno::AGAIN))
            || cause.to_string().starts_with(NO_ADDRESSES)
    })
}

/// Failures to make frames.
#[derive(Debug, Default)]
pub(crate) struct Room {
    failures: AtomicU64,
    /// The clock's time of the next try; 0: nothing has failed lately.
    retry_at: AtomicU64,
    news: Mutex<News>,
}

#[derive(Debug, Default)]
struct News {
    /// Why the last frame could not be made, if that was not told.
    reason: Option<String>,
    told_at: Option<u64>,
}

impl Room {
    /// Frames that could not be made.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether one has failed a moment ago.
    #[inline]
    pub(crate) fn is_short(&self, clock: &Clock) -> bool {
        let retry_at = self.retry_at.load(Ordering::Relaxed);
        retry_at != 0 && clock.now() < retry_at
    }

    /// The system had no room, in its own words.
    pub(crate) fn failed(&self, clock: &Clock, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let retry_at = clock.now().saturating_add(PAUSE);
        self.retry_at.store(retry_at, Ordering::Relaxed);
        self.news.lock().reason = Some(reason);
    }

    /// A line for the log, if there is something to tell. It may read long
    /// files: not for a scheduler's thread.
    pub(crate) fn news(&self, clock: &Clock, frames: usize) -> Option<String> {
        let mut news = self.news.lock();
        let now = clock.now();
        if news
            .told_at
            .is_some_and(|at| now < at.saturating_add(TOLD_EVERY))
        {
            return None;
        }
        let reason = news.reason.take()?;
        news.told_at = Some(now);
        drop(news);
        let failures = self.failures();
        Some(format!(
            "no frame could be made ({reason}; {failures} so far), so processes wait for the {frames} that there are: {}",
            advice()
        ))
    }
}

/// What is likely to be short, and what to do about it.
pub(crate) fn advice() -> String {
    let allowed = most_mappings();
    let mappings = mappings().unwrap_or(0);
    // What is asked for at once may be some mappings.
    if mappings + 64 >= allowed {
        return format!(
            "it has {mappings} of the {allowed} mappings that `vm.max_map_count` allows; raise that (`sysctl -w vm.max_map_count={}`), or lower `frames` in `[node]`",
            allowed.saturating_mul(4)
        );
    }
    if let Some(limit) = address_space() {
        return format!(
            "its addresses are limited to {limit} bytes, and each frame reserves {} of them; start it without that limit (`ulimit -v unlimited`)",
            crate::pagemap::RESERVED
        );
    }
    "the system has no memory left for it; lower `frame_memory` or `frames` in `[node]`, or give it more memory".into()
}

/// Mappings of this process. There is no memory to read them at once.
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

/// `vm.max_map_count`.
pub(crate) fn most_mappings() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530)
}

/// Bytes of addresses that this process may have, if they are limited.
pub(crate) fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_tries_again_at_once_and_it_is_told_now_and_then() {
        let (room, clock) = (Room::default(), Clock::manual());
        assert!(!room.is_short(&clock));
        assert_eq!(room.news(&clock, 3), None);
        room.failed(&clock, "first".into());
        assert!(room.is_short(&clock));
        let news = room.news(&clock, 3);
        let news = news.unwrap_or_default();
        assert!(
            news.contains("first") && news.contains("the 3 that"),
            "{news}"
        );
        clock.advance(PAUSE);
        assert!(!room.is_short(&clock));
        room.failed(&clock, "second".into());
        assert_eq!((room.news(&clock, 3), room.failures()), (None, 2));
        clock.advance(TOLD_EVERY);
        let news = room.news(&clock, 3).unwrap_or_default();
        assert!(news.contains("second"), "{news}");
        clock.advance(TOLD_EVERY);
        assert_eq!(room.news(&clock, 3), None);
    }
}
