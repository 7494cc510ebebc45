//! What an inspection shows: data, with a name for each figure.

use std::collections::HashMap;

use exuvia_code::{Digest, Release};
use exuvia_engine::Artifact;
use exuvia_process::resource::Holding;
use exuvia_store::{Origin, Outcome, ReleaseRecord};

use super::LimitsInfo;
use crate::upgrade_state::UpgradeState;

/// Selects processes.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only processes of this module.
    pub module: Option<String>,
    /// The maximum number of processes.
    pub limit: usize,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            module: None,
            limit: usize::MAX,
        }
    }
}

/// One process.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// `<slot.generation>`.
    pub pid: String,
    /// Registered names.
    pub names: Vec<String>,
    /// `module@version`; `None` for a native process.
    pub module: Option<String>,
    /// What it does: resident, paged out, receive, call, preempted, ...; or that it is
    /// suspended. Of the host's own processes: supervisor, native.
    pub state: String,
    /// Messages in its mailbox.
    pub mailbox: u64,
    /// Reductions since it was spawned.
    pub reductions: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes of its image, if it is paged out.
    pub image: u64,
    /// Its state in the upgrade to the current release; `None` for a native process.
    pub upgrade: Option<UpgradeState>,
    /// Why its upgrade failed, or why it was reverted.
    pub upgrade_reason: Option<String>,
    /// The number of its upgrades so far.
    pub upgrades: u32,
}

/// One loaded version.
#[derive(Clone, Debug)]
pub struct LoadedInfo {
    /// The version number.
    pub version: u32,
    /// The number of processes that run it.
    pub processes: usize,
    /// The first digits of its digest.
    pub digest: String,
}

/// One module of the current release.
#[derive(Clone, Debug)]
pub struct ModuleInfo {
    /// Its name.
    pub name: String,
    /// The current version.
    pub version: u32,
    /// The first digits of its digest.
    pub digest: String,
    /// The number of processes that run the current version.
    pub processes: usize,
    /// The version of its state's schema.
    pub schema: i32,
    /// The size of the file in bytes.
    pub bytes: usize,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// All its loaded versions.
    pub loaded: Vec<LoadedInfo>,
}

/// A release: the current one, or one that can be rolled back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseInfo {
    /// Its number.
    pub release: u64,
    /// Whether it is the current one.
    pub is_current: bool,
    /// The release that chose these versions: this one, or the one that was rolled back to.
    pub origin: u64,
    /// The versions, by name of the module.
    pub modules: Vec<ReleaseModuleInfo>,
    /// What the release store has of it; `None`: there is no store, or it could not be written so far.
    pub logged: Option<LoggedInfo>,
}

/// The version of a module in a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseModuleInfo {
    /// The module.
    pub name: String,
    /// Its version number; `None`: it is not loaded.
    pub version: Option<u32>,
    /// The first digits of its digest.
    pub digest: String,
    /// Bytes of its file, if the release store has it.
    pub bytes: Option<u64>,
}

/// What the release store has of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedInfo {
    /// When it was committed, in milliseconds since 1970.
    pub at: u64,
    /// What it came from.
    pub origin: Origin,
    /// Who deployed it; empty: the node.
    pub author: String,
    /// What its author says of it.
    pub message: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it is kept however many releases follow.
    pub is_pinned: bool,
}

impl ReleaseInfo {
    pub(super) fn of(release: &Release<Artifact>, is_current: bool) -> ReleaseInfo {
        let mut modules: Vec<ReleaseModuleInfo> = release
            .versions()
            .map(|version| ReleaseModuleInfo {
                name: version.module.to_string(),
                version: Some(version.number),
                digest: version.digest.short(),
                bytes: None,
            })
            .collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        ReleaseInfo {
            release: release.id,
            is_current,
            origin: release.origin,
            modules,
            logged: None,
        }
    }

