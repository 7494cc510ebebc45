//! Processes that are spawned from outside the node, and what each may use.

use std::sync::Arc;

use exuvia_abi::Pid;
use exuvia_engine::Guest;
use exuvia_process::{Body, Limits, Native, Payload, SpawnError, SpawnSpec};

use super::Node;
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
        let body = self
            .0
            .executor
            .new_process(module)
            .ok_or_else(|| SpawnFailed::NoModule(module.to_owned()))?;
        let limits = match &options.limits {
            Some(limits) => Arc::new(limits.clone().at_most(&self.limits_of(module))),
            None => self.limits_of(module),
        };
        may_begin(&body, &limits)?;
        let pinned_to = self.pinned_to(options.scheduler)?;
        let system = &self.0.system;
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
        let schedulers = self.0.handle.workers().min(MOST_PINNED);
        u8::try_from(wanted)
            .ok()
            .filter(|_| wanted < schedulers)
            .map(Some)
            .ok_or(SpawnFailed::Scheduler { wanted, schedulers })
    }

    /// Spawns a native process. Returns `None` if the process table is full.
    pub fn spawn_native(&self, native: Box<dyn Native<Guest>>) -> Option<Pid> {
        let body = Body::Native(Some(native));
        let spec = SpawnSpec::new(body, self.0.limits.clone(), Payload::empty());
        self.0.system.spawn(spec).ok()
    }

    /// Returns the limits of a module's processes.
    pub(crate) fn limits_of(&self, module: &str) -> Arc<Limits> {
        self.0
            .modules
            .lock()
            .get(module)
            .unwrap_or(&self.0.limits)
            .clone()
    }
}

/// Checks that a process may have the memory that its module starts with: the limiter sees memory
/// grow, but not its initial size.
pub(crate) fn may_begin(body: &Body<Guest>, limits: &Limits) -> Result<(), SpawnFailed> {
    let Body::Guest(guest) = body else {
        return Ok(());
    };
    let (wanted, allowed) = (
        guest.version.version().artifact.memory_bytes(),
        limits.memory,
    );
    if wanted > allowed {
        return Err(SpawnFailed::Memory {
            module: guest.version.module.to_string(),
            wanted,
            allowed,
        });
    }
    Ok(())
}
