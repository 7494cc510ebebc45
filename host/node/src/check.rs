//! What is known before a node runs, about a module and about the machine.

use std::thread::park_timeout;
use std::time::Duration;

use exuvia_abi::exports;
use exuvia_contract::{Comparison, compare};
use exuvia_engine::{
    Artifact, DeadStack, Engine, EngineConfig, LoadError, default_frames, most_mappings,
};
use exuvia_process::{Limits, WhyNot};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;

use crate::config::NodeConfig;
use crate::event::Event;
use crate::host_memory;
use crate::inspect::page_map;
use crate::node::{Node, SpawnOptions};
use crate::request::{DeployOptions, ModuleBytes};

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
    /// What it saves, and which schemas it takes; `None`: it does not say.
    pub contract: Option<Contract>,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// The WASI functions that it imports.
    pub wasi: Vec<String>,
    /// How its processes begin.
    pub start: Start,
    /// What could be better, and how.
    pub warnings: Vec<String>,
}

/// What a module says of its saved state.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    /// The type of the state.
    #[serde(rename = "type")]
    pub ty: String,
    /// The schemas that `load` takes.
    pub loads: String,
}

/// What a swap from one module to another would do, as far as the two tell.
#[derive(Clone, Debug, Serialize)]
pub struct SwapCheck {
    /// What they say of state and messages.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// The WASI functions that only the new code imports.
    pub new_wasi: Vec<String>,
}

/// How a process begins, and what it costs before it has done anything.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// Bytes of memory that all processes share until they write to them.
    pub base_bytes: u64,
    /// The call by which initialization asks for what differs between processes, so that it runs for each of
    /// them; `None`: once for all.
    pub differs_by: Option<&'static str>,
    /// Bytes of the image of a process that was started with nil, after its start.
    pub idle_bytes: Option<usize>,
    /// Why that is not known: such a process ended, and how, or did not come to rest in time.
    pub idle_failed: Option<String>,
}

