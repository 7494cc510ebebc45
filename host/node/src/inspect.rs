//! Inspecting a node: what `ps`, `info` and `tree` show. A process is inspected while it is parked or
//! between two of its turns, never while it runs.

mod info;
mod limits;
mod list;
mod node_info;
mod protocol;
mod tree;

use exuvia_code::Release;
use exuvia_engine::{Artifact, GuestProcess};
use exuvia_process::{Body, Pid};

use crate::core::Core;
use crate::error::TargetError;
use crate::supervision::Supervision;
use crate::upgrade_state::UpgradeState;

pub use info::{
    Filter, Inspection, LoadedInfo, LoggedInfo, MessageInfo, ModuleInfo, NodeInfo, ProcessInfo,
    ReleaseInfo, ReleaseModuleInfo, TableInfo,
};
pub use limits::{DirInfo, LimitsInfo, WasiInfo};
pub(crate) use node_info::page_map;
pub use protocol::Description;
pub use tree::Branch;

/// The maximum number of messages that an inspection shows.
const SHOWN_MESSAGES: usize = 20;

/// Answers questions about a node. It changes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspector<'a> {
    pub(crate) core: &'a Core,
    supervision: &'a Supervision,
}

impl<'a> Inspector<'a> {
    pub(crate) fn new(supervision: &'a Supervision) -> Inspector<'a> {
        let core = &supervision.core;
        Inspector { core, supervision }
    }

    /// Returns everything that is known of a process, and its state as its `save` returns it;
    /// `save` runs on a copy.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not reach the end of a turn.
    pub(crate) fn inspect(&self, pid: Pid) -> Result<(Inspection, Option<Vec<u8>>), TargetError> {
        let release = self.core.code.current();
        let executor = self.core.executor.clone();
        let seen = self.core.examine(pid, move |process| {
            let mut inspection = inspection(describe(process, &release), process);
            let copied = match process.guest() {
                Some(guest) => executor.copy(guest),
                None => {
                    inspection.no_state = Some("it is a process of the host".into());
                    None
                }
            };
            (inspection, copied)
        })?;
        let (mut inspection, copied) = seen;
        self.complete(&mut inspection.process);
        self.complete_inspection(pid, &mut inspection);
        let saved = copied.map(|copied| self.core.executor.saved(&copied));
        let state = match saved {
            Some(Ok(saved)) => {
                inspection.schema = Some(saved.schema);
                Some(saved.bytes)
            }
            Some(Err(reason)) => {
                inspection.no_state = Some(reason);
                None
            }
            None => {
                inspection.no_state.get_or_insert_with(|| {
                    "it is running or in the middle of a handler, or its module is resident-only".into()
                });
                None
            }
        };
        Ok((inspection, state))
    }

    fn complete_inspection(&self, pid: Pid, inspection: &mut Inspection) {
        let system = &self.core.system;
        let groups = system.groups.of(pid);
        inspection.groups = groups.iter().map(ToString::to_string).collect();
        let tables = system.tables.of(pid);
        inspection.tables = tables
            .iter()
            .map(|table| {
                let (rows, bytes) = table.size();
                TableInfo {
                    table: table.id(),
                    name: table.name().map(str::to_owned),
                    rows,
                    bytes,
                }
            })
            .collect();
        if let Some(slot) = system.table.slot(pid.slot()) {
            inspection.priority = format!("{:?}", slot.priority()).to_lowercase();
        }
    }

    /// Adds what is not stored in the process itself: its names, and the messages in its slot.
    pub(crate) fn complete(&self, info: &mut ProcessInfo) {
        let system = &self.core.system;
        let slot = slot_of(&info.pid);
        let Some(pid) = system.pid(slot) else { return };
        info.names = self.core.names_of(pid);
        if info.module.is_none() && self.supervision.is_supervisor(pid) {
            info.state = SUPERVISOR.into();
        }
        if let Some(slot) = system.table.slot(slot) {
            info.mailbox += slot.mailbox.len() as u64;
        }
    }
}

fn slot_of(pid: &str) -> u32 {
    pid.trim_start_matches('<')
        .split('.')
        .next()
        .and_then(|slot| slot.parse().ok())
        .unwrap_or(u32::MAX)
}

/// The state of a process whose continuation must end before it can be upgraded: the release is not
/// complete until then.
const HOLDS_UP: &str = "waiting, holds up the release";

/// The state of a supervisor of the host.
pub(crate) const SUPERVISOR: &str = "supervisor";

pub(crate) fn describe(process: &mut GuestProcess, release: &Release<Artifact>) -> ProcessInfo {
    let pid: Pid = process.pid();
    let mailbox = process.messages() as u64;
    let reductions = process.reductions;
    let mut info = ProcessInfo {
        pid: pid.to_string(),
        names: Vec::new(),
        module: None,
        state: "native".into(),
        mailbox,
        reductions,
        memory: 0,
        image: 0,
        upgrade: None,
        upgrade_reason: None,
        upgrades: 0,
    };
    if let Body::Native(Some(native)) = &process.body {
        info.state = native.kind().into();
    }
    if let Body::Guest(guest) = &process.body {
        info.module = Some(guest.version.version().to_string());
        let (upgrade, reason) = UpgradeState::of(guest, release);
        info.upgrade = Some(upgrade);
        info.upgrade_reason = reason.map(str::to_owned);
        info.state = match process.suspended {
            true if guest.stands_still() => "suspended".into(),
            // It finishes its handler first.
            true => "suspending".into(),
            false if guest.is_waiting() && upgrade != UpgradeState::Current => HOLDS_UP.into(),
            false => guest.describe().into(),
        };
        info.memory = guest.memory_bytes();
        info.image = guest.image_bytes() as u64;
        info.upgrades = guest.upgrades();
    }
    info
}

fn inspection(info: ProcessInfo, process: &mut GuestProcess) -> Inspection {
    let ties = process.relations_info();
    let shown = |pids: &[Pid]| pids.iter().map(ToString::to_string).collect();
    let limits = process.limits();
    let messages = (0..process.inbox_len().min(SHOWN_MESSAGES))
        .filter_map(|position| process.peek(position))
        .map(|message| MessageInfo {
            kind: message.kind.name().to_owned(),
            from: message.sender.to_string(),
            tag: message.tag,
            bytes: message.payload.len(),
        })
        .collect();
    Inspection {
        process: info,
        parent: ties.parent.map(|parent| parent.to_string()),
        links: shown(&ties.links),
        monitors: shown(&ties.monitors),
        watchers: ties.watchers,
        trap_exit: ties.trap_exit,
        limits: (&**limits).into(),
        groups: Vec::new(),
        tables: Vec::new(),
        holdings: match &process.body {
            Body::Guest(guest) => guest.holdings().collect(),
            Body::Native(_) => Vec::new(),
        },
        priority: String::new(),
        messages,
        schema: None,
        no_state: None,
    }
}
