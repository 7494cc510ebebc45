//! Real threads: senders, runners and a pager, at the same time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use exuvia_process::{
    Clock, Envelope, ExitReason, Kind, Limits, NameError, Payload, Pid, Reason, Schedule,
    SendError, SpawnSpec, System, Turn, turn,
};

use crate::world::code;

const SENDERS: u32 = 4;
const RUNNERS: usize = 2;
const PROCESSES: usize = 6;
const MESSAGES: u32 = 20_000;

/// A run queue at which runners wait.
#[derive(Default)]
struct Queue {
    state: Mutex<(VecDeque<u32>, bool)>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<u32>, bool)> {
        self.state.lock().expect("no test panics with it")
    }

    /// Returns the next slot; `None`: the queue is closed and empty.
    fn next(&self) -> Option<u32> {
        let mut state = self.lock();
        loop {
            if let Some(slot) = state.0.pop_front() {
                return Some(slot);
            }
            if state.1 {
                return None;
            }
            state = self.changed.wait(state).expect("no test panics with it");
        }
    }

    fn close(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }
}

impl Schedule for Queue {
    fn schedule(&self, slot: u32) {
        self.lock().0.push_back(slot);
        self.changed.notify_one();
    }
}

/// The condition that the test waits for. A thread that panics also ends the wait, so that its
/// failure is shown.
#[derive(Default)]
struct Finish {
    over: Mutex<bool>,
    changed: Condvar,
}

impl Finish {
    fn set(&self) {
        *self.over.lock().expect("no test panics with it") = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let mut over = self.over.lock().expect("no test panics with it");
        while !*over {
            over = self.changed.wait(over).expect("no test panics with it");
        }
    }
}

struct EndOnPanic<'a>(&'a Finish);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set();
        }
    }
}

/// Lets the runners exit, also when the test fails.
struct CloseAtEnd<'a>(&'a Queue);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn node() -> (Arc<System<()>>, Arc<Queue>) {
    let system = Arc::new(System::new(3, 10_000, 1, Clock::manual()));
    let queue = Arc::new(Queue::default());
    system.connect(queue.clone());
    (system, queue)
}

fn run(system: &System<()>, queue: &Queue, finish: &Finish) {
    let _end = EndOnPanic(finish);
    while let Some(index) = queue.next() {
        let slot = system.table.slot(index).expect("it was scheduled");
        assert!(slot.state.transition_to_running(), "it was scheduled twice");
        let mut process = slot.take_process().expect("it was run twice");
        if process.is_exiting() {
            system.apply(index, system.continue_termination(process));
            continue;
        }
        match turn(&mut process, system) {
            Turn::Exit(reason) => system.apply(index, system.terminate(process, &reason)),
            Turn::Rest => {
                slot.put_process(process);
                system.apply(index, slot.state.transition_to_idle());
            }
            Turn::Again => {
                slot.put_process(process);
                system.apply(index, slot.state.yield_now());
            }
        }
    }
}

/// Takes idle processes and puts them back, as a pager does.
fn page(system: &System<()>, pids: &[Pid], done: &AtomicBool, finish: &Finish) {
    let _end = EndOnPanic(finish);
    while !done.load(Ordering::Acquire) {
        for pid in pids {
            let slot = system.table.slot(pid.slot()).expect("it lives");
            if slot.state.claim() {
                let mut process = slot.take_process().expect("it was claimed while it ran");
                process.trim(system);
                slot.put_process(process);
                system.apply(pid.slot(), slot.state.transition_to_idle());
            }
            thread::yield_now();
        }
    }
}

