//! A node with one thread. The test decides which process runs when.
//!
//! A *puppet* is a process without code: it takes over what arrives and obeys signals, but its
//! messages stay in its inbox until the test takes them, and the test acts on its behalf. Puppets
//! are guests, with `()` as the engine's half.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use exuvia_process::{
    Body, Clock, Context, Envelope, ExitReason, Kind, Limits, Native, Payload, Pid, Process,
    Reason, RunState, Schedule, SendError, Signal, SpawnSpec, System, Turn, turn,
};

/// Maximum number of processes of a test node: few, so that a test can fill it.
pub(crate) const PROCESSES: usize = 64;

#[derive(Default)]
pub(crate) struct Queue {
    slots: Mutex<VecDeque<u32>>,
    timer_moves: Mutex<usize>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.slots.lock().expect("no test panics with it")
    }
}

impl Schedule for Queue {
    fn schedule(&self, slot: u32) {
        let mut slots = self.lock();
        assert!(!slots.contains(&slot), "slot {slot} is scheduled twice");
        slots.push_back(slot);
    }

    fn timer_moved(&self, _: usize) {
        *self.timer_moves.lock().expect("no test panics with it") += 1;
    }
}

/// Native code from a closure.
pub(crate) struct Code<F>(pub F);

impl<F> Native<()> for Code<F>
where
    F: FnMut(&mut Context<'_, ()>, Envelope) + Send,
{
    fn handle(&mut self, context: &mut Context<'_, ()>, message: Envelope) {
        (self.0)(context, message);
    }
}

/// A native body from a closure.
pub(crate) fn code(
    handle: impl FnMut(&mut Context<'_, ()>, Envelope) + Send + 'static,
) -> Body<()> {
    Body::Native(Some(Box::new(Code(handle))))
}

pub(crate) struct World {
    pub(crate) system: System<()>,
    queue: Arc<Queue>,
    /// The processes that have terminated, with their reasons, in order.
    pub(crate) ended: Vec<(Pid, ExitReason)>,
}

impl World {
    pub(crate) fn new() -> World {
        World::of(System::new(7, PROCESSES, 1, Clock::manual()))
    }

    /// Returns a world in which a turn handles at most `part` signals.
    pub(crate) fn in_parts_of(part: usize) -> World {
        World::of(System::new(7, PROCESSES, 1, Clock::manual()).with_signals_per_turn(part))
    }

    pub(crate) fn of(system: System<()>) -> World {
        let queue = Arc::new(Queue::default());
        system.connect(queue.clone());
        World {
            system,
            queue,
            ended: Vec::new(),
        }
    }

    // ---- spawning ---------------------------------------------------------

    pub(crate) fn spec(&self, body: Body<()>) -> SpawnSpec<()> {
        SpawnSpec::new(body, Limits::default().into(), Payload::empty())
    }

    /// Spawns a puppet and takes its INIT; no code runs for it.
    pub(crate) fn puppet(&mut self) -> Pid {
        self.puppet_with(Limits::default())
    }

    pub(crate) fn puppet_with(&mut self, limits: Limits) -> Pid {
        let spec = SpawnSpec::new(Body::Guest(()), limits.into(), Payload::empty());
        let pid = self.system.spawn(spec).expect("the table has a free slot");
        let first = self.with(pid, |process, _| process.take(0));
        assert_eq!(first.map(|message| message.kind), Some(Kind::Init));
        pid
    }

    /// Spawns a puppet in the slot of a process that has terminated. Others are spawned and
    /// terminated until that slot is reused.
    pub(crate) fn successor(&mut self, dead: Pid) -> Pid {
        for _ in 0..=PROCESSES {
            let pid = self.puppet();
            if pid.slot() == dead.slot() {
                return pid;
            }
            self.exit(pid, Reason::NORMAL);
        }
        panic!("the slot of {dead} is not used again");
    }

    pub(crate) fn puppets<const N: usize>(&mut self) -> [Pid; N] {
        std::array::from_fn(|_| self.puppet())
    }

    pub(crate) fn native(
        &mut self,
        handle: impl FnMut(&mut Context<'_, ()>, Envelope) + Send + 'static,
    ) -> Pid {
        let spec = self.spec(code(handle));
        self.system.spawn(spec).expect("the table has a free slot")
    }

    // ---- running ----------------------------------------------------------

    pub(crate) fn scheduled(&self) -> usize {
        self.queue.lock().len()
    }

    pub(crate) fn timer_moves(&self) -> usize {
        *self
            .queue
            .timer_moves
            .lock()
            .expect("no test panics with it")
    }

    /// Runs all scheduled processes until none is scheduled.
    pub(crate) fn run(&mut self) {
        while self.step(0) {}
    }

    /// Runs one turn of the process at position `at` of the run queue.
    pub(crate) fn step(&mut self, at: usize) -> bool {
        let Some(index) = self.queue.lock().remove(at) else {
            return false;
        };
        let slot = self.system.table.slot(index).expect("it was scheduled");
        assert!(
            slot.state.transition_to_running(),
            "a scheduled process can begin"
        );
        let mut process = slot.take_process().expect("its own half is there");
        if process.is_exiting() {
            let then = self.system.continue_termination(process);
            self.system.apply(index, then);
            return true;
        }
        let end = match &process.body {
            Body::Native(_) => turn(&mut process, &self.system),
            Body::Guest(()) => match process.drain(&self.system) {
                Some(reason) => Turn::Exit(reason),
                None if process.has_pending_signals() => Turn::Again,
                None => Turn::Rest,
            },
        };
        let then = match end {
            Turn::Exit(reason) => {
                self.ended.push((process.pid(), reason.clone()));
                self.system.terminate(process, &reason)
            }
            Turn::Rest => {
                slot.put_process(process);
                slot.state.transition_to_idle()
            }
            Turn::Again => {
                slot.put_process(process);
                slot.state.yield_now()
            }
        };
        self.system.apply(index, then);
        true
    }

    /// Takes a living process's private half out of the schedulers' reach.
    pub(crate) fn take_own(&mut self, pid: Pid) -> Box<Process<()>> {
        assert!(self.system.is_alive(pid), "{pid} has ended");
        let slot = self.system.table.slot(pid.slot()).expect("it lives");
        if slot.state.get() == RunState::Queued {
            self.queue.lock().retain(|index| *index != pid.slot());
            assert!(slot.state.transition_to_running());
        } else {
            assert!(slot.state.claim());
        }
        slot.take_process().expect("its own half is there")
    }

    pub(crate) fn put_own(&mut self, process: Box<Process<()>>) {
        let index = process.pid().slot();
        let slot = self.system.table.slot(index).expect("it lives");
        let waits = matches!(process.body, Body::Native(_)) && process.inbox_len() > 0;
        let waits = waits || process.has_pending_signals();
        slot.put_process(process);
        // Signals that have arrived were not taken over: then it has more to do.
        if slot.mailbox.is_empty() && !waits {
            self.system.apply(index, slot.state.transition_to_idle());
        } else {
            self.system.apply(index, slot.state.yield_now());
        }
    }

    /// Acts on behalf of a process. Signals that have arrived are not taken over.
    pub(crate) fn with<R>(
        &mut self,
        pid: Pid,
        act: impl FnOnce(&mut Process<()>, &System<()>) -> R,
    ) -> R {
        let mut process = self.take_own(pid);
        let result = act(&mut process, &self.system);
        self.put_own(process);
        result
    }

    /// Takes all messages of a process, after all processes have run.
    pub(crate) fn inbox(&mut self, pid: Pid) -> Vec<Envelope> {
        self.run();
        self.with(pid, |process, system| {
            let all = std::iter::from_fn(|| process.take(0)).collect();
            process.publish_stats(system);
            all
        })
    }

    // ---- acts -------------------------------------------------------------

    pub(crate) fn send(&self, from: Pid, to: Pid, tag: u32) -> Result<(), SendError> {
        let envelope = Envelope::message(from, tag, Payload::empty());
        self.system.send(to, envelope)
    }

    pub(crate) fn link(&mut self, from: Pid, to: Pid) {
        self.with(from, |process, system| process.link(system, to));
    }

    pub(crate) fn unlink(&mut self, from: Pid, to: Pid) {
        self.with(from, |process, system| process.unlink(system, to));
    }

    pub(crate) fn trap(&mut self, pid: Pid) {
        self.with(pid, |process, _| process.set_trap_exit(true));
    }

    pub(crate) fn monitor(&mut self, from: Pid, to: Pid) -> u64 {
        self.with(from, |process, system| {
            let reference = process.new_reference();
            process.monitor(system, to, reference);
            reference
        })
    }

    pub(crate) fn demonitor(&mut self, from: Pid, reference: u64, flush: bool) {
        self.with(from, |process, system| {
            process.demonitor(system, reference, flush)
        });
    }

    pub(crate) fn request(&mut self, from: Pid, to: Pid, tag: u32) -> u64 {
        self.with(from, |process, system| {
            let reference = process.new_reference();
            process
                .request(system, to, reference, tag, Payload::empty())
                .expect("the request is accepted");
            reference
        })
    }

    pub(crate) fn reply(&mut self, from: Pid, request: &Envelope, tag: u32) {
        let (to, reference) = (request.sender, request.reference);
        self.with(from, |process, system| {
            process.reply(system, to, reference, tag, Payload::empty());
        });
    }

    /// Sends an exit signal like Erlang's `exit/2`.
    pub(crate) fn exit_signal(&self, from: Pid, to: Pid, reason: Reason) {
        let exit = Signal::Exit {
            from,
            reason: ExitReason::new(reason),
            linked: false,
        };
        // A dead receiver is not an error.
        let _ = self.system.signal(to, exit);
    }

    pub(crate) fn kill(&self, from: Pid, to: Pid) {
        let _ = self.system.signal(to, Signal::Kill { from });
    }

    /// Terminates a process as if by its own call. It has not seen what arrived meanwhile.
    pub(crate) fn exit(&mut self, pid: Pid, reason: Reason) {
        let process = self.take_own(pid);
        self.ended.push((pid, ExitReason::new(reason)));
        let then = self.system.terminate(process, &ExitReason::new(reason));
        self.system.apply(pid.slot(), then);
    }

    // ---- inspection -------------------------------------------------------

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.system.is_alive(pid)
    }

    /// Returns why a process terminated.
    pub(crate) fn end_of(&self, pid: Pid) -> Option<i32> {
        let mut ends = self.ended.iter().filter(|(ended, _)| *ended == pid);
        let end = ends.next().map(|(_, reason)| reason.code());
        assert!(ends.next().is_none(), "{pid} ended twice");
        end
    }

    /// Inspects a living process and leaves the run queue as it is.
    pub(crate) fn examine<R>(&self, pid: Pid, look: impl FnOnce(&Process<()>) -> R) -> R {
        assert!(self.is_alive(pid), "{pid} has ended");
        let slot = self.system.table.slot(pid.slot()).expect("it lives");
        let process = slot.take_process().expect("its own half is there");
        let result = look(&process);
        slot.put_process(process);
        result
    }

    pub(crate) fn relations(&mut self, pid: Pid) -> (usize, usize, usize) {
        self.run();
        self.examine(pid, Process::relation_counts)
    }
}

/// A guest's own reason.
pub(crate) const FAILED: Reason = Reason(Reason::GUEST + 4);

pub(crate) fn tags(messages: &[Envelope]) -> Vec<u32> {
    messages.iter().map(|message| message.tag).collect()
}

/// Returns kind, sender, reference and reason: the content of an exit notification.
pub(crate) fn facts(messages: &[Envelope]) -> Vec<(Kind, Pid, u64, i32)> {
    messages
        .iter()
        .map(|m| (m.kind, m.sender, m.reference, m.reason))
        .collect()
}
