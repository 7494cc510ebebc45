//! A loaded module: compiled code, the base of its processes, and what the
//! analysis found.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::InstancePre;

use crate::data::FrameData;
use crate::image::Base;
use crate::instrument::Instrumented;
use crate::pagemap::{Memories, PageMap};
use crate::stack::Manner;

/// What every frame of a version is made from.
pub(crate) struct Plan {
    pub(crate) pre: InstancePre<FrameData>,
    pub(crate) analysis: Instrumented,
    pub(crate) page_map: Arc<PageMap>,
    pub(crate) memories: Arc<Memories>,
    /// Bytes of memory that initialization, `save` and `load` may have.
    pub(crate) memory: u64,
}

/// When a module's initialization runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initialization {
    /// Once a version: its result is the base.
    Shared,
    /// For each process, since it asks for what differs between them.
    PerProcess,
}

/// A loaded module.
pub struct Artifact {
    /// Tells artifacts apart: frames are pooled by it.
    pub(crate) id: u64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) base: Arc<Base>,
    pub(crate) initialization: Initialization,
    pub(crate) schema: i32,
    pub(crate) has_save: bool,
    pub(crate) has_load: bool,
    /// Bytes of the module file.
    pub(crate) file_bytes: usize,
    /// What [`Artifact::carries_to`] found out about this one, by the id of the
    /// older: each process that crosses asks.
    pub(crate) carried_from: Mutex<HashMap<u64, Result<(), String>>>,
    /// How its processes have run so far.
    pub(crate) manner: Manner,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifact")
            .field("id", &self.id)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Artifact {
    /// Wasm pages of memory in the base.
    pub(crate) fn base_pages(&self) -> u32 {
        self.base.memory_pages
    }

    /// Bytes of memory that each of its processes begins with.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.base_pages()) * crate::WASM_PAGE
    }

    /// Why its processes cannot be paged out; empty if they can.
    pub fn resident_only(&self) -> &[String] {
        &self.plan.analysis.resident_only
    }

    /// The functions of WASI that it imports.
    pub fn wasi(&self) -> impl Iterator<Item = &str> {
        let imports = self.plan.analysis.imports.iter();
        imports
            .filter(|import| import.module == exuvia_abi::wasi::MODULE)
            .map(|import| import.name.as_str())
    }

    /// The number of its state's schema.
    pub fn schema(&self) -> i32 {
        self.schema
    }

    /// Whether it exports `save`, and `load`.
    pub fn hands_over_state(&self) -> (bool, bool) {
        (self.has_save, self.has_load)
    }

    /// Whether it has a layout fingerprint, without which no image is carried over.
    pub fn has_layout(&self) -> bool {
        self.plan.analysis.layout.is_some()
    }

    /// What its processes understand: the contents of `exuvia.protocol`.
    pub fn protocol(&self) -> &[u8] {
        &self.plan.analysis.protocol
    }

    /// Bytes of the module file.
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// Its processes are taken to run as those of the version before, until they
    /// are seen to do otherwise.
    pub fn follows(&self, before: &Artifact) {
        self.manner.expect(&before.manner);
    }

    /// Why images of `self` do not mean the same in `newer`, or nothing if
    /// they do (DESIGN: equal layout, and data, globals, limits and functions
    /// in tables all the same).
    pub fn carries_to(&self, newer: &Artifact) -> Result<(), String> {
        if let Some(known) = newer.carried_from.lock().get(&self.id) {
            return known.clone();
        }
        let found = self.compare(newer);
        newer.carried_from.lock().insert(self.id, found.clone());
        found
    }

    fn compare(&self, newer: &Artifact) -> Result<(), String> {
        let (old, new) = (&self.plan.analysis, &newer.plan.analysis);
        match (&old.layout, &new.layout) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return Err("the layout fingerprints differ".into()),
            _ => return Err("not both modules have a layout fingerprint".into()),
        }
        for reasons in [&old.resident_only, &new.resident_only] {
            if let Some(reason) = reasons.first() {
                return Err(format!("the module is resident-only: {reason}"));
            }
        }
        if old.data_digest != new.data_digest {
            return Err("the data segments differ".into());
        }
        if old.globals_digest != new.globals_digest {
            return Err("the globals differ".into());
        }
        if old.memory != new.memory {
            return Err("the memory limits differ".into());
        }
        match (&old.table_slots, &new.table_slots) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                let differing = a.iter().zip(b).find(|(a, b)| {
                    (a.table, a.slot) != (b.table, b.slot) || a.name.is_none() || a.name != b.name
                });
                if let Some((a, _)) = differing {
                    let (table, slot) = (a.table, a.slot);
                    return Err(format!(
                        "slot {slot} of table {table} does not name the same function in both"
                    ));
                }
            }
            _ => return Err("the tables differ".into()),
        }
        if self.initialization != newer.initialization || !self.base.is_same(&newer.base) {
            return Err("the initialized memories differ".into());
        }
        Ok(())
    }
}
