//! A node of one thread: engine, code, processes, a queue, a manual clock, and
//! a client outside that asks processes and hears how they ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exuvia_code::{CodeServer, Digest, Version};
use exuvia_engine::{
    Artifact, Engine, EngineConfig, Executor, ExecutorConfig, Guest, GuestProcess, GuestSystem,
    LoadError, MemoryLayout, Observer, TurnResult,
};
use exuvia_process::{
    Body, Clock, Context, Envelope, ExitReason, Kind, Limits, Native, Payload, Pid, Schedule,
    Signal, SpawnSpec, System,
};
use parking_lot::Mutex;

use crate::layout::is_wide;

/// Whether tests run in their long forms.
pub(crate) fn is_long() -> bool {
    std::env::var_os("EXUVIA_TEST_LONG").is_some_and(|value| value == "1")
}

/// Cases of a property test; `EXUVIA_TEST_LONG=1` asks for twenty times as many.
pub(crate) fn cases(few: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config {
        cases: if is_long() { few * 20 } else { few },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..proptest::test_runner::Config::default()
    }
}

/// The run queue.
#[derive(Default)]
pub(crate) struct Queue(Mutex<VecDeque<u32>>);

impl Schedule for Queue {
    fn schedule(&self, slot: u32) {
        self.0.lock().push_back(slot);
    }
}

/// A version that is to be committed.
pub(crate) type Next = (Arc<CodeServer<Artifact>>, Arc<Version<Artifact>>);

/// What the engine told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) logs: Mutex<Vec<String>>,
    pub(crate) failures: Mutex<Vec<(Pid, ExitReason)>>,
    pub(crate) stuck: Mutex<Vec<String>>,
    pub(crate) returned: Mutex<Vec<Pid>>,
    /// What is killed when a guest logs [`KILL`].
    pub(crate) victim: Mutex<Option<(Arc<GuestSystem>, Pid)>>,
    /// What is committed when a guest logs [`COMMIT`].
    pub(crate) next: Mutex<Option<Next>>,
    /// What is pinned to its version after that commit.
    pub(crate) pinned: Mutex<Option<(Arc<GuestSystem>, Pid)>>,
}

/// A guest logs this to make its observer panic.
pub(crate) const PANIC: &str = "panic, please";

/// A guest logs this to have the process in `Seen::victim` killed.
pub(crate) const KILL: &str = "kill it, please";

/// A guest logs this to have the version in `Seen::next` committed in the middle of its handler.
pub(crate) const COMMIT: &str = "commit it, please";

/// A guest that ends with this makes its observer panic then.
pub(crate) const PANIC_AT_THE_END: &str = "panic at the end, please";

impl Observer for Seen {
    fn log(&self, _: Pid, _: &Arc<Version<Artifact>>, _: i32, text: &str) {
        assert_ne!(text, PANIC, "the observer panics");
        if text == KILL
            && let Some((system, pid)) = &*self.victim.lock()
        {
            let _ = system.signal(*pid, Signal::Kill { from: Pid::NONE });
        }
        if text == COMMIT
            && let Some((code, version)) = self.next.lock().take()
        {
            code.commit(&code.current(), &[version], false).unwrap();
            let release = code.current().id;
            if let Some((system, pid)) = &*self.pinned.lock() {
                let pin = move |process: &mut GuestProcess, _: &GuestSystem| {
                    process.guest().unwrap().pin_to_version(release);
                };
                let _ = system.control(*pid, pin);
            }
        }
        self.logs.lock().push(text.to_owned());
    }

    fn failed(
        &self,
        pid: Pid,
        _: &Arc<Version<Artifact>>,
        reason: &ExitReason,
        _: Option<&Envelope>,
    ) {
        let text = reason.to_string();
        assert!(!text.contains(PANIC_AT_THE_END), "the observer panics");
        self.failures.lock().push((pid, reason.clone()));
    }

    fn reverted(&self, pid: Pid, _: &Arc<Version<Artifact>>, _: u64, _: &ExitReason) {
        self.returned.lock().push(pid);
    }

    fn upgrade_failed(&self, _: Pid, _: &Arc<Version<Artifact>>, _: u64, reason: &str) {
        self.stuck.lock().push(reason.to_owned());
    }
}

/// Keeps what it gets, by reference.
struct Client(Arc<Mutex<Vec<Envelope>>>);

impl Native<Guest> for Client {
    fn handle(&mut self, _: &mut Context<'_, Guest>, message: Envelope) {
        self.0.lock().push(message);
    }
}

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply(Vec<u8>),
    Down(i32, String),
    /// Nobody has anything to do, or the turns were used up.
    Nothing,
}

