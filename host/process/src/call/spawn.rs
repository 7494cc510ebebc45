//! Calls that start processes, and that acknowledge a start.

use std::sync::Arc;

use exuvia_abi::{Code, Kind, Pid, Priority, Reason, limits, receive, spawn};

use super::{CallResult, CallServices, Caller, Runner};
use crate::grants::Grants;
use crate::limits::Limits;
use crate::process::{Body, Process};
use crate::selector::Selector;
use crate::signal::Signal;
use crate::system::{SpawnError, SpawnSpec, System};
use crate::table::Requester;
use crate::transaction;
use crate::{ExitReason, Payload};

/// Time limit of a synchronous start if the spawner gives none, in milliseconds.
const START_TIMEOUT_MS: u32 = 5_000;

/// The options of `spawn`: flags of [`exuvia_abi::spawn`], and limits. A limit of 0 is the
/// parent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpawnOptions<'a> {
    /// Flags.
    pub flags: u32,
    /// Memory, bytes.
    pub memory: u64,
    /// Mailbox, bytes.
    pub mailbox_bytes: u64,
    /// Mailbox, messages.
    pub mailbox_messages: u32,
    /// One message, bytes.
    pub message_bytes: u32,
    /// Living children.
    pub children: u32,
    /// Time limit of a synchronous start, milliseconds; 0: 5,000.
    pub start_timeout: u32,
    /// Tables, bytes.
    pub tables: u64,
    /// The highest priority.
    pub priority: u32,
    /// Open files.
    pub files: u32,
    /// Living descendants.
    pub descendants: u32,
    /// Grants, in MessagePack; empty: the parent's.
    pub grants: &'a [u8],
}

impl SpawnOptions<'_> {
    /// Reads the options as they are laid out in a guest's memory (see
    /// [`spawn::OPTIONS_SIZE`]), but for the grants. Returns them with address and length of the
    /// grants. Returns [`Code::BadArgument`] if a field is invalid.
    pub fn decode(bytes: &[u8]) -> Result<(SpawnOptions<'static>, (u32, u32)), Code> {
        let known = &bytes[..bytes.len().min(spawn::OPTIONS_KNOWN as usize)];
        // A later version of the contract uses a field that is not known here.
        if bytes[known.len()..].iter().any(|byte| *byte != 0) {
            return Err(Code::BadArgument);
        }
        // A field that the guest leaves out has its parent's value.
        let word = |at: usize| {
            let word = known.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_le_bytes)
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        known_flags(word(4))?;
        // The reserved field.
        if word(68) != 0 {
            return Err(Code::BadArgument);
        }
        let options = SpawnOptions {
            flags: word(4),
            memory: long(8),
            mailbox_bytes: long(16),
            mailbox_messages: word(24),
            message_bytes: word(28),
            children: word(32),
            start_timeout: word(36),
            tables: long(40),
            priority: word(48),
            files: word(52),
            descendants: word(64),
            grants: &[],
        };
        Ok((options, (word(56), word(60))))
    }

    /// Returns the size of the options at the beginning of a structure, which says it itself, or
    /// [`Code::BadArgument`].
    pub fn size(first: [u8; 4]) -> Result<u32, Code> {
        let size = u32::from_le_bytes(first);
        let known = (spawn::OPTIONS_SIZE..=spawn::OPTIONS_MOST).contains(&size);
        known.then_some(size).ok_or(Code::BadArgument)
    }
}

fn known_flags(flags: u32) -> Result<(), Code> {
    let known = flags & !(spawn::LINK | spawn::MONITOR | spawn::SYNC) == 0;
    known.then_some(()).ok_or(Code::BadArgument)
}

