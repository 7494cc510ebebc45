//! The time of a line, as text.

use std::time::SystemTime;

/// Returns the current time in the format of all lines: RFC 3339, UTC, with milliseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock is for people, and nothing is decided by it"
)]
pub fn now() -> String {
    format(SystemTime::now())
}

/// Returns a time in the same format.
pub(crate) fn format(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::format;

    #[test]
    fn a_time_has_milliseconds_and_is_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        assert_eq!(format(at), "2023-11-14T22:13:20.042Z");
    }
}