#[test]
fn each_message_is_handled_once_and_in_its_senders_order() {
    let (system, queue) = node();
    let handled = Arc::new(AtomicU64::new(0));
    let finish = Arc::new(Finish::default());
    let all = u64::from(SENDERS) * u64::from(MESSAGES);
    let pids: Vec<Pid> = (0..PROCESSES)
        .map(|_| {
            let (handled, finish) = (handled.clone(), finish.clone());
            let mut last = [None; SENDERS as usize];
            let body = code(move |_, message| {
                if message.kind != Kind::Message {
                    return;
                }
                let mut number = [0; 4];
                number.copy_from_slice(message.payload.as_slice());
                let number = Some(u32::from_le_bytes(number));
                let last = &mut last[message.tag as usize];
                assert!(*last < number, "{number:?} after {last:?}");
                *last = number;
                if handled.fetch_add(1, Ordering::AcqRel) + 1 == all {
                    finish.set();
                }
            });
            let spec = SpawnSpec::new(body, Limits::default().into(), Payload::empty());
            system.spawn(spec).expect("the table has a free slot")
        })
        .collect();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _close = CloseAtEnd(&queue);
        for _ in 0..RUNNERS {
            scope.spawn(|| run(&system, &queue, &finish));
        }
        scope.spawn(|| page(&system, &pids, &done, &finish));
        for sender in 0..SENDERS {
            let (system, pids, finish) = (&system, &pids, &finish);
            scope.spawn(move || {
                let _end = EndOnPanic(finish);
                for number in 0..MESSAGES {
                    let to = pids[(number + sender) as usize % PROCESSES];
                    let payload = Payload::new(&number.to_le_bytes());
                    let message = Envelope::message(Pid::NONE, sender, payload);
                    assert_eq!(system.send(to, message), Ok(()));
                }
            });
        }
        finish.wait();
        done.store(true, Ordering::Release);
    });
    assert_eq!(handled.load(Ordering::Acquire), all);
    for pid in pids {
        let slot = system.table.slot(pid.slot()).expect("it lives");
        assert!(slot.mailbox.is_empty());
    }
}

/// Processes terminate while others send to them, monitor them and register names for them; their
/// slots are reused at once.
#[test]
fn exits_race_with_everything() {
    const ROUNDS: usize = 3000;
    let (system, queue) = node();
    let downs = Arc::new(AtomicUsize::new(0));
    let finish = Arc::new(Finish::default());

    let (counted, over) = (downs.clone(), finish.clone());
    let mut references = Vec::new();
    // Monitors each process it gets a message about, and counts the DOWNs.
    let watcher = code(move |context, message| match message.kind {
        Kind::Message => {
            let mut pid = [0; 16];
            pid.copy_from_slice(message.payload.as_slice());
            let reference = context.process.new_reference();
            references.push(reference);
            let system = context.system;
            context
                .process
                .monitor(system, Pid::from_bytes(pid), reference);
        }
        Kind::Down => {
            let at = references.iter().position(|r| *r == message.reference);
            references.swap_remove(at.expect("one DOWN for each monitor"));
            if counted.fetch_add(1, Ordering::AcqRel) + 1 == ROUNDS {
                over.set();
            }
        }
        _ => {}
    });
    let limits = Arc::new(Limits::default());
    let watcher = system
        .spawn(SpawnSpec::new(watcher, limits.clone(), Payload::empty()))
        .expect("the table has a free slot");

    thread::scope(|scope| {
        let _close = CloseAtEnd(&queue);
        for _ in 0..RUNNERS {
            scope.spawn(|| run(&system, &queue, &finish));
        }
        for round in 0..ROUNDS {
            // Exits at its first message.
            let mortal = code(|context, message| {
                if message.kind == Kind::Message {
                    context.exit(ExitReason::new(Reason::NORMAL));
                }
            });
            let spec = SpawnSpec::new(mortal, limits.clone(), Payload::empty());
            let pid = system.spawn(spec).expect("the table has a free slot");
            let about = Envelope::message(Pid::NONE, 0, Payload::new(&pid.to_bytes()));
            let poison = Envelope::message(Pid::NONE, 0, Payload::empty());
            assert_eq!(system.send(pid, poison.clone()), Ok(()));
            assert_eq!(system.send(watcher, about), Ok(()));
            let name = format!("mortal {}", round % 7);
            let named = system.register(&name, pid);
            assert!(matches!(
                named,
                Ok(()) | Err(NameError::Dead | NameError::Taken)
            ));
            let again = system.send(pid, poison);
            assert!(matches!(again, Ok(()) | Err(SendError::Dead)));
        }
        finish.wait();
    });
    assert_eq!(downs.load(Ordering::Acquire), ROUNDS);
    assert_eq!(system.table.alive(), 1, "only the watcher lives");
    for number in 0..7 {
        let name = format!("mortal {number}");
        assert_eq!(system.names.find(&name), None, "the name of a dead process");
    }
}