impl Answer {
    pub(crate) fn number(&self) -> u64 {
        match self {
            Answer::Reply(bytes) => u64::from_le_bytes(bytes[..8].try_into().unwrap()),
            other => panic!("no number: {other:?}"),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) engine: EngineConfig,
    pub(crate) frames: usize,
    pub(crate) frame_memory: u64,
    pub(crate) probation: u32,
    pub(crate) processes: usize,
}

/// The defaults, with the layout of this run.
pub(crate) fn engine() -> EngineConfig {
    EngineConfig {
        layout: match is_wide() {
            true => MemoryLayout::Wide,
            false => MemoryLayout::Packed,
        },
        ..EngineConfig::default()
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            engine: engine(),
            frames: 8,
            frame_memory: u64::MAX,
            probation: 0,
            processes: 10_000,
        }
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) code: Arc<CodeServer<Artifact>>,
    pub(crate) system: Arc<GuestSystem>,
    pub(crate) executor: Executor,
    pub(crate) seen: Arc<Seen>,
    pub(crate) limits: Arc<Limits>,
    queue: Arc<Queue>,
    client: Pid,
    heard: Arc<Mutex<Vec<Envelope>>>,
    digests: AtomicU64,
}

/// Turns that no test needs.
pub(crate) const ENOUGH: u32 = 100_000;

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let system = Arc::new(System::new(7, setup.processes, 1, Clock::manual()));
        let code = Arc::new(CodeServer::new(1_000));
        let seen = Arc::new(Seen::default());
        let executor = Executor::new(
            system.clone(),
            code.clone(),
            seen.clone(),
            ExecutorConfig {
                frames: setup.frames,
                frame_memory: setup.frame_memory,
                probation_messages: setup.probation,
            },
        );
        let queue = Arc::new(Queue::default());
        system.connect(queue.clone());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let limits = Arc::new(Limits::default());
        let body = Body::Native(Some(
            Box::new(Client(heard.clone())) as Box<dyn Native<Guest>>
        ));
        let spec = SpawnSpec::new(body, limits.clone(), Payload::empty());
        let client = system.spawn(spec).unwrap();
        World {
            engine: Engine::new(&setup.engine).unwrap(),
            code,
            system,
            executor,
            seen,
            limits,
            queue,
            client,
            heard,
            digests: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(
        &self,
        module: &str,
        wasm: &[u8],
    ) -> Result<Arc<Version<Artifact>>, LoadError> {
        let artifact = self.engine.load(wasm)?;
        let mut digest = [0; 32];
        let number = self.digests.fetch_add(1, Ordering::Relaxed);
        digest[..8].copy_from_slice(&number.to_le_bytes());
        // Nothing is unloaded here, so it need not be held.
        let held = self.code.load(module, Digest(digest), artifact);
        Ok(held.version().clone())
    }

    pub(crate) fn commit(&self, version: &Arc<Version<Artifact>>) {
        let base = self.code.current();
        self.code
            .commit(&base, std::slice::from_ref(version), false)
            .unwrap();
    }

    pub(crate) fn deploy(&self, module: &str, wat: &str) -> Arc<Version<Artifact>> {
        let version = self.load(module, &wat::parse_str(wat).unwrap());
        let version = version.unwrap_or_else(|error| panic!("{error}"));
        self.commit(&version);
        version
    }

    /// Commits a version with consent to resets.
    pub(crate) fn deploy_fresh(&self, module: &str, wat: &str) -> Arc<Version<Artifact>> {
        let version = self.load(module, &wat::parse_str(wat).unwrap());
        let version = version.unwrap_or_else(|error| panic!("{error}"));
        let base = self.code.current();
        let committed = (self.code).commit(&base, std::slice::from_ref(&version), true);
        committed.unwrap();
        version
    }

    pub(crate) fn spawn(&self, module: &str) -> Pid {
        self.spawn_with(module, &self.limits.clone())
    }

    pub(crate) fn spawn_with(&self, module: &str, limits: &Arc<Limits>) -> Pid {
        let body = self.executor.new_process(module);
        let spec = SpawnSpec::new(body.unwrap(), limits.clone(), Payload::empty());
        self.system.spawn(spec).unwrap()
    }

    pub(crate) fn client(&self) -> Pid {
        self.client
    }

    pub(crate) fn kill(&self, pid: Pid) {
        let _ = self.system.signal(pid, Signal::Kill { from: Pid::NONE });
    }

    pub(crate) fn send(&self, to: Pid, tag: u32, payload: &[u8]) {
        let envelope = Envelope::message(Pid::NONE, tag, Payload::new(payload));
        let _ = self.system.send(to, envelope);
    }

    /// One turn of whoever is first in the queue. False: nobody is.
    pub(crate) fn turn(&self) -> bool {
        let Some(slot) = self.queue.0.lock().pop_front() else {
            return false;
        };
        if matches!(self.executor.run(slot), TurnResult::Ready) {
            self.queue.schedule(slot);
        }
        true
    }

    /// How many are in the queue.
    pub(crate) fn queued(&self) -> usize {
        self.queue.0.lock().len()
    }

    /// Whether anybody is in the queue.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.0.lock().is_empty()
    }

    /// Turns, until nobody has anything to do. False: they were not enough.
    pub(crate) fn settle(&self, turns: u32) -> bool {
        (0..turns).any(|_| !self.turn())
    }

    /// Reductions that a process has used. Nobody runs it meanwhile: all turns
    /// are made here.
    pub(crate) fn reductions(&self, pid: Pid) -> u64 {
        let slot = self.system.table.slot(pid.slot()).unwrap();
        let process = slot.take_process().unwrap();
        let used = process.reductions;
        slot.put_process(process);
        used
    }

    /// Lets time pass and fires what is due.
    pub(crate) fn advance(&self, milliseconds: u64) {
        self.system
            .clock
            .advance(milliseconds.saturating_mul(1_000_000));
        while self.system.fire_timers(0) == Some(0) {}
    }

    /// Sends a request; [`World::answer`] tells how it ended.
    pub(crate) fn request(&self, to: Pid, tag: u32, payload: &[u8]) -> u64 {
        let payload = Payload::new(payload);
        let drawn = Arc::new(AtomicU64::new(0));
        let told = drawn.clone();
        self.as_client(move |process, system| {
            let reference = process.new_reference();
            told.store(reference, Ordering::Relaxed);
            let _ = process.request(system, to, reference, tag, payload);
        });
        drawn.load(Ordering::Relaxed)
    }

    /// Has the client trap exits and link itself to a process.
    pub(crate) fn link(&self, to: Pid) {
        self.as_client(move |process, system| {
            process.set_trap_exit(true);
            process.link(system, to);
        });
    }

    fn as_client(
        &self,
        act: impl FnOnce(&mut exuvia_engine::GuestProcess, &GuestSystem) + Send + 'static,
    ) {
        self.system.control(self.client, act).unwrap();
        // The client only; the others keep their turns.
        let mut others = std::mem::take(&mut *self.queue.0.lock());
        others.retain(|slot| *slot != self.client.slot());
        while matches!(self.executor.run(self.client.slot()), TurnResult::Ready) {}
        let mut queue = self.queue.0.lock();
        others.append(&mut queue);
        others.retain(|slot| *slot != self.client.slot());
        *queue = others;
    }

    pub(crate) fn heard(&self, wanted: impl Fn(&Envelope) -> bool) -> Option<Envelope> {
        self.heard.lock().iter().find(|m| wanted(m)).cloned()
    }

    /// The tags of all that was heard, in order.
    pub(crate) fn heard_tags(&self) -> Vec<u32> {
        self.heard.lock().iter().map(|heard| heard.tag).collect()
    }

    pub(crate) fn answer(&self, reference: u64) -> Answer {
        let told = self.heard(|message| {
            message.reference == reference && matches!(message.kind, Kind::Reply | Kind::Down)
        });
        match told {
            None => Answer::Nothing,
            Some(reply) if reply.kind == Kind::Reply => {
                Answer::Reply(reply.payload.as_slice().to_vec())
            }
            Some(down) => Answer::Down(
                down.reason,
                String::from_utf8_lossy(down.payload.as_slice()).into_owned(),
            ),
        }
    }

    /// Asks and runs everybody until the answer is there.
    pub(crate) fn ask(&self, to: Pid, tag: u32, payload: &[u8]) -> Answer {
        let reference = self.request(to, tag, payload);
        for _ in 0..ENOUGH {
            let answer = self.answer(reference);
            if answer != Answer::Nothing || !self.turn() {
                return answer;
            }
        }
        Answer::Nothing
    }

    /// Forgets what was heard, so that long tests stay quick.
    pub(crate) fn forget_heard(&self) {
        self.heard.lock().clear();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.executor.clear();
    }
}

