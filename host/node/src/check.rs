//! What can be known before a node runs: of a module, and of the machine.

use exuvia_engine::{Engine, EngineConfig, LoadError, default_frames, mappings_of};
use serde::Serialize;

use crate::config::NodeConfig;
use crate::inspect::page_map;
use crate::machine;

/// A module that a node can load.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of memory that each of its processes begins with.
    pub memory_bytes: u64,
    /// The number of its state's schema.
    pub schema: i32,
    /// Whether it exports `save`, and `load`.
    pub save: bool,
    /// See `save`.
    pub load: bool,
    /// Whether it says how its state is laid out.
    pub layout: bool,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// The functions of WASI that it imports.
    pub wasi: Vec<String>,
}

/// Loads a module as a node with default settings would, and forgets it again.
///
/// # Errors
///
/// All that is wrong with it, at least one thing; or that this machine cannot
/// run Wasm.
pub fn check(wasm: &[u8]) -> Result<Checked, Vec<LoadError>> {
    let config = EngineConfig {
        memory: NodeConfig::default().module_memory,
        ..EngineConfig::default()
    };
    let engine = Engine::new(&config).map_err(|error| vec![error])?;
    let artifact = engine.check(wasm)?;
    let (save, load) = artifact.hands_over_state();
    Ok(Checked {
        file_bytes: artifact.file_bytes() as u64,
        memory_bytes: artifact.memory_bytes(),
        schema: artifact.schema(),
        save,
        load,
        layout: artifact.has_layout(),
        resident_only: artifact.resident_only().to_vec(),
        wasi: artifact.wasi().map(str::to_owned).collect(),
    })
}

/// What this machine has for a node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Bytes of memory, or what the control group allows.
    pub memory: u64,
    /// How written pages are found: see `NodeInfo`.
    pub page_map: String,
    /// `vm.max_map_count`.
    pub mappings: usize,
    /// Frames that a node has by default.
    pub frames: usize,
}

/// Looks at this machine.
///
/// # Errors
///
/// If it cannot run compiled Wasm.
pub fn look_at_machine() -> Result<Machine, LoadError> {
    let engine = Engine::new(&EngineConfig::default())?;
    let frames = default_frames();
    Ok(Machine {
        memory: machine::memory(),
        page_map: page_map(&engine),
        mappings: mappings_of(frames).1,
        frames,
    })
}
