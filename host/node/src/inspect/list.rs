//! Lists of processes, page by page.

use std::cell::Cell;

use super::{Filter, Inspector, ProcessInfo, describe, slot_of};
use crate::core::PATIENCE;

impl Inspector<'_> {
    /// Returns the processes with a slot above `after`, in order of their slots, and the slot
    /// to continue after if there may be more of them.
    pub(crate) fn processes_after(
        &self,
        filter: &Filter,
        after: Option<u32>,
    ) -> (Vec<ProcessInfo>, Option<u32>) {
        let release = self.core.code.current();
        let module = filter.module.clone();
        let last = Cell::new(after);
        let skipped = after.map_or(0, |after| after as usize + 1);
        let mut slots = self.core.system.table.indices().skip(skipped);
        let seen = slots.by_ref().inspect(|slot| last.set(Some(*slot)));
        let all = filter.module.is_none();
        let mut found = self
            .core
            .survey_slots(seen, filter.limit, all, PATIENCE, move |process| {
                Some(describe(process, &release)).filter(|info| wanted(info, module.as_deref()))
            });
        for info in &mut found {
            self.complete(info);
        }
        found.sort_by_key(|info| slot_of(&info.pid));
        let cut = found.len() > filter.limit;
        found.truncate(filter.limit);
        // Running processes that are seen later may be more than the limit: they are on the next
        // page then.
        let next = match found.last() {
            Some(info) if cut => Some(slot_of(&info.pid)),
            _ => slots.next().and(last.get()),
        };
        (found, next)
    }
}

fn wanted(info: &ProcessInfo, module: Option<&str>) -> bool {
    match (module, &info.module) {
        (None, _) => true,
        (Some(wanted), Some(module)) => module
            .rsplit_once('@')
            .is_some_and(|(name, _)| name == wanted),
        (Some(_), None) => false,
    }
}
