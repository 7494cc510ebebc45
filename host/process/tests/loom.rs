//! Models of the protocol between senders, runners and the pager: run state
//! and outer mailbox, under every interleaving that loom finds.
//!
//! There is no run queue here. Whoever is told to schedule the process runs it
//! at once: that is what a scheduler with infinitely many idle threads does,
//! and it allows every order that a real one allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p exuvia-process --target-dir
//! target/loom --test loom --release`

#![cfg(loom)]

use std::sync::Mutex as Record;

use exuvia_process::{Limits, Mailbox, Refused, RunState, State, Then};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;

/// Switches between threads that are not forced, per execution. Four find
/// what these protocols can get wrong, and keep the models under a minute.
const PREEMPTIONS: usize = 4;

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(check);
}

/// Takes everything that has arrived.
fn arrived(mailbox: &Mailbox<u32>) -> Vec<u32> {
    let mut spare = None;
    mailbox.take_into(&mut spare, |_, _| ());
    spare.map_or(Vec::new(), |mut arrived| arrived.drain().collect())
}

/// One slot, with checks in place of a process.
struct Process {
    state: State,
    mailbox: Mailbox<u32>,
    /// Stands in a run queue.
    queued: AtomicBool,
    /// Somebody has the own half.
    running: AtomicBool,
    /// The own half: a relaxed read, then a relaxed write. It loses counts if
    /// one runner does not see what the one before it did.
    own: AtomicUsize,
    /// What was handled, for the test's eyes: unknown to loom, so that it
    /// orders nothing.
    handled: Record<Vec<u32>>,
}

impl Process {
    fn new() -> Arc<Process> {
        Arc::new(Process {
            state: State::default(),
            mailbox: Mailbox::new(),
            queued: AtomicBool::new(false),
            running: AtomicBool::new(false),
            own: AtomicUsize::new(0),
            handled: Record::default(),
        })
    }

    /// A process that is idle.
    fn idle() -> Arc<Process> {
        let process = Process::new();
        process.mailbox.open(Limits::default().into());
        process.then(process.state.occupy());
        assert_eq!(process.state.get(), RunState::Idle);
        process
    }

    fn send(&self, generation: u64, message: u32) -> Result<(), Refused> {
        self.mailbox.push(generation, message, 1)?;
        self.then(self.state.notify());
        Ok(())
    }

    /// Runs the process as long as it is scheduled.
    fn then(&self, mut then: Then) {
        while then == Then::Schedule {
            self.enter_queue();
            self.begin();
            self.handle();
            then = self.end();
        }
    }

    fn enter_queue(&self) {
        let before = self.queued.swap(true, Relaxed);
        assert!(!before, "scheduled twice at once");
    }

    fn begin(&self) {
        self.queued.store(false, Relaxed);
        assert!(self.state.begin(), "who is told to schedule can begin");
        self.enter();
    }

    fn enter(&self) {
        let before = self.running.swap(true, Relaxed);
        assert!(!before, "run by two at once");
    }

    fn leave(&self) {
        self.running.store(false, Relaxed);
    }

    fn end(&self) -> Then {
        self.leave();
        self.state.end()
    }

    fn handle(&self) {
        let arrived = arrived(&self.mailbox);
        if !arrived.is_empty() {
            let before = self.own.load(Relaxed);
            self.own.store(before + arrived.len(), Relaxed);
            self.handled().extend(arrived);
        }
    }

    fn handled(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.handled.lock().expect("no model panics with it")
    }

    /// When all threads are done.
    fn check_idle_with(&self, mut expected: Vec<u32>) {
        assert_eq!(self.state.get(), RunState::Idle);
        assert!(self.mailbox.is_empty(), "a signal was forgotten");
        let mut handled = self.handled().clone();
        handled.sort_unstable();
        expected.sort_unstable();
        assert_eq!(handled, expected);
        assert_eq!(self.own.load(Relaxed), expected.len());
    }
}

#[test]
fn two_senders_and_a_runner_lose_nothing() {
    model(|| {
        let process = Process::new();
        let generation = process.mailbox.open(Limits::default().into());
        let senders = [1, 2].map(|message| {
            let process = process.clone();
            thread::spawn(move || process.send(generation, message))
        });
        process.then(process.state.occupy());
        for sender in senders {
            let sent = sender.join().expect("the sender does not panic");
            assert_eq!(sent, Ok(()));
        }
        process.check_idle_with(vec![1, 2]);
    });
}

