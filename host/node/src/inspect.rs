//! Looking at a node: what `ps` and `info` show. A process is looked at while
//! it rests or between two of its turns, never while it runs.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use exuvia_code::Release;
use exuvia_engine::{Artifact, Engine, Guest, GuestOwn, GuestSystem, Traced};
use exuvia_process::{Body, Pid, RunState, Signal};
use serde::Serialize;

use crate::error::TargetError;
use crate::event::kind;
use crate::left;
use crate::manifest;
use crate::node::Node;

/// How long a running process is waited for until its turn ends.
const PATIENCE: Duration = Duration::from_millis(200);

/// Which processes are wanted.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only those of this module.
    pub module: Option<String>,
    /// At most so many.
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
#[derive(Clone, Debug, Serialize)]
pub struct ProcessInfo {
    /// `<slot.generation>`.
    pub pid: String,
    /// Registered names.
    pub names: Vec<String>,
    /// `module@version`; `None` for a native process.
    pub module: Option<String>,
    /// What it does: resident, paged out, receive, call, preempted, native, ...; or
    /// that it is stuck, reverted or suspended.
    pub state: String,
    /// Messages in its mailbox.
    pub mailbox: u64,
    /// Reductions since its birth.
    pub reductions: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// Bytes of its image, if it is paged out.
    pub image: u64,
    /// Crossings to other code.
    pub crossings: u32,
    /// Why it could not cross, if it could not.
    pub stuck: Option<String>,
    /// How new code has failed it, if it went back to its old version for that.
    pub reverted: Option<String>,
    /// It stays on an old version until it ends: it was left there, or never
    /// returns to cross.
    pub left: bool,
}

/// One loaded version.
#[derive(Clone, Debug, Serialize)]
pub struct LoadedInfo {
    /// Its number.
    pub version: u32,
    /// Processes in it.
    pub processes: usize,
    /// First digits of its digest.
    pub digest: String,
}

/// One module of the current release.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleInfo {
    /// Its name.
    pub name: String,
    /// The current version.
    pub version: u32,
    /// First digits of its digest.
    pub digest: String,
    /// Processes in the current version.
    pub processes: usize,
    /// The schema of its state.
    pub schema: i32,
    /// Bytes of the file.
    pub bytes: usize,
    /// Why its processes cannot be paged out; empty if they can.
    pub resident_only: Vec<String>,
    /// All its versions that are loaded.
    pub loaded: Vec<LoadedInfo>,
}

/// The whole node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeInfo {
    /// The app's name.
    pub app: String,
    /// The node's number, in hexadecimal.
    pub node: String,
    /// The current release.
    pub release: u64,
    /// Processes alive.
    pub processes: usize,
    /// Most processes.
    pub most_processes: usize,
    /// Scheduler threads.
    pub schedulers: usize,
    /// Threads that wait with a guest on their stack, while others go on as schedulers.
    pub threads_aside: usize,
    /// Frames alive.
    pub frames: usize,
    /// Frames that blocked processes hold.
    pub frames_blocked: usize,
    /// Frames that wait for a process.
    pub frames_free: usize,
    /// Bytes of memory that frames hold, as last seen.
    pub frame_bytes: u64,
    /// Bytes that they may hold.
    pub frame_memory: u64,
    /// Frames made so far.
    pub frames_made: u64,
    /// Frames that could not be made because the system had no room.
    pub frame_failures: u64,
    /// Times that a frame's memory was given back because it was too much.
    pub frames_released: u64,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Images put into frames.
    pub page_ins: u64,
    /// Images taken out of frames.
    pub page_outs: u64,
    /// Mean nanoseconds of a page-in, the page-out that makes room included.
    pub page_in_ns: u64,
    /// Mean nanoseconds of a page-out.
    pub page_out_ns: u64,
    /// Entries into guests that found the process in a frame.
    pub frame_hits: u64,
    /// Their share of these and the page-ins, 0 to 1; 1 if there was none.
    pub hit_rate: f64,
    /// How written pages are found: `scan`, `bits` or `compare`; with
    /// ` after faults` if the kernel is asked only when a thread has had a fault.
    pub page_map: String,
    /// Timers that are set.
    pub timers: usize,
    /// The current release's modules.
    pub modules: Vec<ModuleInfo>,
}

