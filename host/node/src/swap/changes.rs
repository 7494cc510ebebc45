//! The modules of a swap: loaded and checked, not yet current.

use std::sync::Arc;

use exuvia_code::{Digest, Release, Tenancy, Version};
use exuvia_engine::{Artifact, LoadError};

use super::ModuleBytes;
use crate::error::SwapError;
use crate::node::Node;

/// Versions on their way into a release, held so that they stay loaded. Dropped
/// before the commit, those that were made for it are unloaded again: a failed
/// swap leaves no remains.
pub(super) struct Changes<'a> {
    node: &'a Node,
    /// The versions, and whether they were made for this.
    held: Vec<(Tenancy<Artifact>, bool)>,
    committed: bool,
}

/// What a swap makes of a release.
#[derive(Default)]
pub(super) struct Chosen {
    /// The versions that are to become current.
    pub(super) new: Vec<Arc<Version<Artifact>>>,
    /// Those that are current, and are to stay so.
    pub(super) same: Vec<Arc<Version<Artifact>>>,
}

impl Chosen {
    /// All that a commit takes for granted.
    pub(super) fn all(&self) -> Vec<Arc<Version<Artifact>>> {
        [&self.new[..], &self.same[..]].concat()
    }
}

impl Changes<'_> {
    pub(super) fn new(node: &Node) -> Changes<'_> {
        Changes {
            node,
            held: Vec::new(),
            committed: false,
        }
    }

    /// Looks which modules a release lacks, and loads them. With `fresh` also those
    /// that are current already, if processes could not cross to them without.
    pub(super) fn choose(
        &mut self,
        base: &Release<Artifact>,
        modules: &[(Digest, ModuleBytes)],
        fresh: bool,
    ) -> Result<Chosen, SwapError> {
        let mut chosen = Chosen::default();
        for (digest, module) in modules {
            let current = base.version(&module.name);
            match current.filter(|version| version.digest == *digest) {
                // The consent is news to those that could not cross without.
                Some(current) if fresh && self.node.has_stuck(current) => {
                    chosen.new.push(current.clone());
                }
                Some(current) => chosen.same.push(current.clone()),
                None => chosen.new.push(self.load(module, *digest)?),
            }
        }
        Ok(chosen)
    }

    fn load(
        &mut self,
        module: &ModuleBytes,
        digest: Digest,
    ) -> Result<Arc<Version<Artifact>>, SwapError> {
        let inner = &self.node.0;
        if let Some(version) = inner.code.find(&module.name, digest) {
            return Ok(self.hold(version, false));
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
        Ok(self.hold(version, true))
    }

    fn hold(&mut self, version: Tenancy<Artifact>, made: bool) -> Arc<Version<Artifact>> {
        let found = version.version().clone();
        self.held.push((version, made));
        found
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

    /// They are in a release.
    pub(super) fn committed(&mut self) {
        self.committed = true;
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        let inner = &self.node.0;
        // The last made first, so that its number is the one that is free again.
        while let Some((version, made)) = self.held.pop() {
            let gone = version.version().clone();
            if made && !self.committed && inner.code.discard(version) {
                inner.executor.forget(&gone.artifact);
            }
        }
    }
}