#[test]
fn one_sender_keeps_its_order_across_turns() {
    model(|| {
        let process = Process::idle();
        let sender = {
            let process = process.clone();
            thread::spawn(move || (1..=3).try_for_each(|message| process.send(0, message)))
        };
        assert_eq!(process.send(0, 10), Ok(()));
        let sent = sender.join().expect("the sender does not panic");
        assert_eq!(sent, Ok(()));
        let own: Vec<u32> = process
            .handled()
            .iter()
            .copied()
            .filter(|m| *m < 10)
            .collect();
        assert_eq!(own, [1, 2, 3]);
        process.check_idle_with(vec![1, 2, 3, 10]);
    });
}

#[test]
fn a_pager_claims_only_the_idle_and_hides_no_signal() {
    model(|| {
        let process = Process::idle();
        let pager = {
            let process = process.clone();
            thread::spawn(move || {
                if process.state.claim() {
                    process.enter();
                    // It looks at the own half and leaves the mailbox alone.
                    let before = process.own.load(Relaxed);
                    process.own.store(before, Relaxed);
                    process.then(process.end());
                }
            })
        };
        let sender = {
            let process = process.clone();
            thread::spawn(move || process.send(0, 1))
        };
        assert_eq!(process.send(0, 2), Ok(()));
        pager.join().expect("the pager does not panic");
        let sent = sender.join().expect("the sender does not panic");
        assert_eq!(sent, Ok(()));
        process.check_idle_with(vec![1, 2]);
    });
}

#[test]
fn two_pagers_never_have_the_same_process() {
    model(|| {
        let process = Process::idle();
        let page = |process: &Process| {
            if process.state.claim() {
                process.enter();
                process.then(process.end());
            }
        };
        let pager = {
            let process = process.clone();
            thread::spawn(move || page(&process))
        };
        let sender = {
            let process = process.clone();
            thread::spawn(move || process.send(0, 1))
        };
        page(&process);
        pager.join().expect("the pager does not panic");
        let sent = sender.join().expect("the sender does not panic");
        assert_eq!(sent, Ok(()));
        process.check_idle_with(vec![1]);
    });
}

#[test]
fn a_close_hands_out_or_refuses_each_signal() {
    model(|| {
        let mailbox = Arc::new(Mailbox::<u32>::new());
        let generation = mailbox.open(Limits::default().into());
        let sender = |first: u32| {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                let push = |message| mailbox.push(generation, message, 1).is_ok();
                [first, first + 1].map(|message| push(message).then_some(message))
            })
        };
        let senders = [sender(1), sender(11)];
        let mut out = arrived(&mailbox);
        out.extend(mailbox.close().items);
        let mut accepted = Vec::new();
        for sender in senders {
            let pushed = sender.join().expect("the sender does not panic");
            assert!(
                pushed[0].is_some() || pushed[1].is_none(),
                "a closed mailbox opened again"
            );
            accepted.extend(pushed.into_iter().flatten());
        }
        let mut all = out.clone();
        all.sort_unstable();
        assert_eq!(all, accepted);
        for pair in [[1, 2], [11, 12]] {
            let kept: Vec<u32> = out.iter().copied().filter(|m| pair.contains(m)).collect();
            assert!(kept.is_sorted(), "a sender's order was lost");
        }
        assert!(mailbox.is_empty());
        assert_eq!(mailbox.generation(), None);
    });
}

#[test]
fn a_new_process_in_the_slot_sees_nothing_of_the_old_one() {
    model(|| {
        let process = Process::new();
        assert_eq!(process.mailbox.open(Limits::default().into()), 0);
        // One sends to the old process, one to the new, whose pid it cannot
        // know yet: it is refused until the slot is reserved.
        let senders = [(0, 1), (1, 100)].map(|(generation, message)| {
            let process = process.clone();
            thread::spawn(move || process.send(generation, message))
        });

        assert_eq!(process.state.occupy(), Then::Schedule);
        process.enter_queue();
        process.begin();
        let mut old = arrived(&process.mailbox);
        old.extend(process.mailbox.close().items);
        process.leave();
        process.state.vacate();

        process.state.reserve();
        assert_eq!(process.mailbox.open(Limits::default().into()), 1);
        process.then(process.state.occupy());

        let [to_old, to_new] = senders.map(|sender| sender.join().expect("no sender panics"));
        assert_eq!(old.len(), usize::from(to_old.is_ok()));
        assert!(!old.contains(&100));
        process.check_idle_with(if to_new.is_ok() { vec![100] } else { vec![] });
    });
}
