//! A node: the engine, the scheduler and the supervisors put together, and an app booted from its
//! manifest.
//!
//! [`Node`] runs processes and changes their code; [`App`] is a node with a supervision tree from a
//! manifest. Watching files and builds, HTTP and the command line are in other crates.
#![forbid(unsafe_code)]

mod admission;
mod app;
mod background_upgrader;
mod check;
mod config;
mod core;
mod error;
mod event;
mod from_manifest;
mod grants;
mod host_memory;
mod inspect;
mod logger;
mod node;
mod operator;
mod probe;
mod render;
mod report;
mod sampler;
mod scheduler_glue;
mod snapshot;
mod supervision;
mod swap;
mod text;
mod upgrade_state;

pub use crate::core::observer::LastMessage;
pub use app::{App, BootOptions, StopReport};
pub use check::{Checked, Machine, check, look_at_machine};
pub use config::{AtStage, NodeConfig, SwapStage};
pub use error::{
    BootError, CallFailed, NodeError, RestartFailed, SendFailed, SpawnFailed, SwapError,
    TargetError,
};
pub use event::{Event, Events, ExternalEvent, Level, TimedEvent};
pub use inspect::{
    Filter, Inspection, LimitsInfo, LoadedInfo, MessageInfo, ModuleInfo, NodeInfo, ProcessInfo,
    Suspended, TableInfo,
};
pub use inspect::{ReleaseInfo, ReleaseModuleInfo};
pub use logger::LogRules;
pub use node::{ExcessMemory, LimitChanges, Node, Reply, SpawnOptions};
pub use operator::{Branch, Description, Function, Parameter};
pub use probe::Probe;
pub use render::{REFUSED_TAG, Rendered, TYPED_TAG};
pub use report::{ModuleSwap, Stages, SwapReport};
pub use sampler::{SchedulerLoad, Sort, Top, TopProcess};
pub use supervision::TreeChanges;
pub use swap::{BuildInfo, DeployOptions, Lingering, Loops, ModuleBytes, Outdated, UpgradeReport};
pub use text::{excerpt, listed};
pub use upgrade_state::UpgradeState;

pub use exuvia_abi::{self as abi, Pid};
pub use exuvia_engine::{
    Direction, Guest, GuestProcess, GuestSystem, HostCaller, LoadError, Method as PageMapMethod,
    Traced,
};
pub use exuvia_process::{self as process, Limits};
