//! The modules of a swap that are new: loaded and checked, not yet current.

use std::sync::Arc;

use exuvia_code::{Digest, Version};
use exuvia_engine::{Artifact, LoadError};

use super::ModuleBytes;
use crate::error::SwapError;
use crate::node::Node;

/// Versions on their way into a release. Dropped before the commit, those that
/// were made for it are unloaded again: a failed swap leaves no remains.
pub(super) struct Changes<'a> {
    node: &'a Node,
    pub(super) versions: Vec<Arc<Version<Artifact>>>,
    made: Vec<Arc<Version<Artifact>>>,
}

impl Changes<'_> {
    pub(super) fn new(node: &Node) -> Changes<'_> {
        Changes {
            node,
            versions: Vec::new(),
            made: Vec::new(),
        }
    }

    pub(super) fn load(&mut self, module: &ModuleBytes, digest: Digest) -> Result<(), SwapError> {
        let inner = &self.node.0;
        if let Some(version) = inner.code.find(&module.name, digest) {
            self.versions.push(version);
            return Ok(());
        }
        let artifact = inner
            .engine
            .load(&module.bytes)
            .map_err(|error| SwapError::Load {
                file: module.source.clone(),
                error,
            })?;
        if let Err(error) = self.fits(module, artifact.memory_bytes()) {
            inner.executor.forget(&artifact);
            return Err(error);
        }
        let version = inner.code.load(&module.name, digest, artifact);
        self.versions.push(version.clone());
        self.made.push(version);
        Ok(())
    }

    /// Whether its processes may have the memory that they begin with: the
    /// limiter sees memory grow, but not that.
    fn fits(&self, module: &ModuleBytes, wanted: u64) -> Result<(), SwapError> {
        let allowed = self.node.limits_of(&module.name).memory;
        if wanted > allowed {
            return Err(SwapError::Load {
                file: module.source.clone(),
                error: LoadError::Memory { wanted, allowed },
            });
        }
        let children = self.node.0.children.lock();
        let mut of_module = children.iter().filter(|own| own.module == module.name);
        match of_module.find(|own| own.memory < wanted) {
            Some(own) => Err(SwapError::ChildMemory {
                file: module.source.clone(),
                child: own.child.clone(),
                wanted,
                allowed: own.memory,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn keep(mut self) -> Vec<Arc<Version<Artifact>>> {
        self.made.clear();
        std::mem::take(&mut self.versions)
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        for version in self.made.drain(..) {
            self.node.0.code.discard(&version);
            self.node.0.executor.forget(&version.artifact);
        }
    }
}