/// All that is known of one process.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What `ps` shows.
    #[serde(flatten)]
    pub process: ProcessInfo,
    /// Who has started it.
    pub parent: Option<String>,
    /// Those it is linked to.
    pub links: Vec<String>,
    /// Those whose end, or whose reply, it waits for.
    pub monitors: Vec<String>,
    /// How many wait for its end, or its reply.
    pub watchers: usize,
    /// Exits of those it is linked to reach it as messages.
    pub trap_exit: bool,
    /// What it may use.
    pub limits: manifest::Limits,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The tables that belong to it.
    pub tables: Vec<TableInfo>,
    /// How soon it gets its turn: `low`, `normal`, `high`.
    pub priority: String,
    /// The first messages of those that wait, at most 20.
    pub messages: Vec<MessageInfo>,
    /// The number of its state's schema.
    pub schema: Option<i32>,
    /// Why its state cannot be shown, if it cannot.
    pub no_state: Option<String>,
}

/// What has come of suspending a process, or resuming it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Suspended {
    /// That is news.
    pub changed: bool,
    /// It is in no handler, and stands still if it is suspended; else it ends the handler
    /// first.
    pub still: bool,
}

/// A message that waits in a mailbox.
#[derive(Clone, Debug, Serialize)]
pub struct MessageInfo {
    /// `message`, `request`, `exit` and so on.
    pub kind: String,
    /// Who has sent it.
    pub from: String,
    /// Its tag.
    pub tag: u32,
    /// Bytes of its payload.
    pub bytes: usize,
}

/// A table of a process.
#[derive(Clone, Debug, Serialize)]
pub struct TableInfo {
    /// Its number.
    pub table: u64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Rows.
    pub rows: usize,
    /// The bytes that they count.
    pub bytes: u64,
}

/// How many waiting messages an inspection shows.
const SHOWN_MESSAGES: usize = 20;