/// A guest that replies to requests with what `handle` leaves: an i64 from the
/// request's tag. `imports` and `more` stand beside it. Header at 4096, pid of the sender at
/// 4104, answer at 4160, payload at 4224 (256 bytes); what lies below 4096 is stack.
pub(crate) fn answering(imports: &str, handle: &str, more: &str) -> String {
    format!(
        r#"(module
  (import "exuvia" "receive" (func $receive (param i32 i32 i32 i64 i32 i64) (result i32)))
  (import "exuvia" "reply" (func $reply (param i32 i64 i32 i32 i32) (result i32)))
  {imports}
  (memory (export "memory") 2 8)
  (global (export "exuvia_abi") i32 (i32.const 1))
  (data (i32.const 4096) "\30")
  (func $handle (param $tag i32) (result i64) {handle})
  (func (export "run") (result i32)
    (loop $next
      (i32.store (i32.const 4096) (i32.const 48))
      (if (call $receive (i32.const 4096) (i32.const 4224) (i32.const 256) (i64.const 0) (i32.const 0) (i64.const 0))
        (then (return (i32.const 0))))
      (if (i32.eq (i32.load (i32.const 4100)) (i32.const 3)) (then
        (i64.store (i32.const 4160) (call $handle (i32.load (i32.const 4128))))
        (drop (call $reply (i32.const 4104) (i64.load (i32.const 4120)) (i32.const 0) (i32.const 4160) (i32.const 8)))))
      (br $next))
    unreachable)
  {more})"#
    )
}
