//! Calls about the process itself and about its node: clock, random numbers, configuration, log.

use std::borrow::Cow;

use exuvia_abi::{ABI_MINOR, Code, Reason, clock, info, limits, log};
use rand::TryRng;
use rand::rngs::SysRng;

use super::{CallError, CallResult, CallServices, Caller, Ending, Runner};
use crate::ExitReason;
use crate::clock::Clock;
use crate::process::Body;

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Returns a number about the process: one of [`info`], or [`Code::BadArgument`].
    pub fn info(&mut self, what: i32) -> CallResult<u64> {
        match what {
            info::REDUCTIONS => Ok(self.process.reductions),
            info::MAILBOX => {
                // Also count what has arrived since the process last checked.
                self.drain()?;
                Ok(self.process.messages() as u64)
            }
            info::UPGRADES => Ok(match &self.process.body {
                Body::Guest(guest) => guest.upgrades().into(),
                Body::Native(_) => 0,
            }),
            info::ABI_MINOR => Ok(ABI_MINOR.into()),
            info::MESSAGE_BYTES => Ok(self.process.limits().message_bytes.into()),
            info::MAILBOX_BYTES => Ok(self.process.limits().mailbox_bytes),
            info::MAILBOX_MESSAGES => Ok(self.process.limits().mailbox_messages.into()),
            info::MEMORY_BYTES => Ok(self.process.limits().memory),
            _ => Err(Code::BadArgument.into()),
        }
    }

    /// Returns a value of the app's configuration, in MessagePack, or [`Code::Empty`].
    pub fn config(&mut self, key: &[u8]) -> CallResult<Vec<u8>> {
        let key = std::str::from_utf8(key).map_err(|_| Code::BadArgument)?;
        Ok(self.services.config(key).ok_or(Code::Empty)?)
    }
}

// These three are also served where no process runs: while a module is initialized, and in `save`
// and `load`.

/// Reads a clock of [`clock`], in nanoseconds. Returns [`Code::BadArgument`] for an unknown one.
pub fn read_clock(clock: &Clock, which: i32) -> Result<u64, Code> {
    match which {
        clock::MONOTONIC => Ok(clock.now()),
        clock::REALTIME => Ok(clock.realtime()),
        _ => Err(Code::BadArgument),
    }
}

/// Fills a buffer with random bytes that are suitable for keys, from the system's generator.
/// Returns [`Code::BadArgument`] for a buffer that is too large.
pub fn fill_random(buffer: &mut [u8]) -> CallResult<()> {
    if buffer.len() > limits::RANDOM as usize {
        return Err(Code::BadArgument.into());
    }
    SysRng.try_fill_bytes(buffer).map_err(|error| {
        let text = format!("the system has no random numbers: {error}");
        CallError::Ends(Ending::Fault(ExitReason::with(
            Reason::INTERNAL.0,
            text.as_bytes(),
        )))
    })
}

/// Returns a line for the log: cut to the limit, and as UTF-8. Returns [`Code::BadArgument`] for
/// an unknown level.
pub fn log_line(level: i32, text: &[u8]) -> Result<Cow<'_, str>, Code> {
    if !(log::ERROR..=log::DEBUG).contains(&level) {
        return Err(Code::BadArgument);
    }
    let cut = text.len().min(limits::LOG_LINE as usize);
    Ok(String::from_utf8_lossy(&text[..cut]))
}
