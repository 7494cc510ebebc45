//! Log lines. The host adds the time, the pid and the module.

use std::fmt::{self, Write};

use crate::codec::Scratch;
use crate::sys;

/// The severity of a line.
///
/// ```
/// assert!(exuvia::Level::Error < exuvia::Level::Debug);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = exuvia_abi::log::ERROR,
    /// Something is unusual.
    Warn = exuvia_abi::log::WARN,
    /// Useful information.
    Info = exuvia_abi::log::INFO,
    /// For the author of the module.
    Debug = exuvia_abi::log::DEBUG,
}

/// Writes one line; called by the macros.
#[doc(hidden)]
#[cold]
pub fn write(level: Level, line: fmt::Arguments<'_>) {
    if let Some(text) = line.as_str() {
        sys::log(level as i32, text.as_bytes());
        return;
    }
    let mut scratch = Scratch::new();
    // If a `Display` fails, a shorter line is logged.
    let _ = scratch.write_fmt(line);
    sys::log(level as i32, scratch.as_slice());
}

/// Logs a failure: `exuvia::error!("cannot open {name}")`.
///
/// ```
/// exuvia::error!("cannot open {}", "the door");
/// ```
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::__log($crate::Level::Error, ::std::format_args!($($line)+)) };
}

/// Logs something unusual.
///
/// ```
/// exuvia::warn!("{} messages wait", 10_000);
/// ```
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::__log($crate::Level::Warn, ::std::format_args!($($line)+)) };
}

/// Logs useful information.
///
/// ```
/// exuvia::info!("started with {} keys", 12);
/// ```
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::__log($crate::Level::Info, ::std::format_args!($($line)+)) };
}

/// Logs something for the module's author.
///
/// ```
/// exuvia::debug!("state: {:?}", Some(1));
/// ```
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::__log($crate::Level::Debug, ::std::format_args!($($line)+)) };
}
