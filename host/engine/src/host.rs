//! What a host call may see of the node: the process table, the code, the observer, the services,
//! and the quota of processes that block. It is below everything that has or runs a frame.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use exuvia_code::CodeServer;
use exuvia_process::call::Sent;
use exuvia_process::resource::Quota;
use exuvia_process::{Envelope, Pid};
use rustix::process::getrlimit;

use crate::guest::{Guest, GuestProcess, GuestSystem};
use crate::module::info::Artifact;
use crate::module::stack_policy::Stack;
use crate::observer::{Observer, Services};
use crate::suspend::thread::{Threads, TurnResult};
use crate::trace::{Direction, Traced, Tracers};

/// What host calls see of the node.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) code: Arc<CodeServer<Artifact>>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) services: OnceLock<Arc<dyn Services>>,
    /// The scheduler's threads, if guests may run on their stacks.
    pub(crate) threads: OnceLock<Arc<dyn Threads>>,
    /// Finishes the turn of a guest that blocks a thread in place.
    pub(crate) turns: OnceLock<Weak<dyn FinishTurn>>,
    pub(crate) tracers: Tracers,
    pub(crate) blocking: BlockQuota,
    /// The number of processes in functions of the host that may wait for the system.
    pub(crate) in_host: Arc<AtomicUsize>,
    /// The file descriptors that processes hold.
    pub(crate) descriptors: Arc<Quota>,
}

impl std::fmt::Debug for dyn Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

/// Finishes turns; the layer above that runs them implements it.
pub(crate) trait FinishTurn: Send + Sync + std::fmt::Debug {
    /// Finishes the turn of a guest that waits on the stack of the thread that ran it. Runs on the
    /// thread that continues as the scheduler.
    fn continue_after_block(self: Arc<Self>, process: Box<GuestProcess>) -> TurnResult;
}

impl Host {
    pub(crate) fn new(
        system: Arc<GuestSystem>,
        code: Arc<CodeServer<Artifact>>,
        observer: Arc<dyn Observer>,
        blocking: BlockQuota,
    ) -> Host {
        Host {
            system,
            code,
            observer,
            services: OnceLock::new(),
            threads: OnceLock::new(),
            turns: OnceLock::new(),
            tracers: Tracers::default(),
            blocking,
            in_host: Arc::default(),
            descriptors: descriptors(),
        }
    }

    /// Returns the engine's part of a new process of a module in the current release, or
    /// `None` if the release has no such module.
    pub(crate) fn new_process(&self, module: &str) -> Option<Guest> {
        let (release, version_ref) = self.code.enter(module)?;
        Some(Guest::new(version_ref, release))
    }

    /// Returns whether the process must be upgraded when it is next at rest.
    #[inline]
    pub(crate) fn upgrade_due(&self, process: &mut GuestProcess) -> bool {
        let id = self.code.current_id();
        process
            .guest()
            .is_some_and(|guest| guest.release != id && self.has_other_version(guest))
    }

    #[cold]
    fn has_other_version(&self, guest: &mut Guest) -> bool {
        let release = self.code.current();
        let other = release
            .version(&guest.version.module)
            .filter(|version| !guest.version.is(version));
        match other {
            // The release contains the process's version again.
            None => guest.clear_upgrade_notes(),
            Some(current) if guest.is_pinned_to_version(current) => {
                guest.pin_to_version(release.id);
                release.progress.exempt.fetch_add(1, Ordering::Relaxed);
                guest.version.exempt(release.id);
            }
            Some(_) => return true,
        }
        guest.release = release.id;
        false
    }

    /// Returns the stack on which the guests of a version should run now.
    #[inline]
    pub(crate) fn stack_of(&self, artifact: &Artifact) -> Stack {
        let stack = artifact.stack_policy.stack();
        if stack == Stack::Thread && self.threads.get().is_none_or(|t| !t.may_block_in_place()) {
            return Stack::Fiber;
        }
        stack
    }
}

impl Host {
    /// Traces a message that a guest has taken from its mailbox.
    #[inline]
    pub(crate) fn trace_received(&self, process: &mut GuestProcess, message: &Envelope) {
        if process.traced {
            let taken = Sent {
                kind: message.kind,
                tag: message.tag,
                reference: message.reference,
                payload: &message.payload,
            };
            self.trace(process, Direction::Received, message.sender, &taken);
        }
    }

    /// Traces a message that a guest sends.
    #[inline]
    pub(crate) fn trace_sent(&self, process: &mut GuestProcess, to: Pid, sent: &Sent<'_>) {
        if process.traced {
            self.trace(process, Direction::Sent, to, sent);
        }
    }

    #[cold]
    fn trace(&self, process: &mut GuestProcess, direction: Direction, peer: Pid, sent: &Sent<'_>) {
        let traced = Traced::new(self.system.clock.now(), direction, peer, sent);
        self.tracers.note(process, traced);
    }
}

/// File descriptors that the host keeps for itself, of those that the system allows.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Returns the quota of file descriptors of all processes.
fn descriptors() -> Arc<Quota> {
    let all = getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(1 << 20);
    let most = all.saturating_sub(RESERVED_DESCRIPTORS).max(all / 4);
    Quota::new(usize::try_from(most).unwrap_or(usize::MAX))
}

/// How many processes may block. Each keeps its frame, so some frames are reserved for others: a
/// server that is paged out can always run and unblock its callers.
#[derive(Debug)]
pub(crate) struct BlockQuota {
    /// Frames that cannot be taken away from their processes.
    pinned: AtomicUsize,
    most_pinned: usize,
    /// The kernel's mappings of these frames.
    mappings: AtomicUsize,
    most_mappings: usize,
    /// Bytes of their memories, as last measured.
    bytes: AtomicU64,
    most_bytes: u64,
}

impl BlockQuota {
    pub(crate) fn new(most_pinned: usize, most_mappings: usize, most_bytes: u64) -> BlockQuota {
        BlockQuota {
            pinned: AtomicUsize::new(0),
            most_pinned,
            mappings: AtomicUsize::new(0),
            most_mappings,
            bytes: AtomicU64::new(0),
            most_bytes,
        }
    }

    /// Returns whether one more process may block.
    pub(crate) fn may_block(&self) -> bool {
        self.pinned() < self.most_pinned
            && self.mappings() < self.most_mappings
            && self.bytes.load(Ordering::Relaxed) <= self.most_bytes
    }

    /// Returns the number of frames that cannot be taken away from their processes.
    pub(crate) fn pinned(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Returns the kernel's mappings of these frames, at most.
    pub(crate) fn mappings(&self) -> usize {
        self.mappings.load(Ordering::Relaxed)
    }

    /// Counts one more such frame, which has so many mappings.
    pub(crate) fn pin(&self, mappings: usize) {
        self.pinned.fetch_add(1, Ordering::Relaxed);
        self.mappings.fetch_add(mappings, Ordering::Relaxed);
    }

    /// Counts one less.
    pub(crate) fn unpin(&self, mappings: usize) {
        self.pinned.fetch_sub(1, Ordering::Relaxed);
        self.mappings.fetch_sub(mappings, Ordering::Relaxed);
    }

    /// Records the bytes of the memories of such frames.
    pub(crate) fn measured(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}
