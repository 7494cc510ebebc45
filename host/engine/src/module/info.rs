//! A loaded module: compiled code, the base state of its processes, and the results of the
//! analysis.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use exuvia_abi::exports;
use exuvia_contract::{Code, StateContract, functions};
use exuvia_image::Base;
use exuvia_image::{Memories, PageMap};
use exuvia_instrument::{Instrumented, MutableGlobal, ValueType};
use parking_lot::Mutex;

use crate::module::lines::Lines;
use crate::module::stack_policy::StackPolicy;

/// What every frame of a version is made from.
pub(crate) struct Plan {
    /// The compiled code.
    pub(crate) code: wasmtime::Module,
    pub(crate) analysis: Instrumented,
    /// Where its code comes from, if it says so.
    pub(crate) lines: Option<Lines>,
    pub(crate) page_map: Arc<PageMap>,
    pub(crate) memories: Arc<Memories>,
    /// The memory limit of initialization, `save` and `load`, in bytes.
    pub(crate) memory: u64,
}

impl Plan {
    /// Returns whether the module asks to be initialized once for all processes.
    pub(crate) fn has_shared_start(&self) -> bool {
        self.analysis.export(exports::SHARED_START).is_some()
    }
}

/// When a module's initialization runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initialization {
    /// Once per version: its result is the base.
    Shared,
    /// For each process, because it asks for values that differ between processes, by this call.
    PerProcess(&'static str),
}

/// What is known of the stack that a module keeps in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadStack {
    /// It lies below all data, and is no part of an image.
    First,
    /// It may lie above data, so it is a part of every image.
    NotFirst,
    /// No global is named `__stack_pointer`, but one could be it.
    Unknown,
    /// There is none: no global could point to it.
    Absent,
}

/// A loaded module.
pub struct Artifact {
    /// The artifact's number: frames are pooled by it.
    pub(crate) id: u64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) base: Arc<Base>,
    pub(crate) initialization: Initialization,
    pub(crate) schema: i32,
    pub(crate) has_save: bool,
    pub(crate) has_load: bool,
    /// The size of the module file in bytes.
    pub(crate) file_bytes: usize,
    /// The results of [`Artifact::reuses_image_in`] with this artifact as the newer one, by
    /// the id of the older one. They are cached because every process that is upgraded
    /// asks.
    pub(crate) reused_from: Mutex<HashMap<u64, Result<(), String>>>,
    /// Which stack its processes run on, by how they have run so far.
    pub(crate) stack_policy: StackPolicy,
    /// The number of frames of all versions of the module.
    pub(crate) module_frames: OnceLock<Arc<AtomicUsize>>,
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
    /// Returns the size of the base's memory in Wasm pages.
    pub(crate) fn base_pages(&self) -> u32 {
        self.base.memory_pages
    }

    /// Returns the bytes of memory that each of its processes starts with.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.base_pages()) * crate::WASM_PAGE
    }

    /// Returns why its processes cannot be paged out; empty if they can.
    pub fn resident_only(&self) -> &[String] {
        &self.plan.analysis.resident_only
    }

    /// Returns the first call by which its initialization asks for what differs between processes, so that
    /// it runs for each of them; `None`: once for all.
    pub fn start_differs_by(&self) -> Option<&'static str> {
        match self.initialization {
            Initialization::Shared => None,
            Initialization::PerProcess(call) => Some(call),
        }
    }

    /// Returns the bytes of memory that its processes share until they write to them: the base.
    pub fn base_bytes(&self) -> u64 {
        self.base.bytes()
    }

    /// Returns whether it names its functions, so that backtraces do.
    pub fn has_names(&self) -> bool {
        self.plan.analysis.has_names
    }

    /// Returns whether it exports something of that name.
    pub fn has_export(&self, name: &str) -> bool {
        self.plan.analysis.export(name).is_some()
    }

    /// Returns what is known of its stack in memory.
    pub fn dead_stack(&self) -> DeadStack {
        let is_number = |global: &MutableGlobal| global.value == ValueType::I32;
        match &self.plan.analysis.stack_pointer {
            None if !self.plan.analysis.mutable_globals.iter().any(is_number) => DeadStack::Absent,
            None => DeadStack::Unknown,
            Some(pointer) if pointer.stack_first => DeadStack::First,
            Some(_) => DeadStack::NotFirst,
        }
    }

    /// Returns the number of its state's schema.
    pub fn schema(&self) -> i32 {
        self.schema
    }

    /// Returns whether it exports `save`, and whether it exports `load`.
    pub fn hands_over_state(&self) -> (bool, bool) {
        (self.has_save, self.has_load)
    }

    /// Returns whether it has a layout fingerprint. Without one no image is reused.
    pub fn has_layout(&self) -> bool {
        self.plan.analysis.layout.is_some()
    }

    /// Returns what its processes understand: the contents of `exuvia.protocol`.
    pub fn protocol(&self) -> &[u8] {
        &self.plan.analysis.protocol
    }

    /// Returns what it says of its saved state; `None`: nothing. The error is what is wrong with it.
    pub fn state_contract(&self) -> Result<Option<StateContract>, String> {
        StateContract::of(&self.plan.analysis.state, self.schema)
    }

    /// Returns what it says of its state and its messages.
    pub fn contract(&self) -> Code {
        Code {
            schema: self.schema,
            has_save: self.has_save,
            has_load: self.has_load,
            state: self.state_contract(),
            functions: functions(self.protocol()),
        }
    }

    /// Returns the size of the module file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// Makes it the next version of the module of `before`: its processes are assumed to run on the
    /// same stack, until one of them waits, and its frames count together with those of `before`.
    /// Called before it has a frame.
    pub fn follows(&self, before: &Artifact) {
        self.stack_policy.expect(&before.stack_policy);
        let _ = self.module_frames.set(before.module_frames().clone());
    }

    /// Returns the number of frames of all versions of its module.
    pub(crate) fn module_frames(&self) -> &Arc<AtomicUsize> {
        self.module_frames.get_or_init(Arc::default)
    }

    /// Returns `Ok` if images of `self` mean the same in `newer`, else the reason why not.
    /// They do (see `host/notes/reuse-first.md`) if the layout fingerprints, the data segments,
    /// the globals, the memory limits, the functions in tables and the initialized memories are
    /// all the same.
    pub fn reuses_image_in(&self, newer: &Artifact) -> Result<(), String> {
        if let Some(known) = newer.reused_from.lock().get(&self.id) {
            return known.clone();
        }
        let found = self.compare(newer);
        newer.reused_from.lock().insert(self.id, found.clone());
        found
    }

    fn compare(&self, newer: &Artifact) -> Result<(), String> {
        let (old, new) = (&self.plan.analysis, &newer.plan.analysis);
        match (&old.layout, &new.layout) {
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return Err("the layout fingerprints differ".into()),
            _ => return Err("one of the modules has no layout fingerprint".into()),
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
