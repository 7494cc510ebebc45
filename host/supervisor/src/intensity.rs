//! The restart window: the times of the last restarts, at most one more than the
//! intensity.

use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Intensity {
    allowed: usize,
    period_ms: u64,
    times: VecDeque<u64>,
}

impl Intensity {
    pub(crate) fn new(allowed: u32, period_ms: u64) -> Self {
        Self {
            allowed: usize::try_from(allowed).unwrap_or(usize::MAX),
            period_ms,
            times: VecDeque::new(),
        }
    }

    /// Counts a restart at this time. Returns `false` if it exceeds the intensity.
    /// Both ends of the period count, as in OTP.
    pub(crate) fn admit(&mut self, now_ms: u64) -> bool {
        while self
            .times
            .front()
            .is_some_and(|&first| now_ms.saturating_sub(first) > self.period_ms)
        {
            self.times.pop_front();
        }
        if self.times.len() > self.allowed {
            // The intensity is already exceeded: drop the oldest time, so that the
            // window stays bounded.
            self.times.pop_front();
        }
        self.times.push_back(now_ms);
        self.times.len() <= self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::Intensity;

    #[test]
    fn the_period_includes_both_ends() {
        let mut window = Intensity::new(1, 1_000);
        assert!(window.admit(0));
        assert!(!window.admit(1_000));

        let mut window = Intensity::new(1, 1_000);
        assert!(window.admit(0));
        assert!(window.admit(1_001));
        assert!(!window.admit(1_002));
    }

    #[test]
    fn zero_allows_nothing() {
        assert!(!Intensity::new(0, 1).admit(7));
    }

    #[test]
    fn the_window_slides() {
        let mut window = Intensity::new(3, 100);
        for now in (0..10_000).step_by(34) {
            assert!(window.admit(now), "at {now}");
        }
        assert!(!window.admit(9_997));
    }

    #[test]
    fn memory_is_bounded_by_the_intensity() {
        let mut window = Intensity::new(2, u64::MAX);
        for now in 0..1_000 {
            window.admit(now);
        }
        assert_eq!(window.times.len(), 3);
    }

    #[test]
    fn a_clock_that_steps_back_frees_nothing() {
        let mut window = Intensity::new(1, 10);
        assert!(window.admit(100));
        assert!(!window.admit(50));
    }
}
