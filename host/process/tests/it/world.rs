//! A node with one thread. The test decides who runs when.
//!
//! A *puppet* is a process without code: it takes over what arrives and obeys
//! signals, but its messages stay in its inbox until the test takes them, and
//! the test acts in its name. Puppets are of the guest kind, with `()` as guest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use exuvia_process::{
    Birth, Body, Clock, Context, Envelope, ExitReason, Kind, Limits, Native, Own, Payload, Pid,
    Reason, RunState, Schedule, SendError, Signal, System, Turn, turn,
};

/// Processes a test node can hold: few, so that a test can fill it.
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
    /// Who has ended, why, in order.
    pub(crate) ended: Vec<(Pid, ExitReason)>,
}

impl World {
    pub(crate) fn new() -> World {
        World::of(System::new(7, PROCESSES, 1, Clock::manual()))
    }

    /// Where a turn is for no more than so many signals.
    pub(crate) fn in_parts_of(part: usize) -> World {
        World::of(System::new(7, PROCESSES, 1, Clock::manual()).in_parts_of(part))
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

    // ---- births -----------------------------------------------------------

    pub(crate) fn birth(&self, body: Body<()>) -> Birth<()> {
        Birth::new(body, Limits::default().into(), Payload::empty())
    }

    /// A puppet that has had its INIT; nobody runs for it.
    pub(crate) fn puppet(&mut self) -> Pid {
        self.puppet_with(Limits::default())
    }

    pub(crate) fn puppet_with(&mut self, limits: Limits) -> Pid {
        let birth = Birth::new(Body::Guest(()), limits.into(), Payload::empty());
        let pid = self.system.spawn(birth).expect("there is room");
        let first = self.with(pid, |own, _| own.take(0));
        assert_eq!(first.map(|message| message.kind), Some(Kind::Init));
        pid
    }

    /// A puppet in the slot of a process that has ended. Others are born and end
    /// until it is that slot's turn.
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
        let birth = self.birth(code(handle));
        self.system.spawn(birth).expect("there is room")
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

    /// Runs everything until there is nothing to run.
    pub(crate) fn run(&mut self) {
        while self.step(0) {}
    }

    /// One turn of the process that stands `at` in the run queue.
    pub(crate) fn step(&mut self, at: usize) -> bool {
        let Some(index) = self.queue.lock().remove(at) else {
            return false;
        };
        let slot = self.system.table.slot(index).expect("it was scheduled");
        assert!(slot.state.begin(), "a scheduled process can begin");
        let mut own = slot.take_own().expect("its own half is there");
        if own.is_ending() {
            let then = self.system.bury_on(own);
            self.system.then(index, then);
            return true;
        }
        let end = match &own.body {
            Body::Native(_) => turn(&mut own, &self.system),
            Body::Guest(()) => match own.drain(&self.system) {
                Some(reason) => Turn::Exit(reason),
                None if own.has_more() => Turn::Again,
                None => Turn::Rest,
            },
        };
        let then = match end {
            Turn::Exit(reason) => {
                self.ended.push((own.pid(), reason.clone()));
                self.system.bury(own, &reason)
            }
            Turn::Rest => {
                slot.put_own(own);
                slot.state.end()
            }
            Turn::Again => {
                slot.put_own(own);
                slot.state.again()
            }
        };
        self.system.then(index, then);
        true
    }

    /// Takes a living process's own half out of the schedulers' reach.
    pub(crate) fn take_own(&mut self, pid: Pid) -> Box<Own<()>> {
        assert!(self.system.is_alive(pid), "{pid} has ended");
        let slot = self.system.table.slot(pid.slot()).expect("it lives");
        if slot.state.get() == RunState::Queued {
            self.queue.lock().retain(|index| *index != pid.slot());
            assert!(slot.state.begin());
        } else {
            assert!(slot.state.claim());
        }
        slot.take_own().expect("its own half is there")
    }

    pub(crate) fn put_own(&mut self, own: Box<Own<()>>) {
        let index = own.pid().slot();
        let slot = self.system.table.slot(index).expect("it lives");
        let waits = matches!(own.body, Body::Native(_)) && own.inbox_len() > 0;
        let waits = waits || own.has_more();
        slot.put_own(own);
        // What has arrived was not taken over: then it has more to do.
        if slot.mailbox.is_empty() && !waits {
            self.system.then(index, slot.state.end());
        } else {
            self.system.then(index, slot.state.again());
        }
    }

    /// Acts in the name of a process. What has arrived is not taken over.
    pub(crate) fn with<R>(
        &mut self,
        pid: Pid,
        act: impl FnOnce(&mut Own<()>, &System<()>) -> R,
    ) -> R {
        let mut own = self.take_own(pid);
        let result = act(&mut own, &self.system);
        self.put_own(own);
        result
    }

    /// Takes out all messages of a process, after everybody has run.
    pub(crate) fn inbox(&mut self, pid: Pid) -> Vec<Envelope> {
        self.run();
        self.with(pid, |own, system| {
            let all = std::iter::from_fn(|| own.take(0)).collect();
            own.publish_stats(system);
            all
        })
    }

    // ---- acts -------------------------------------------------------------

    pub(crate) fn send(&self, from: Pid, to: Pid, tag: u32) -> Result<(), SendError> {
        let envelope = Envelope::message(from, tag, Payload::empty());
        self.system.send(to, envelope)
    }

    pub(crate) fn link(&mut self, from: Pid, to: Pid) {
        self.with(from, |own, system| own.link(system, to));
    }

    pub(crate) fn unlink(&mut self, from: Pid, to: Pid) {
        self.with(from, |own, system| own.unlink(system, to));
    }

    pub(crate) fn trap(&mut self, pid: Pid) {
        self.with(pid, |own, _| own.set_trap_exit(true));
    }

    pub(crate) fn monitor(&mut self, from: Pid, to: Pid) -> u64 {
        self.with(from, |own, system| {
            let reference = own.new_reference();
            own.monitor(system, to, reference);
            reference
        })
    }

    pub(crate) fn demonitor(&mut self, from: Pid, reference: u64, flush: bool) {
        self.with(from, |own, system| own.demonitor(system, reference, flush));
    }

    pub(crate) fn request(&mut self, from: Pid, to: Pid, tag: u32) -> u64 {
        self.with(from, |own, system| {
            let reference = own.new_reference();
            own.request(system, to, reference, tag, Payload::empty())
                .expect("the request is accepted");
            reference
        })
    }

    pub(crate) fn reply(&mut self, from: Pid, request: &Envelope, tag: u32) {
        let (to, reference) = (request.sender, request.reference);
        self.with(from, |own, system| {
            own.reply(system, to, reference, tag, Payload::empty());
        });
    }

    /// Erlang's `exit/2`.
    pub(crate) fn exit_signal(&self, from: Pid, to: Pid, reason: Reason) {
        let exit = Signal::Exit {
            from,
            reason: ExitReason::new(reason),
            linked: false,
            charge: None,
        };
        // The dead do not mind.
        let _ = self.system.signal(to, exit);
    }

    pub(crate) fn kill(&self, from: Pid, to: Pid) {
        let _ = self.system.signal(to, Signal::Kill { from });
    }

    /// Ends a process by its own will. It has not seen what arrived meanwhile.
    pub(crate) fn exit(&mut self, pid: Pid, reason: Reason) {
        let own = self.take_own(pid);
        self.ended.push((pid, ExitReason::new(reason)));
        let then = self.system.bury(own, &ExitReason::new(reason));
        self.system.then(pid.slot(), then);
    }

    // ---- looks ------------------------------------------------------------

    pub(crate) fn is_alive(&self, pid: Pid) -> bool {
        self.system.is_alive(pid)
    }

    /// Why a process ended.
    pub(crate) fn end_of(&self, pid: Pid) -> Option<i32> {
        let mut ends = self.ended.iter().filter(|(ended, _)| *ended == pid);
        let end = ends.next().map(|(_, reason)| reason.code());
        assert!(ends.next().is_none(), "{pid} ended twice");
        end
    }

    /// Looks at a living process and leaves the run queue as it is.
    pub(crate) fn look<R>(&self, pid: Pid, look: impl FnOnce(&Own<()>) -> R) -> R {
        assert!(self.is_alive(pid), "{pid} has ended");
        let slot = self.system.table.slot(pid.slot()).expect("it lives");
        let own = slot.take_own().expect("its own half is there");
        let result = look(&own);
        slot.put_own(own);
        result
    }

    pub(crate) fn relations(&mut self, pid: Pid) -> (usize, usize, usize) {
        self.run();
        self.look(pid, Own::relation_counts)
    }
}

/// A reason of a guest's own.
pub(crate) const FAILED: Reason = Reason(Reason::GUEST + 4);

pub(crate) fn tags(messages: &[Envelope]) -> Vec<u32> {
    messages.iter().map(|message| message.tag).collect()
}

/// Kind, sender, reference and reason: what an obituary is about.
pub(crate) fn facts(messages: &[Envelope]) -> Vec<(Kind, Pid, u64, i32)> {
    messages
        .iter()
        .map(|m| (m.kind, m.sender, m.reference, m.reason))
        .collect()
}
