//! The modules of a swap: loaded and checked, but not current yet.

use std::sync::Arc;

use exuvia_code::{Digest, Release, Version, VersionRef};
use exuvia_engine::{Artifact, LoadError};

use super::old_code::has_failed_upgrades;
use crate::core::Core;
use crate::error::SwapError;
use crate::request::ModuleBytes;

/// Versions that are to become part of a release, held so that they stay loaded. If this is dropped
/// before the commit, those that were loaded for it are unloaded again: a failed swap leaves
/// nothing behind.
pub(super) struct Changes<'a> {
    core: &'a Core,
    /// The versions, and whether each was loaded for this swap.
    held: Vec<(VersionRef<Artifact>, bool)>,
    committed: bool,
}

/// What a swap changes in a release.
#[derive(Default)]
pub(super) struct Chosen {
    /// The versions that are to become current.
    pub(super) new: Vec<Arc<Version<Artifact>>>,
    /// The versions that are current, and are to stay so.
    pub(super) same: Vec<Arc<Version<Artifact>>>,
}

impl Chosen {
    /// Returns all versions that the commit is based on.
    pub(super) fn all(&self) -> Vec<Arc<Version<Artifact>>> {
        [&self.new[..], &self.same[..]].concat()
    }
}

impl Changes<'_> {
    pub(super) fn new(core: &Core) -> Changes<'_> {
        Changes {
            core,
            held: Vec::new(),
            committed: false,
        }
    }

    /// Finds the modules that a release lacks, and loads them. With `fresh`, current versions to
    /// which the upgrade of a process failed are chosen again.
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
                // With this consent, processes whose upgrade failed can be upgraded.
                Some(current) if fresh && has_failed_upgrades(self.core, current) => {
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
        let core = self.core;
        if let Some(version) = core.code.find(&module.name, digest) {
            return Ok(self.hold(version, false));
        }
        let layout = core.limits.layout_of(&module.name);
        let layout = layout.unwrap_or(core.config.memory_layout);
        let artifact = core
            .engine
            .load_as(&module.bytes, layout)
            .map_err(|error| SwapError::Load {
                file: module.source.clone(),
                error,
            })?;
        if let Err(error) = self.fits(module, artifact.memory_bytes()) {
            core.executor.forget(&artifact);
            return Err(error);
        }
        let version = core.code.load(&module.name, digest, artifact);
        Ok(self.hold(version, true))
    }

    fn hold(&mut self, version: VersionRef<Artifact>, made: bool) -> Arc<Version<Artifact>> {
        let found = version.version().clone();
        self.held.push((version, made));
        found
    }

    /// Checks that its processes may have the memory that the module starts with: the limiter sees
    /// memory grow, but not its initial size.
    fn fits(&self, module: &ModuleBytes, wanted: u64) -> Result<(), SwapError> {
        let allowed = self.core.limits.of(&module.name).memory;
        if wanted > allowed {
            return Err(SwapError::Load {
                file: module.source.clone(),
                error: LoadError::Memory { wanted, allowed },
            });
        }
        match self.core.limits.child_below(&module.name, wanted) {
            Some(child) => Err(SwapError::ChildMemory {
                file: module.source.clone(),
                child: child.child,
                wanted,
                allowed: child.memory,
            }),
            None => Ok(()),
        }
    }

    /// Notes that the versions are part of a release.
    pub(super) fn committed(&mut self) {
        self.committed = true;
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        let core = self.core;
        // The last one first, so that the version number is free again.
        while let Some((version, made)) = self.held.pop() {
            let gone = version.version().clone();
            if made && !self.committed && core.code.discard(version) {
                core.executor.forget(&gone.artifact);
            }
        }
    }
}
