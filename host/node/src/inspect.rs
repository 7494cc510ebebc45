//! Inspecting a node: what `ps` and `info` show. A process is inspected while it is parked or
//! between two of its turns, never while it runs.

mod info;
mod limits;

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use exuvia_code::Release;
use exuvia_engine::{Artifact, Engine, GuestProcess, GuestSystem, Traced};
use exuvia_process::{Body, Pid, RunState};

use crate::error::TargetError;
use crate::event::kind;
use crate::node::Node;
use crate::upgrade_state::UpgradeState;

pub use info::{
    Filter, Inspection, LoadedInfo, MessageInfo, ModuleInfo, NodeInfo, ProcessInfo, ReleaseInfo,
    ReleaseModuleInfo, Suspended, TableInfo,
};
pub use limits::LimitsInfo;

/// How long an inspection waits until the turn of a running process ends.
const PATIENCE: Duration = Duration::from_millis(200);

/// The maximum number of messages that an inspection shows.
const SHOWN_MESSAGES: usize = 20;

impl Node {
    /// Returns everything that is known of a process, and its state as its `save` returns it;
    /// `save` runs on a copy.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not reach the end of a turn.
    pub fn inspect(&self, pid: Pid) -> Result<(Inspection, Option<Vec<u8>>), TargetError> {
        let release = self.0.code.current();
        let executor = self.0.executor.clone();
        let seen = self.look_at(pid, move |process| {
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
        let saved = copied.map(|copied| self.0.executor.saved(&copied));
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
        let system = &self.0.system;
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

    /// Suspends a process: from the end of its current handler it takes no message until it is
    /// resumed. It can still exit, be upgraded and be inspected (OTP: `sys:suspend`).
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn suspend(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.set_suspended(pid, true)
    }

    /// Resumes a suspended process (OTP: `sys:resume`).
    ///
    /// # Errors
    ///
    /// As [`Node::suspend`].
    pub fn resume(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.set_suspended(pid, false)
    }

    fn set_suspended(&self, pid: Pid, on: bool) -> Result<Suspended, TargetError> {
        let halted = self.look_at(pid, move |process| {
            let still = process.guest()?.stands_still();
            Some(Suspended {
                changed: std::mem::replace(&mut process.suspended, on) != on,
                still,
            })
        })?;
        // Its messages have arrived already: no signal will report them.
        self.0.system.wake(pid);
        halted.ok_or_else(|| TargetError::Native(pid.to_string()))
    }

    /// Whether a process is suspended and in no handler, and if so whether messages wait
    /// for it.
    pub(crate) fn suspended_with_messages(&self, pid: Pid) -> Option<bool> {
        let seen = self.look_at(pid, |process| {
            let still = process.suspended && process.guest()?.stands_still();
            still.then(|| process.messages())
        });
        let taken = seen.ok().flatten()?;
        // Messages may be behind the control.
        let slot = self.0.system.table.slot(pid.slot());
        Some(taken > 0 || slot.is_some_and(|slot| !slot.mailbox.is_empty()))
    }

    /// Traces what a process receives and sends, `limit` messages at most.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub fn trace(&self, pid: Pid, limit: u64) -> Result<Receiver<Traced>, TargetError> {
        let receiver = self.0.executor.trace(pid, limit);
        let marked = self.look_at(pid, |process| {
            let is_guest = process.guest().is_some();
            process.traced = is_guest;
            is_guest
        });
        match marked {
            Ok(true) => Ok(receiver),
            other => {
                self.0.executor.end_trace(pid);
                Err(other
                    .err()
                    .unwrap_or_else(|| TargetError::Native(pid.to_string())))
            }
        }
    }

    /// Calls `look` with a process that is parked or at the beginning of a turn, and returns its
    /// result.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not reach the end of a turn.
    pub(crate) fn look_at<T: Send + 'static>(
        &self,
        pid: Pid,
        look: impl FnOnce(&mut GuestProcess) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let system = &self.0.system;
        let gone = || TargetError::NoProcess(pid.to_string());
        if !system.is_alive(pid) {
            return Err(gone());
        }
        // If the slot belongs to another process by then, `look` is dropped.
        let (sender, receiver) = channel();
        let look = move |process: &mut GuestProcess, _: &GuestSystem| {
            let _ = sender.send(look(process));
        };
        system.control(pid, look).map_err(|_| gone())?;
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => gone(),
                RecvTimeoutError::Timeout => TargetError::Busy(pid.to_string()),
            })
    }

    /// Returns the current state of the node.
    pub fn info(&self) -> NodeInfo {
        let inner = &self.0;
        let release = inner.code.current();
        let frames = inner.executor.frames();
        let metrics = inner.executor.metrics();
        let page_ins = metrics.page_ins.load(Ordering::Relaxed);
        let hits = metrics.hits.get();
        let mut modules: Vec<ModuleInfo> = release
            .versions()
            .map(|version| ModuleInfo {
                name: version.module.to_string(),
                version: version.number,
                digest: version.digest.short(),
                processes: version.process_count(),
                schema: version.artifact.schema(),
                bytes: version.artifact.file_bytes(),
                resident_only: version.artifact.resident_only().to_vec(),
                loaded: inner
                    .code
                    .versions(&version.module)
                    .iter()
                    .map(|version| LoadedInfo {
                        version: version.number,
                        processes: version.process_count(),
                        digest: version.digest.short(),
                    })
                    .collect(),
            })
            .collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        NodeInfo {
            app: inner.config.app.clone(),
            node: format!("{:016x}", inner.system.node()),
            release: release.id,
            processes: inner.system.table.alive(),
            most_processes: inner.system.table.limit(),
            schedulers: self.scheduler().workers(),
            threads_blocked: self.scheduler().blocked_threads(),
            frames: frames.live,
            frames_blocked: frames.blocked,
            frames_free: frames.free,
            frame_bytes: frames.bytes,
            frame_memory: frames.most_bytes,
            frames_made: metrics.frames_made.load(Ordering::Relaxed),
            frame_failures: frames.failures,
            frames_released: frames.released,
            uptime_ms: inner.system.clock.now() / 1_000_000,
            page_ins,
            page_outs: metrics.page_outs.load(Ordering::Relaxed),
            page_in_ns: metrics.page_in_time.mean(),
            page_out_ns: metrics.page_out_time.mean(),
            frame_hits: hits,
            hit_rate: rate(hits, page_ins),
            page_map: page_map(&inner.engine),
            timers: inner.system.timers.len(),
            modules,
        }
    }

    /// Returns the current release and those that can be rolled back to, newest first.
    pub fn releases(&self) -> Vec<ReleaseInfo> {
        let code = &self.0.code;
        let current = ReleaseInfo::of(&code.current(), true);
        let targets = code.rollback_targets().into_iter();
        let targets = targets.map(|release| ReleaseInfo::of(&release, false));
        std::iter::once(current).chain(targets).collect()
    }

    /// Returns the processes, in order of their slots. Running ones are waited for briefly; one
    /// that does not reach the end of a turn is left out.
    pub fn processes(&self, filter: &Filter) -> Vec<ProcessInfo> {
        self.processes_after(filter, None).0
    }

    /// Returns the processes with a slot above `after`, as [`Node::processes`] does, and the slot
    /// to continue after if there may be more of them.
    pub fn processes_after(
        &self,
        filter: &Filter,
        after: Option<u32>,
    ) -> (Vec<ProcessInfo>, Option<u32>) {
        let release = self.0.code.current();
        let module = filter.module.clone();
        let last = Cell::new(after);
        let skipped = after.map_or(0, |after| after as usize + 1);
        let mut slots = self.0.system.table.indices().skip(skipped);
        let seen = slots.by_ref().inspect(|slot| last.set(Some(*slot)));
        let all = filter.module.is_none();
        let mut found = self.survey_slots(seen, filter.limit, all, PATIENCE, move |process| {
            Some(describe(process, &release)).filter(|info| wanted(info, module.as_deref()))
        });
        for info in &mut found {
            self.complete(info);
        }
        found.sort_by_key(|info| slot_of(&info.pid));
        let cut = found.len() > filter.limit;
        found.truncate(filter.limit);
        // Running processes that are seen later may be more than the limit: they are on the next
        // page then.
        let next = match found.last() {
            Some(info) if cut => Some(slot_of(&info.pid)),
            _ => slots.next().and(last.get()),
        };
        (found, next)
    }

    /// Returns the results of `look` for the processes, until there are `limit` of them. `all` says
    /// that `look` returns `Some` for every process, so that running processes, whose results come
    /// later, count towards the limit.
    pub(crate) fn survey<T: Send + 'static>(
        &self,
        limit: usize,
        all: bool,
        look: impl Fn(&mut GuestProcess) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let slots = self.0.system.table.indices();
        self.survey_slots(slots, limit, all, PATIENCE, look)
    }

    /// Does the same for some slots; waits for running processes for `patience` at most.
    pub(crate) fn survey_slots<T: Send + 'static>(
        &self,
        slots: impl Iterator<Item = u32>,
        limit: usize,
        all: bool,
        patience: Duration,
        look: impl Fn(&mut GuestProcess) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let system = &self.0.system;
        let mut found = Vec::new();
        let (sender, receiver) = channel();
        let mut asked = 0;
        let mut slots = slots;
        loop {
            let sure = if all { asked } else { 0 };
            if found.len() + sure >= limit {
                break;
            }
            // After the limit: a caller that continues with the iterator misses no slot.
            let Some(index) = slots.next() else { break };
            let Some(slot) = system.table.slot(index) else {
                continue;
            };
            if slot.state.get() == RunState::Free {
                continue;
            }
            if let Some(seen) = self.0.executor.look(index, &look) {
                found.extend(seen);
            } else if let Some(pid) = system.pid(index) {
                let sender = sender.clone();
                let look = look.clone();
                let look = move |process: &mut GuestProcess, _: &GuestSystem| {
                    // The caller may have timed out.
                    let _ = sender.send(look(process));
                };
                if system.control(pid, look).is_ok() {
                    asked += 1;
                }
            }
        }
        drop(sender);
        let until = Duration::from_nanos(system.clock.now()) + patience;
        while asked > 0 {
            let now = Duration::from_nanos(system.clock.now());
            match receiver.recv_timeout(until.saturating_sub(now)) {
                Ok(seen) => {
                    asked -= 1;
                    found.extend(seen);
                }
                Err(_) => break,
            }
        }
        found
    }

    /// Adds what is not stored in the process itself: its names, and the messages in its slot.
    pub(crate) fn complete(&self, info: &mut ProcessInfo) {
        let system = &self.0.system;
        let slot = slot_of(&info.pid);
        let Some(pid) = system.pid(slot) else { return };
        info.names = system
            .names
            .of(pid)
            .iter()
            .map(ToString::to_string)
            .collect();
        if info.module.is_none() && self.is_supervisor(pid) {
            info.state = SUPERVISOR.into();
        }
        if let Some(slot) = system.table.slot(slot) {
            info.mailbox += slot.mailbox.len() as u64;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
fn rate(hits: u64, misses: u64) -> f64 {
    match hits + misses {
        0 => 1.0,
        all => hits as f64 / all as f64,
    }
}

fn slot_of(pid: &str) -> u32 {
    pid.trim_start_matches('<')
        .split('.')
        .next()
        .and_then(|slot| slot.parse().ok())
        .unwrap_or(u32::MAX)
}

fn wanted(info: &ProcessInfo, module: Option<&str>) -> bool {
    match (module, &info.module) {
        (None, _) => true,
        (Some(wanted), Some(module)) => module
            .rsplit_once('@')
            .is_some_and(|(name, _)| name == wanted),
        (Some(_), None) => false,
    }
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
            kind: kind(message.kind),
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
        priority: String::new(),
        messages,
        schema: None,
        no_state: None,
    }
}

pub(crate) fn page_map(engine: &Engine) -> String {
    let method = format!("{:?}", engine.page_map()).to_lowercase();
    match engine.counts_faults() {
        true => format!("{method} after faults"),
        false => method,
    }
}
