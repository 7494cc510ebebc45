//! The target values of the figures: the aims of `docs/benchmarks.md`, for the machine on which
//! they were set (2 cores, AMD EPYC). Where an aim is a ratio to the BEAM, the value is that of
//! Erlang/OTP 29 on that machine, times the ratio for a time and divided by it for a rate. The aims
//! of rows in which Exuvia is ahead, and of those that Erlang does not have, were set before, on
//! another machine.

/// The maximum or the minimum of a figure.
pub(crate) enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

use Aim::{AtLeast, AtMost};

const AIMS: &[(&str, Aim)] = &[
    ("ping-pong 16 B, 1 scheduler, ns/message", AtMost(130.0)),
    ("ping-pong 16 B, 2 schedulers, ns/message", AtMost(130.0)),
    ("ping-pong 16 B, pinned apart, ns/message", AtMost(400.0)),
    ("ping-pong 64 KiB, 1 scheduler, ns/message", AtMost(1_690.0)),
    ("ring of 503, 1 scheduler, ns/hop", AtMost(130.0)),
    ("ring of 10,000, 1 scheduler, ns/hop", AtMost(200.0)),
    (
        "ring of 10,000 shuffled, 1 scheduler, ns/hop",
        AtMost(600.0),
    ),
    ("100 all to all, 1 scheduler, M messages/s", AtLeast(10.75)),
    ("1,000 all to all, 1 scheduler, M messages/s", AtLeast(7.4)),
    ("100 all to all, 2 schedulers, M messages/s", AtLeast(12.0)),
    (
        "call and reply, 1 client, 1 scheduler, thousand/s",
        AtLeast(1_670.0),
    ),
    (
        "call and reply, 1,000 clients, 1 scheduler, thousand/s",
        AtLeast(1_726.0),
    ),
    (
        "spawn+run+exit, one after another, 1 scheduler, thousand/s",
        AtLeast(1_122.0),
    ),
    (
        "spawn+run+exit, batch of 100,000, 1 scheduler, thousand/s",
        AtLeast(2_177.0),
    ),
    ("idle memory, 1,000,000 WAT, B/process", AtMost(512.0)),
    ("idle memory, 1,000,000 Rust, B/process", AtMost(512.0)),
    (
        "activation at random, one at a time, 1,000,000 WAT, 1 scheduler, ns",
        AtMost(1_500.0),
    ),
    (
        "activation at random, one at a time, 1,000,000 Rust, 1 scheduler, ns",
        AtMost(1_500.0),
    ),
    ("10,000 asked once, no swap (reused), ms", AtMost(6.7)),
    ("10,000 on new code, reused, ms", AtMost(6.0)),
    (
        "pause of a busy process, ready code, max, us",
        AtMost(500.0),
    ),
    (
        "pause of a busy process, compiled now, max, us",
        AtMost(500.0),
    ),
    (
        "10 ms tick beside 8 spinning, 1 scheduler, lateness p99, us",
        AtMost(100.0),
    ),
    (
        "10 ms tick beside 8 spinning, 2 schedulers, lateness p99, us",
        AtMost(100.0),
    ),
    (
        "ping-pong beside 8 spinning, 1 scheduler, round trip p50, us",
        AtMost(20.0),
    ),
    (
        "ping-pong beside 8 spinning, 1 scheduler, round trip p99, us",
        AtMost(40.0),
    ),
    ("100,000 timers, lateness p50, us", AtMost(200.0)),
    ("100,000 timers, lateness p99, us", AtMost(500.0)),
    ("fib(32) on a node, ms", AtMost(14.0)),
    ("mandelbrot 400 x 400 x 100 on a node, ms", AtMost(16.0)),
    ("n-body 500,000 steps on a node, ms", AtMost(50.0)),
    ("SHA-256 of 1 MiB on a node, ms", AtMost(6.0)),
];

impl Aim {
    /// Returns the aim of a figure, if it has one.
    pub(crate) fn of(figure: &str) -> Option<&'static Aim> {
        AIMS.iter()
            .find(|(name, _)| *name == figure)
            .map(|(_, aim)| aim)
    }

    pub(crate) fn is_met(&self, value: f64) -> bool {
        match self {
            AtMost(most) => value <= *most,
            AtLeast(least) => value >= *least,
        }
    }
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AtMost(most) => write!(f, "<= {most}"),
            AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_at_its_bound() {
        assert!(AtMost(2.0).is_met(2.0) && !AtMost(2.0).is_met(2.1));
        assert!(AtLeast(2.0).is_met(2.0) && !AtLeast(2.0).is_met(1.9));
    }

    #[test]
    fn targets_match_the_whole_name() {
        assert!(Aim::of("fib(32) on a node, ms").is_some());
        assert!(Aim::of("fib(32)").is_none());
    }

    /// With two aims for one figure the second would be ignored.
    #[test]
    fn no_figure_has_two_targets() {
        for (index, (name, _)) in AIMS.iter().enumerate() {
            assert!(
                AIMS[index + 1..].iter().all(|(other, _)| other != name),
                "{name}"
            );
        }
    }
}