    /// A release of the store. `version` returns the number of a loaded version.
    pub(super) fn stored(
        record: ReleaseRecord,
        is_pinned: bool,
        is_current: bool,
        sizes: &HashMap<Digest, u64>,
        version: impl Fn(&str, Digest) -> Option<u32>,
    ) -> ReleaseInfo {
        let modules = record.modules.into_iter();
        let modules = modules.map(|(name, digest)| ReleaseModuleInfo {
            version: version(&name, digest),
            name,
            digest: digest.short(),
            bytes: sizes.get(&digest).copied(),
        });
        ReleaseInfo {
            release: record.number,
            is_current,
            origin: match record.origin {
                Origin::Rollback(to) | Origin::Failure(to) => to,
                Origin::Files | Origin::Deploy => record.number,
            },
            modules: modules.collect(),
            logged: Some(LoggedInfo {
                at: record.at,
                origin: record.origin,
                author: record.author,
                message: record.message,
                outcome: record.outcome,
                is_pinned,
            }),
        }
    }
}

/// The state of the whole node.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The name of the app.
    pub app: String,
    /// The number of the node, in hexadecimal.
    pub node: String,
    /// The current release.
    pub release: u64,
    /// The number of processes alive.
    pub processes: usize,
    /// The maximum number of processes.
    pub most_processes: usize,
    /// The number of scheduler threads.
    pub schedulers: usize,
    /// Threads that are blocked in place with a guest on their stack, while spare threads act as
    /// schedulers.
    pub threads_blocked: usize,
    /// The number of frames that exist.
    pub frames: usize,
    /// Frames that blocked processes hold.
    pub frames_blocked: usize,
    /// Frames that are free.
    pub frames_free: usize,
    /// Bytes of memory that frames hold, as last measured.
    pub frame_bytes: u64,
    /// The limit on bytes of memory that frames hold.
    pub frame_memory: u64,
    /// Frames made so far.
    pub frames_made: u64,
    /// Frames that could not be made because the system was out of memory or mappings.
    pub frame_failures: u64,
    /// How often the memory of a frame was released because frames held too much.
    pub frames_released: u64,
    /// Milliseconds since the node started.
    pub uptime_ms: u64,
    /// The number of page-ins: images that were restored into frames.
    pub page_ins: u64,
    /// The number of page-outs: images that were saved from frames.
    pub page_outs: u64,
    /// The mean nanoseconds of a page-in, including the page-out that frees a frame for it.
    pub page_in_ns: u64,
    /// The mean nanoseconds of a page-out.
    pub page_out_ns: u64,
    /// Entries into guests that found the process in a frame.
    pub frame_hits: u64,
    /// The share of the frame hits in all entries, hits and page-ins, 0 to 1; 1 if there was none.
    pub hit_rate: f64,
    /// How written pages are found: `scan`, `bits` or `compare`; with ` after faults` if the kernel
    /// is asked only when a thread has had a page fault.
    pub page_map: String,
    /// Pending timers.
    pub timers: usize,
    /// The modules of the current release.
    pub modules: Vec<ModuleInfo>,
}

/// Everything that is known of one process.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What `ps` shows.
    pub process: ProcessInfo,
    /// The process that started it.
    pub parent: Option<String>,
    /// The processes that it is linked to.
    pub links: Vec<String>,
    /// The processes for whose exit or reply it waits.
    pub monitors: Vec<String>,
    /// The number of processes that wait for its exit or reply.
    pub watchers: usize,
    /// Whether exits of linked processes reach it as messages.
    pub trap_exit: bool,
    /// Its limits.
    pub limits: LimitsInfo,
    /// The groups that it has joined.
    pub groups: Vec<String>,
    /// The tables that it owns.
    pub tables: Vec<TableInfo>,
    /// What it holds of the system, by kind: open files.
    pub holdings: Vec<Holding>,
    /// Its scheduling priority: `low`, `normal`, `high`.
    pub priority: String,
    /// The first messages in its mailbox, at most 20.
    pub messages: Vec<MessageInfo>,
    /// The version of its state's schema.
    pub schema: Option<i32>,
    /// Why its state cannot be shown, if so.
    pub no_state: Option<String>,
}

/// A message in a mailbox.
#[derive(Clone, Debug)]
pub struct MessageInfo {
    /// `message`, `request`, `exit` and so on.
    pub kind: String,
    /// The sender.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// The size of its payload in bytes.
    pub bytes: usize,
}

/// A table of a process.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// Its number.
    pub table: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The number of rows.
    pub rows: usize,
    /// The bytes that its rows are charged.
    pub bytes: u64,
}