impl Node {
    /// All that is known of a process, and its state as its `save` hands it over;
    /// `save` runs on a copy.
    ///
    /// # Errors
    ///
    /// If there is no such process, or it does not come to the end of a turn.
    pub fn inspect(&self, pid: Pid) -> Result<(Inspection, Option<Vec<u8>>), TargetError> {
        let release = self.0.code.current();
        let seen = self.look_at(pid, move |own| {
            let mut inspection = inspection(describe(own, &release), own);
            let copied = match own.guest() {
                Some(guest) => guest.copy(),
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
                    "it is in the middle of something, or its module is resident-only".into()
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

    /// Has a process take no message from its next rest on, until it is resumed. It still ends, crosses to new code and is inspected (OTP:
    /// `sys:suspend`).
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not come
    /// to the end of a turn.
    pub fn suspend(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.halted(pid, true)
    }

    /// Has a process that was suspended go on (OTP: `sys:resume`).
    ///
    /// # Errors
    ///
    /// As [`Node::suspend`].
    pub fn resume(&self, pid: Pid) -> Result<Suspended, TargetError> {
        self.halted(pid, false)
    }

    fn halted(&self, pid: Pid, on: bool) -> Result<Suspended, TargetError> {
        let halted = self.look_at(pid, move |own| {
            let still = own.guest()?.stands_still();
            Some(Suspended {
                changed: std::mem::replace(&mut own.suspended, on) != on,
                still,
            })
        })?;
        // Its messages wait already: no signal will tell it of them.
        self.0.system.wake(pid);
        halted.ok_or_else(|| TargetError::Native(pid.to_string()))
    }

    /// Traces what a process receives and sends, `limit` messages at most.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not come
    /// to the end of a turn.
    pub fn trace(&self, pid: Pid, limit: u64) -> Result<Receiver<Traced>, TargetError> {
        let receiver = self.0.executor.trace(pid, limit);
        let marked = self.look_at(pid, |own| {
            let is_guest = own.guest().is_some();
            own.traced = is_guest;
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

    /// Looks at one process, at rest or between two of its turns.
    pub(crate) fn look_at<T: Send + 'static>(
        &self,
        pid: Pid,
        look: impl FnOnce(&mut GuestOwn) -> T + Send + 'static,
    ) -> Result<T, TargetError> {
        let system = &self.0.system;
        let gone = || TargetError::NoProcess(pid.to_string());
        if !system.is_alive(pid) {
            return Err(gone());
        }
        // It may be another process's slot by the time that somebody looks.
        let (sender, receiver) = channel();
        let look = Box::new(move |own: &mut GuestOwn, _: &GuestSystem| {
            let _ = sender.send(look(own));
        });
        system
            .signal(pid, Signal::Control(look))
            .map_err(|_| gone())?;
        receiver
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => gone(),
                RecvTimeoutError::Timeout => TargetError::Busy(pid.to_string()),
            })
    }

    /// The node as it is now.
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
                processes: version.population(),
                schema: version.artifact.schema(),
                bytes: version.artifact.file_bytes(),
                resident_only: version.artifact.resident_only().to_vec(),
                loaded: inner
                    .code
                    .versions(&version.module)
                    .iter()
                    .map(|version| LoadedInfo {
                        version: version.number,
                        processes: version.population(),
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
            threads_aside: self.scheduler().aside(),
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

    /// The processes, in order of their slots. Those that run are waited for,
    /// a moment at most; one that does not come to a turn's end is left out.
    pub fn processes(&self, filter: &Filter) -> Vec<ProcessInfo> {
        let release = self.0.code.current();
        let module = filter.module.clone();
        let mut found = self.survey(filter.limit, filter.module.is_none(), move |own| {
            Some(describe(own, &release)).filter(|info| wanted(info, module.as_deref()))
        });
        for info in &mut found {
            self.complete(info);
        }
        found.sort_by_key(|info| slot_of(&info.pid));
        found.truncate(filter.limit);
        found
    }

    /// What `look` makes of the processes, until it has made something of
    /// `limit` of them. `all`: it makes something of every one, so that those
    /// that run and answer later count too.
    pub(crate) fn survey<T: Send + 'static>(
        &self,
        limit: usize,
        all: bool,
        look: impl Fn(&mut GuestOwn) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let slots = self.0.system.table.indices();
        self.survey_slots(slots, limit, all, PATIENCE, look)
    }

    /// The same of some slots; those that run are waited for a time at most.
    pub(crate) fn survey_slots<T: Send + 'static>(
        &self,
        slots: impl Iterator<Item = u32>,
        limit: usize,
        all: bool,
        patience: Duration,
        look: impl Fn(&mut GuestOwn) -> Option<T> + Clone + Send + 'static,
    ) -> Vec<T> {
        let system = &self.0.system;
        let mut found = Vec::new();
        let (sender, receiver) = channel();
        let mut asked = 0;
        for index in slots {
            let sure = if all { asked } else { 0 };
            if found.len() + sure >= limit {
                break;
            }
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
                let look = Signal::Control(Box::new(move |own: &mut GuestOwn, _: &_| {
                    // Whoever asked may have lost patience.
                    let _ = sender.send(look(own));
                }));
                if system.signal(pid, look).is_ok() {
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

    /// Adds what is not the process's own to say.
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

/// The state of a process whose continuation has to end before it can cross: the
/// release is not complete until then.
const HOLDS_UP: &str = "waiting, holds up the release";

/// Whether a release has another version of the process's module.
fn is_behind(guest: &Guest, release: &Release<Artifact>) -> bool {
    let version = release.version(&guest.tenancy.module);
    version.is_some_and(|version| !guest.tenancy.is(version))
}

pub(crate) fn describe(own: &mut GuestOwn, release: &Release<Artifact>) -> ProcessInfo {
    let pid: Pid = own.pid();
    let mailbox = own.messages() as u64;
    let reductions = own.reductions;
    let mut info = ProcessInfo {
        pid: pid.to_string(),
        names: Vec::new(),
        module: None,
        state: "native".into(),
        mailbox,
        reductions,
        memory: 0,
        image: 0,
        crossings: 0,
        stuck: None,
        reverted: None,
        left: false,
    };
    if let Body::Guest(guest) = &own.body {
        info.module = Some(guest.tenancy.version().to_string());
        let current = release.version(&guest.tenancy.module);
        let other = current.filter(|version| !guest.tenancy.is(version));
        info.reverted = other
            .and_then(|current| guest.reverted(current))
            .map(str::to_owned);
        info.state = match own.suspended {
            true if guest.stands_still() => "suspended".into(),
            // It ends what it has begun first.
            true => "suspending".into(),
            false if info.reverted.is_some() => "reverted".into(),
            false if guest.is_waiting() && is_behind(guest, release) => HOLDS_UP.into(),
            false => guest.describe().into(),
        };
        info.memory = guest.memory_bytes();
        info.image = guest.image_bytes() as u64;
        info.crossings = guest.crossings();
        info.stuck = guest.stuck().map(str::to_owned);
        info.left = left::stays(guest, release);
    }
    info
}

fn inspection(process: ProcessInfo, own: &mut GuestOwn) -> Inspection {
    let ties = own.ties();
    let shown = |pids: &[Pid]| pids.iter().map(ToString::to_string).collect();
    let limits = own.limits();
    let messages = (0..own.inbox_len().min(SHOWN_MESSAGES))
        .filter_map(|position| own.peek(position))
        .map(|message| MessageInfo {
            kind: kind(message.kind),
            from: message.sender.to_string(),
            tag: message.tag,
            bytes: message.payload.len(),
        })
        .collect();
    Inspection {
        process,
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
