//! Whether there is any path on which the processes of a module could be upgraded to a new version
//! of it, as far as the two modules show that.

use std::sync::Arc;

use exuvia_code::Version;
use exuvia_engine::{Artifact, VerifyError, no_upgrade_path};
use exuvia_process::Body;

use crate::core::Core;

/// Rejects new code to which no process can ever be upgraded, as far as the two modules show
/// that: verification has no copies of processes that are busy or that never leave their frame.
pub(super) fn check_upgrade_paths(
    core: &Core,
    changes: &[Arc<Version<Artifact>>],
) -> Result<(), VerifyError> {
    for new in changes {
        for old in core.code.versions(&new.module) {
            if Arc::ptr_eq(&old, new) || old.process_count() == 0 {
                continue;
            }
            let is_direct = core.code.between(&old, new).is_empty();
            let Some((error, missing)) = no_upgrade_path(&old, new, is_direct) else {
                continue;
            };
            let of = old.clone();
            // A process that has not run has no state, and loops are checked separately.
            let found = core.survey(1, false, move |process| {
                let Body::Guest(guest) = &process.body else {
                    return None;
                };
                let has_state = !guest.is_not_started() && guest.loops() != Some(false);
                (guest.version.is(&of) && has_state).then(|| process.pid())
            });
            if let Some(pid) = found.first() {
                let names = core.system.names.of(*pid);
                return Err(VerifyError {
                    pid: *pid,
                    name: names.first().map(ToString::to_string),
                    module: old.module.to_string(),
                    error: error.into(),
                    missing,
                    file: None,
                });
            }
        }
    }
    Ok(())
}