/// Loads a module as a node with default settings would, starts a process of it, and drops both.
///
/// # Errors
///
/// Everything that is wrong with the module, at least one error; or that this machine cannot run
/// Wasm.
pub fn check(wasm: &[u8]) -> Result<Checked, Vec<LoadError>> {
    let artifact = engine().map_err(|error| vec![error])?.check(wasm)?;
    let (save, load) = artifact.hands_over_state();
    let (idle_bytes, idle_failed) = match idle_image(wasm, artifact.memory_bytes()) {
        Ok(bytes) => (Some(bytes), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Checked {
        file_bytes: artifact.file_bytes() as u64,
        memory_bytes: artifact.memory_bytes(),
        schema: artifact.schema(),
        save,
        load,
        layout: artifact.has_layout(),
        contract: artifact
            .state_contract()
            .ok()
            .flatten()
            .map(|state| Contract {
                ty: state.ty.to_string(),
                loads: state.taken(),
            }),
        resident_only: artifact.resident_only().to_vec(),
        wasi: artifact.wasi().map(str::to_owned).collect(),
        start: Start {
            base_bytes: artifact.base_bytes(),
            differs_by: artifact.start_differs_by(),
            idle_bytes,
            idle_failed,
        },
        warnings: warnings(&artifact),
    })
}

/// Compares the code that runs with the code that would follow it, without a process of either.
///
/// # Errors
///
/// Everything that is wrong with each of the two, the old one first; or that this machine cannot run
/// Wasm.
pub fn check_swap(old: &[u8], new: &[u8]) -> Result<SwapCheck, [Vec<LoadError>; 2]> {
    let engine = engine().map_err(|error| [vec![error], Vec::new()])?;
    let (old, new) = match (engine.check(old), engine.check(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => return Err([old, new].map(|loaded| loaded.err().unwrap_or_default())),
    };
    let reused = old.reuses_image_in(&new);
    let known: Vec<&str> = old.wasi().collect();
    Ok(SwapCheck {
        comparison: compare(&old.contract(), &new.contract(), reused),
        new_wasi: (new.wasi())
            .filter(|function| !known.contains(function))
            .map(str::to_owned)
            .collect(),
    })
}

/// An engine as a node with default settings has it.
fn engine() -> Result<Engine, LoadError> {
    let node = NodeConfig::default();
    Engine::new(&EngineConfig {
        memory: node.module_memory,
        // So a node need not compile it once more.
        cache: node.cache,
        ..EngineConfig::default()
    })
}

/// What a module lacks that it need not have, and what to do about it.
fn warnings(artifact: &Artifact) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if artifact.has_export("_start") && !artifact.has_export(exports::INITIALIZE) {
        warn(
            "it is a command: `_start` is never called, so constructors and the runtime of its language do not start; build a reactor (C and Zig: `-mexec-model=reactor`, Go: `-buildmode=c-shared`, Rust: `crate-type = [\"cdylib\"]`)",
        );
    }
    if !artifact.has_names() {
        warn(
            "it names no functions: backtraces have numbers, and the stack is not known by its name; keep the section `name` (strip debugging information only: `-Wl,--strip-debug`, `strip = \"debuginfo\"`)",
        );
    }
    if let Err(why) = artifact.state_contract() {
        warnings.push(format!(
            "its section `{}` cannot be read, so nothing is known of its state: {why}",
            exports::STATE_SECTION
        ));
    }
    let mut warn = |text: &str| warnings.push(text.to_owned());
    match artifact.dead_stack() {
        DeadStack::First | DeadStack::Absent => {}
        DeadStack::NotFirst => warn(
            "its stack lies above data, so what is left on it is part of every image: link with `--stack-first`",
        ),
        DeadStack::Unknown => warn(
            "where its stack lies is not known, so what is left on it is part of every image: export the global `__stack_pointer` (`-Wl,--export=__stack_pointer`), or keep its name; a language without such a stack needs neither",
        ),
    }
    warnings
}

/// How long a process may take to start and to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may wait for something in its start: a loop waits for ever.
const BRIEF: Duration = Duration::from_millis(200);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Starts a process with nil in a node of its own, and returns the bytes of its image.
/// `memory` is what the module begins with: a manifest may allow more than what is usual.
fn idle_image(wasm: &[u8], memory: u64) -> Result<usize, String> {
    let usual = NodeConfig::default();
    let config = NodeConfig {
        schedulers: 1,
        frames: 4,
        limits: Limits {
            memory: usual.limits.memory.max(2 * memory),
            ..usual.limits
        },
        ..NodeConfig::default()
    };
    let node = Node::start(config).map_err(|error| error.to_string())?;
    let mut events = node.events();
    let measured = started(&node, &mut events, wasm);
    node.halt();
    measured
}

fn started(node: &Node, events: &mut Receiver<Event>, wasm: &[u8]) -> Result<usize, String> {
    const NAME: &str = "checked";
    const NIL: &[u8] = &[0xc0];
    let module = ModuleBytes {
        name: NAME.into(),
        bytes: wasm.to_vec(),
        source: NAME.into(),
        noticed: None,
    };
    (node.deploy(vec![module], DeployOptions::default())).map_err(|error| error.to_string())?;
    let pid = node.spawn(NAME, NIL, &SpawnOptions::default());
    let pid = pid.map_err(|error| error.to_string())?;
    let mut waited = Duration::ZERO;
    loop {
        match node.capture(pid) {
            Ok(snapshot) if snapshot.guest.has_run => {
                return Ok(snapshot.guest.state.map_or(0, |state| state.len()));
            }
            Ok(_) => {}
            Err(WhyNot::NoProcess) => return Err(ended(events)),
            // It may be on its way.
            Err(WhyNot::Running | WhyNot::Signals) => {}
            Err(WhyNot::Waiting | WhyNot::Suspended(_)) if waited < BRIEF => {}
            Err(why) => return Err(why.to_string()),
        }
        if waited >= PATIENCE {
            return Err("it does not start in time".into());
        }
        park_timeout(LOOK);
        waited += LOOK;
    }
}

/// How the only process of a node has ended.
fn ended(events: &mut Receiver<Event>) -> String {
    while let Ok(event) = events.try_recv() {
        if let Event::Exit { reason, .. } = event {
            return format!("it ends: {reason}");
        }
    }
    "it ends".into()
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
