//! What host calls cost. A process pays with its slice. A restricted run (`save`, `load`,
//! initialization) pays with the budget of the run, at once: code without a loop calls the host as
//! often as it is long before it checks its count.

use exuvia_process::call::ReductionDebt;
use wasmtime::Caller;

use crate::instance::store::{FrameData, Mode, forget_mail, set_reductions};

/// The factor by which host calls cost more in a restricted run. Such a run is limited by its
/// reductions alone, so they must reflect its time; a process is also limited by its turns. Bytes
/// are not multiplied: to copy them takes the same time anywhere.
const RESTRICTED_COST: u32 = 32;
/// Bytes that the host makes or reads (random ones, text) for the price of one reduction of a
/// restricted run.
const MADE_PER_REDUCTION: usize = 2;

/// Deducts what a call has cost beyond itself from the slice. A process that has sent to a
/// congested receiver loses the rest of its slice.
#[inline]
pub(crate) fn charge_call(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data();
    // The next `receive` must find what the process sends to itself, and what others send
    // in the meantime.
    if data.mail_known
        && let (Some(host), Some(process)) = (&data.host, &data.process)
        && process.has_new_signals(&host.system)
    {
        forget_mail(&mut *caller);
    }
    if let Mode::Restricted(_) = &caller.data().mode {
        return charge_restricted(caller.data_mut());
    }
    if caller.data().debt.is_none() {
        return Ok(());
    }
    charge_reductions(caller)
}

#[cold]
fn charge_reductions(caller: &mut Caller<'_, FrameData>) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let reductions = data.debt.take();
    let congested = data.debt.congested.is_some();
    let Some(counter) = data.reductions else {
        return Ok(());
    };
    let left = counter.get(&mut *caller).i32().unwrap_or(0);
    let left = if congested { left.min(0) } else { left };
    let reductions = i32::try_from(reductions).unwrap_or(i32::MAX);
    // Far from where the guest's own count would wrap before it checks.
    let left = left.saturating_sub(reductions).max(i32::MIN / 2);
    set_reductions(&counter, caller, left)
}

#[cold]
fn charge_restricted(data: &mut FrameData) -> wasmtime::Result<()> {
    let cost = restricted_cost(&mut data.debt);
    match &mut data.mode {
        Mode::Restricted(restricted) => restricted.pay(cost),
        Mode::Run => Ok(()),
    }
}

/// Returns what one call costs a restricted run, in reductions.
fn restricted_cost(debt: &mut ReductionDebt) -> u64 {
    let bytes = std::mem::take(&mut debt.for_bytes);
    let calls = u64::from(debt.take()) + 1;
    calls * u64::from(RESTRICTED_COST) + u64::from(bytes)
}

impl FrameData {
    /// Charges a restricted run for bytes that the host makes or reads.
    pub(super) fn charge_made(&mut self, bytes: usize) {
        if let Mode::Restricted(_) = self.mode {
            let reductions = u32::try_from(bytes / MADE_PER_REDUCTION).unwrap_or(u32::MAX);
            self.debt.for_bytes = self.debt.for_bytes.saturating_add(reductions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_a_restricted_run_what_they_cost_a_process() {
        let mut debt = ReductionDebt::default();
        assert_eq!(restricted_cost(&mut debt), u64::from(RESTRICTED_COST));
        debt.copied(256 << 20);
        debt.owe(2);
        let bytes = (256 << 20) / 1024;
        let calls = 3 * u64::from(RESTRICTED_COST);
        assert_eq!(restricted_cost(&mut debt), calls + bytes);
        assert!(debt.is_none(), "it is paid");
    }
}
