//! What a process owes for its calls, in reductions. Its runner deducts it from the slice.

use exuvia_abi::Pid;

/// Bytes that are copied for the price of one reduction.
pub const BYTES_PER_REDUCTION: u32 = 1024;
/// The minimum bytes that a call charges for: copying less costs about as much as the call itself.
const LARGE: usize = 4 * 1024;
/// Messages that are examined for the price of one reduction.
const EXAMINED_PER_REDUCTION: u32 = 8;

/// What a process owes for its calls.
#[derive(Debug, Default)]
pub struct ReductionDebt {
    /// Reductions owed for calls.
    pub reductions: u32,
    /// Reductions owed for bytes that the host has copied or made for calls.
    pub for_bytes: u32,
    /// A congested process that the process has sent to: it continues when that process has caught
    /// up.
    pub congested: Option<Pid>,
}

impl ReductionDebt {
    /// Charges so many reductions.
    #[inline]
    pub fn owe(&mut self, reductions: u32) {
        self.reductions = self.reductions.saturating_add(reductions);
    }

    /// Charges for bytes that the host copies, at the rate of those that a guest copies itself.
    #[inline]
    pub fn copied(&mut self, bytes: usize) {
        if bytes >= LARGE {
            let reductions = bytes / BYTES_PER_REDUCTION as usize;
            let reductions = u32::try_from(reductions).unwrap_or(u32::MAX);
            self.for_bytes = self.for_bytes.saturating_add(reductions);
        }
    }

    /// Charges for messages that the host has examined to find one.
    #[inline]
    pub fn examined(&mut self, messages: u32) {
        self.owe(messages / EXAMINED_PER_REDUCTION);
    }

    /// Returns whether nothing is owed, and nothing must be waited for.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.reductions | self.for_bytes == 0 && self.congested.is_none()
    }

    /// Takes the reductions that are owed, which do not include a congested receiver.
    #[inline]
    pub fn take(&mut self) -> u32 {
        let bytes = std::mem::take(&mut self.for_bytes);
        std::mem::take(&mut self.reductions).saturating_add(bytes)
    }
}
