//! Durations as users write them, in a manifest and on a command line: a whole number and a unit,
//! `200ms`, `5s`, `1m`, `2h`. There is one way to write each; other common forms are recognized only
//! to say how to write them here.

use std::time::Duration;

/// What a duration looks like, for messages.
pub const DURATION_FORM: &str =
    "write a whole number and a unit: \"200ms\", \"5s\", \"1m\" or \"2h\"";

/// The units in milliseconds, the longest first.
pub(crate) const UNITS: [(&str, u64); 4] =
    [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Other names of units that are common elsewhere.
const OTHER_NAMES: [(&str, &[&str]); 4] = [
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("ms", &["msec", "millis", "millisecond", "milliseconds"]),
];

/// Reads a duration.
///
/// # Errors
///
/// How to write it, if it is not a whole number and a unit, or is too long for the number of its
/// milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    exact(text).ok_or_else(|| match meant(text) {
        Some(meant) => format!("write \"{}\"", shown_duration(meant)),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("add a unit: \"{text}ms\" or \"{text}s\"")
        }
        None => DURATION_FORM.to_owned(),
    })
}

/// Returns the shortest exact form of a duration; parts of a millisecond are cut off.
pub fn shown_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let (unit, factor) = UNITS
        .into_iter()
        .map(|(unit, factor)| (unit, u128::from(factor)))
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
        .unwrap_or(("s", 1_000));
    format!("{}{unit}", ms / factor)
}

fn exact(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .map(Duration::from_millis)
}

/// Returns what a text most likely means: `1.5 s`, `1m30s`, `5 Seconds`.
fn meant(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let length = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|length| *length > 0)?;
        let (number, after) = rest.split_at(length);
        let after = after.trim_start();
        let length = after
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(length);
        let unit = unit.to_lowercase();
        let (_, factor) = UNITS.iter().find(|(known, _)| {
            let others = OTHER_NAMES.iter().filter(|(name, _)| name == known);
            unit == *known
                || others
                    .into_iter()
                    .any(|(_, others)| others.contains(&&*unit))
        })?;
        let ms = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(*factor)?,
            Err(_) => thousandths(number)?.checked_mul(*factor)? / 1_000,
        };
        total_ms = total_ms.checked_add(ms)?;
        rest = next.trim_start();
    }
    (!text.trim().is_empty()).then(|| Duration::from_millis(total_ms))
}

/// Returns a number with a fraction in thousandths.
fn thousandths(number: &str) -> Option<u64> {
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: u64 = format!("{fraction:0<3.3}").parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DURATION_FORM, parse_duration, shown_duration};

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("200ms", 200),
            ("5s", 5_000),
            ("1m", 60_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
            assert_eq!(shown_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(shown_duration(Duration::from_millis(90_000)), "90s");
        assert_eq!(shown_duration(Duration::from_micros(1_500)), "1ms");
    }

    #[test]
    fn other_forms_are_answered_with_the_one_to_write() {
        for (text, help) in [
            ("5000", "add a unit: \"5000ms\" or \"5000s\""),
            ("5 s", "write \"5s\""),
            ("5S", "write \"5s\""),
            ("5 seconds", "write \"5s\""),
            ("1m30s", "write \"90s\""),
            ("1.5s", "write \"1500ms\""),
            (".5 h", "write \"30m\""),
            ("10min", "write \"10m\""),
            ("", DURATION_FORM),
            ("soon", DURATION_FORM),
            ("-1s", DURATION_FORM),
            ("5 fortnights", DURATION_FORM),
            ("1..2s", DURATION_FORM),
            ("99999999999999999999s", DURATION_FORM),
            ("9999999999999999999h", DURATION_FORM),
            ("é", DURATION_FORM),
        ] {
            assert_eq!(parse_duration(text), Err(help.to_owned()), "{text}");
        }
    }
}
