//! What is known before a node runs, about a module and about the machine.

use exuvia_engine::{Engine, EngineConfig, LoadError, default_frames, most_mappings};
use serde::Serialize;

use crate::config::NodeConfig;
use crate::host_memory;
use crate::inspect::page_map;

/// A module that a node can load.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// Bytes of memory that each of its processes starts with.
    pub memory_bytes: u64,
    /// The version of its state's schema.
    pub schema: i32,
    /// Whether it exports `save`.
    pub save: bool,
    /// Whether it exports `load`.
    pub load: bool,
    /// Whether it describes the layout of its state.
    pub layout: bool,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// The WASI functions that it imports.
    pub wasi: Vec<String>,
}

/// Loads a module as a node with default settings would, and drops it.
///
/// # Errors
///
/// Everything that is wrong with the module, at least one error; or that this machine cannot run
/// Wasm.
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

/// What this machine offers a node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Bytes of memory, or what the control group allows.
    pub memory: u64,
    /// How written pages are found: see `NodeInfo`.
    pub page_map: String,
    /// `vm.max_map_count`.
    pub mappings: usize,
    /// The number of frames that a node has by default.
    pub frames: usize,
}

/// Inspects this machine.
///
/// # Errors
///
/// If it cannot run compiled Wasm.
pub fn machine_info() -> Result<Machine, LoadError> {
    let engine = Engine::new(&EngineConfig::default())?;
    let frames = default_frames();
    Ok(Machine {
        memory: host_memory::memory(),
        page_map: page_map(&engine),
        mappings: most_mappings(),
        frames,
    })
}
