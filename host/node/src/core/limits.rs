//! What processes may use, as the manifest has it: for the node, by module, and the children that
//! may have less than their module.

use std::collections::BTreeMap;
use std::sync::Arc;

use exuvia_engine::{Guest, MemoryLayout};
use exuvia_manifest::{Manifest, OwnMemory};
use exuvia_process::{Body, Limits};
use parking_lot::Mutex;

use crate::error::SpawnFailed;
use crate::from_manifest::{limits_like, memory_layout};

/// The limits of processes. They change when the manifest is edited.
#[derive(Debug)]
pub(crate) struct ProcessLimits {
    node: Arc<Limits>,
    modules: Mutex<BTreeMap<String, Arc<Limits>>>,
    /// How the memories of modules' processes lie.
    layouts: Mutex<BTreeMap<String, MemoryLayout>>,
    /// Children in the manifest that may have less memory than their module.
    children: Mutex<Vec<OwnMemory>>,
}

impl ProcessLimits {
    pub(super) fn new(node: Limits) -> ProcessLimits {
        ProcessLimits {
            node: Arc::new(node),
            modules: Mutex::default(),
            layouts: Mutex::default(),
            children: Mutex::default(),
        }
    }

    /// Returns the limits of processes without a module.
    pub(crate) fn of_node(&self) -> &Arc<Limits> {
        &self.node
    }

    /// Returns the limits of a module's processes.
    pub(crate) fn of(&self, module: &str) -> Arc<Limits> {
        self.modules
            .lock()
            .get(module)
            .unwrap_or(&self.node)
            .clone()
    }

    /// Returns how the memories of a module's processes lie, if its manifest says so.
    pub(crate) fn layout_of(&self, module: &str) -> Option<MemoryLayout> {
        self.layouts.lock().get(module).copied()
    }

    /// Sets the limits of the modules of a manifest, for processes that start from now on, and the
    /// layouts, for versions that are loaded from now on.
    pub(crate) fn set_modules(&self, manifest: &Manifest) {
        let mut modules = self.modules.lock();
        for (name, module) in &manifest.modules {
            modules.insert(name.clone(), limits_like(&module.limits, &self.node));
        }
        *self.layouts.lock() = (manifest.modules.iter())
            .map(|(name, module)| (name.clone(), memory_layout(module.memory_layout)))
            .collect();
    }

    /// Sets the children of a manifest that may have less memory than their module.
    pub(crate) fn set_children(&self, manifest: &Manifest) {
        *self.children.lock() = manifest.own_memories().to_vec();
    }

    /// Returns a child of a module that may not have this much memory.
    pub(crate) fn child_below(&self, module: &str, memory: u64) -> Option<OwnMemory> {
        let children = self.children.lock();
        let mut of_module = children.iter().filter(|child| child.module == module);
        of_module.find(|child| child.memory < memory).cloned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_a_module_is_that_of_its_manifest_also_after_an_edit() {
        let text = "[app]\nname = \"a\"\n[modules.m]\npath = \"m\"\n\
                    [modules.n]\npath = \"n\"\nmemory_layout = \"wide\"\n\
                    [[supervisor.children]]\nid = \"m\"\nmodule = \"m\"\n";
        let manifest = |text: &str| Manifest::parse(text, "exuvia.toml", "").unwrap();
        let limits = ProcessLimits::new(Limits::default());
        limits.set_modules(&manifest(text));
        assert_eq!(limits.layout_of("m"), Some(MemoryLayout::Packed));
        assert_eq!(limits.layout_of("n"), Some(MemoryLayout::Wide));
        assert_eq!(limits.layout_of("other"), None);
        limits.set_modules(&manifest(&text.replace("wide", "packed")));
        assert_eq!(limits.layout_of("n"), Some(MemoryLayout::Packed));
    }
}