/// A process that was started, or will be when the transaction commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// Its pid.
    pub pid: Pid,
    /// The reference of the monitor, if one was requested.
    pub monitor: Option<u64>,
    /// Set if the start is synchronous: the reference for [`Caller::started`], and how long to
    /// wait, in milliseconds ([`receive::FOREVER`]: no limit).
    pub waits: Option<(u64, i64)>,
}

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Starts a process of a module of the current release; an empty name is the module of the
    /// process itself. Returns [`Code::NoModule`], [`Code::BadArgument`],
    /// [`Code::MessageTooLarge`], or [`Code::Limit`] if a limit of the process or the node is
    /// reached, or the process lacks a grant.
    pub fn spawn(
        &mut self,
        module: &[u8],
        arguments: &[u8],
        options: &SpawnOptions<'_>,
    ) -> CallResult<Spawned> {
        known_flags(options.flags)?;
        let name = std::str::from_utf8(module).map_err(|_| Code::BadArgument)?;
        let limits = self.child_limits(options)?;
        let arguments = self.payload(arguments)?;
        let mut charge = None;
        if arguments.len() > limits::ARGUMENTS_FREE as usize {
            let bytes = arguments.len() as u64;
            let charged = self.process.charge_arguments(self.system, bytes);
            charge = Some(charged.ok_or(Code::Limit)?);
        }
        let new = match (name, &self.process.body) {
            ("", Body::Guest(guest)) => self.services.new_guest(guest.module()),
            ("", Body::Native(_)) => None,
            (name, _) => self.services.new_guest(name),
        };
        let new = new.ok_or(Code::NoModule)?;
        if new.memory_bytes > limits.memory {
            // The limiter would notice only when it grows. LIMIT alone would not say why.
            tracing::error!(
                module = %self.process.module(),
                pid = %self.process.pid(),
                "`spawn` was refused: the limit of its child is {} bytes of memory, but a process of the module `{}` starts with {}",
                limits.memory,
                new.guest.module(),
                new.memory_bytes,
            );
            return Err(Code::Limit.into());
        }
        let link = options.flags & spawn::LINK != 0;
        let monitors = options.flags & spawn::MONITOR != 0;
        let sync = options.flags & spawn::SYNC != 0;
        if link {
            self.may_link(None)?;
        }
        if monitors || sync {
            self.may_monitor(usize::from(monitors) + usize::from(sync))?;
        }
        if sync {
            self.may_wait()?;
            self.commit();
        }
        let monitor = monitors.then(|| self.process.new_reference());
        let starter = sync.then(|| self.process.new_reference());
        let pid = self.start_child(SpawnSpec {
            body: Body::Guest(new.guest),
            limits,
            arguments,
            charge,
            parent: self.process.pid(),
            link,
            monitor,
            starter,
            counted: None,
            pinned_to: None,
        })?;
        let timeout = match options.start_timeout {
            0 => START_TIMEOUT_MS,
            timeout => timeout,
        };
        Ok(Spawned {
            pid,
            monitor,
            waits: starter.map(|reference| (reference, i64::from(timeout))),
        })
    }

    /// Starts a host supervisor as a linked child, given its specification in MessagePack. It
    /// acknowledges its start when its children have started. Returns [`Code::Denied`] if the node
    /// has none, [`Code::BadArgument`], or [`Code::Limit`].
    pub fn supervisor_start(&mut self, specification: &[u8]) -> CallResult<Spawned> {
        let made = (self.services).supervisor(specification, self.process.limits());
        let native = made.ok_or(Code::Denied)?.map_err(|why| {
            tracing::error!(module = %self.process.module(), pid = %self.process.pid(), "a supervisor's specification was refused: {why}");
            Code::BadArgument
        })?;
        self.may_link(None)?;
        self.may_monitor(1)?;
        self.may_wait()?;
        self.commits();
        let reference = self.process.new_reference();
        let pid = self.start_child(SpawnSpec {
            body: Body::Native(Some(native)),
            limits: self.process.limits().clone(),
            arguments: Payload::empty(),
            charge: None,
            parent: self.process.pid(),
            link: true,
            monitor: None,
            starter: Some(reference),
            counted: None,
            pinned_to: None,
        })?;
        Ok(Spawned {
            pid,
            monitor: None,
            waits: Some((reference, receive::FOREVER)),
        })
    }

    /// Returns whether a synchronous start has been acknowledged, or [`Code::StartFailed`].
    pub fn started(&mut self, reference: u64) -> CallResult<bool> {
        self.drain()?;
        let Some(position) = self.process.position(&Selector::Reference(reference)) else {
            return Ok(false);
        };
        let message = self.process.take(position);
        let started =
            message.is_some_and(|message| message.kind == Kind::Reply && message.tag == 0);
        Ok(started.then_some(true).ok_or(Code::StartFailed)?)
    }

    /// Cancels a synchronous start that is late. It counts as failed: the child must not live on
    /// unnoticed.
    pub fn cancel_start(&mut self, reference: u64, child: Pid) {
        self.cancel_request(reference);
        let from = self.process.pid();
        let _ = self.system.signal(child, Signal::Kill { from });
    }

    /// Acknowledges the start of the process: status 0 is success, a status from 256 on ends it.
    /// Returns [`Code::BadArgument`] for another status, or [`Code::MessageTooLarge`].
    pub fn init_ack(&mut self, status: i32, detail: &[u8]) -> CallResult<()> {
        if status != 0 && status < Reason::GUEST {
            return Err(Code::BadArgument.into());
        }
        let detail = self.payload(detail)?;
        self.count_payload(detail.len());
        self.defer(move |process, system| acknowledge(process, system, status, detail));
        Ok(())
    }

    /// Reserves a pid and starts the child, at once or when the open transaction commits.
    fn start_child(&mut self, mut spec: SpawnSpec<G>) -> Result<Pid, Code> {
        let most = self.process.limits().children;
        let counted = self.process.children().admit(most).ok_or(Code::Limit)?;
        spec.counted = Some(counted);
        let reserved = self.system.reserve_for(Requester::Guest, &spec.limits);
        let reserved = reserved.map_err(|SpawnError::TableFull| Code::Limit)?;
        let references: Vec<u64> = spec.monitor.into_iter().chain(spec.starter).collect();
        let (linked, monitors) = (spec.link, references.len());
        let bytes = spec.arguments.len();
        let start = move |process: &mut Process<G>, system: &System<G>| {
            process.add_child(reserved, linked, &references);
            system.start(reserved, spec);
        };
        if !self.is_deferred() {
            start(self.process, self.system);
            return Ok(reserved);
        }
        self.promise(usize::from(linked), monitors);
        self.count_payload(bytes);
        transaction::defer_or(self.process, self.system, start, move |_, system| {
            system.abandon(reserved);
        });
        Ok(reserved)
    }

    /// Returns the limits of a child: what is requested, and at most what the process itself has.
    fn child_limits(&mut self, options: &SpawnOptions<'_>) -> Result<Arc<Limits>, Code> {
        let sizes = options.memory | options.mailbox_bytes | options.tables;
        let counts = options.mailbox_messages
            | options.message_bytes
            | options.children
            | options.descendants
            | options.files;
        if sizes == 0 && counts == 0 && options.priority == 0 && options.grants.is_empty() {
            return Ok(self.process.limits_of_child());
        }
        let parent = self.process.limits().clone();
        let or_64 = |wanted: u64, parents: u64| if wanted == 0 { parents } else { wanted };
        let or_32 = |wanted: u32, parents: u32| if wanted == 0 { parents } else { wanted };
        let wanted = Limits {
            memory: or_64(options.memory, parent.memory),
            mailbox_bytes: or_64(options.mailbox_bytes, parent.mailbox_bytes),
            mailbox_messages: or_32(options.mailbox_messages, parent.mailbox_messages),
            message_bytes: or_32(options.message_bytes, parent.message_bytes),
            children: or_32(options.children, parent.children),
            descendants: or_32(options.descendants, parent.descendants),
            tables: or_64(options.tables, parent.tables),
            priority: match options.priority {
                0 => parent.priority,
                priority => Priority::new(priority).ok_or(Code::BadArgument)?,
            },
            files: or_32(options.files, parent.files),
            grants: match options.grants {
                [] => parent.grants.clone(),
                text => Arc::new(self.child_grants(text)?),
            },
        }
        .at_most(&parent);
        Ok(if wanted == *parent {
            parent
        } else {
            Arc::new(wanted)
        })
    }

    /// Returns the grants of a child, from MessagePack. Returns [`Code::Limit`] if the process
    /// does not have them itself.
    fn child_grants(&mut self, text: &[u8]) -> Result<Grants, Code> {
        if text.len() > limits::GRANTS as usize {
            return Err(Code::Limit);
        }
        let process = &*self.process;
        let refused = |why: String, code| {
            tracing::error!(module = %process.module(), pid = %process.pid(), "`spawn` was refused: {why}");
            code
        };
        let wanted = self.services.grants(text).ok_or(Code::BadArgument)?;
        let wanted = wanted.map_err(|why| {
            let why = format!("grants of its child: {why}");
            refused(why, Code::BadArgument)
        })?;
        let granted = process.limits().grants.granting(&wanted);
        granted.map_err(|why| refused(why.to_string(), Code::Limit))
    }
}

/// Acknowledges a start. A start that has failed ends the process, whatever it does next.
fn acknowledge<G: 'static>(
    process: &mut Process<G>,
    system: &System<G>,
    status: i32,
    detail: Payload,
) {
    let first = process.acknowledge(system, status.cast_unsigned(), detail.clone());
    if first && status != 0 {
        let exit = Signal::Exit {
            from: process.pid(),
            reason: ExitReason::with(status, detail.as_slice()),
            linked: false,
        };
        process.set_trap_exit(false);
        let _ = system.signal(process.pid(), exit);
    }
}
