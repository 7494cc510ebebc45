//! Processes that are spawned from outside the node, and what each may use.

use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_engine::Guest;
use exuvia_process::{Limits, Native, Payload, SpawnError, SpawnSpec};

use super::Node;
use crate::core::may_begin;
use crate::error::SpawnFailed;

/// The number of schedulers that a process can be pinned to: its slot stores the scheduler in one
/// byte.
const MOST_PINNED: usize = 255;

/// How a process is spawned from outside the node.
#[derive(Clone, Debug, Default)]
pub struct SpawnOptions {
    /// A name, which is registered before the process runs.
    pub name: Option<String>,
    /// The limits of the process; `None`: those of the module or else of the node.
    pub limits: Option<Limits>,
    /// The only scheduler that runs it, counted from 0, as in Erlang's undocumented spawn option;
    /// `None`: any. Meant for measurements: no other scheduler takes the process over, however much
    /// that scheduler has to do.
    pub scheduler: Option<usize>,
}

impl Node {
    /// Spawns a process of a module in the current release, and returns its pid. Its first message
    /// is INIT with `arguments`.
    ///
    /// # Errors
    ///
    /// If the release has no such module, if the process may not have the memory that its module
    /// starts with, if the name cannot be registered, if there is no such scheduler, or if the
    /// process table is full.
    pub fn spawn(
        &self,
        module: &str,
        arguments: &[u8],
        options: &SpawnOptions,
    ) -> Result<Pid, SpawnFailed> {
        let payload = Payload::new(arguments);
        let core = self.core();
        let body = core
            .executor
            .new_process(module)
            .ok_or_else(|| SpawnFailed::NoModule(module.to_owned()))?;
        let limits = match &options.limits {
            Some(limits) => Arc::new(limits.clone().at_most(&core.limits.of(module))),
            None => core.limits.of(module),
        };
        may_begin(&body, &limits)?;
        let pinned_to = self.pinned_to(options.scheduler)?;
        let system = &core.system;
        let reserved = system.reserve(&limits);
        let pid = reserved.map_err(|SpawnError::TableFull| SpawnFailed::TableFull)?;
        if let Some(name) = &options.name
            && let Err(error) = system.register(name, pid)
        {
            system.abandon(pid);
            let name = name.clone();
            return Err(SpawnFailed::Name { name, error });
        }
        let spec = SpawnSpec {
            pinned_to,
            ..SpawnSpec::new(body, limits, payload)
        };
        system.start(pid, spec);
        Ok(pid)
    }

    fn pinned_to(&self, scheduler: Option<usize>) -> Result<Option<u8>, SpawnFailed> {
        let Some(wanted) = scheduler else {
            return Ok(None);
        };
        let schedulers = self.core().schedulers.workers().min(MOST_PINNED);
        u8::try_from(wanted)
            .ok()
            .filter(|_| wanted < schedulers)
            .map(Some)
            .ok_or(SpawnFailed::Scheduler { wanted, schedulers })
    }

    /// Spawns a native process. Returns `None` if the process table is full.
    pub fn spawn_native(&self, native: Box<dyn Native<Guest>>) -> Option<Pid> {
        self.core().spawn_native(native)
    }
}
