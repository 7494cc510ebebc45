//! Models of the protocol between senders, runners and the pager: run state and outer mailbox,
//! under every interleaving that loom finds.
//!
//! There is no run queue here. A thread that must schedule the process runs it at once: that is
//! what a scheduler with infinitely many idle threads does, and it allows every order that a real
//! one allows.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p exuvia-process --target-dir target/loom --test loom
//! --release`

#![cfg(loom)]

use std::sync::Mutex as Record;

use exuvia_process::{Limits, Mailbox, Refused, RunState, StateWord, Transition};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;

/// Maximum number of unforced thread switches per execution. Four find the errors that these
/// protocols can have, and keep the models under a minute.
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
    state: StateWord,
    mailbox: Mailbox<u32>,
    /// It is in a run queue.
    queued: AtomicBool,
    /// A runner has the private half.
    running: AtomicBool,
    /// The private half: a relaxed load, then a relaxed store. It loses counts if one runner does
    /// not see what the previous one did.
    own: AtomicUsize,
    /// What was handled, for the test's checks: unknown to loom, so that it orders nothing.
    handled: Record<Vec<u32>>,
}

impl Process {
    fn new() -> Arc<Process> {
        Arc::new(Process {
            state: StateWord::default(),
            mailbox: Mailbox::new(),
            queued: AtomicBool::new(false),
            running: AtomicBool::new(false),
            own: AtomicUsize::new(0),
            handled: Record::default(),
        })
    }

    /// Returns an idle process.
    fn idle() -> Arc<Process> {
        let process = Process::new();
        process.mailbox.open(Limits::default().into(), 0);
        process.apply(process.state.occupy());
        assert_eq!(process.state.get(), RunState::Idle);
        process
    }

    fn send(&self, generation: u64, message: u32) -> Result<(), Refused> {
        self.mailbox.push(generation, message, 1)?;
        self.apply(self.state.notify());
        Ok(())
    }

    /// Runs the process as long as it is scheduled.
    fn apply(&self, mut then: Transition) {
        while then == Transition::Schedule {
            self.enter_queue();
            self.transition_to_running();
            self.handle();
            then = self.transition_to_idle();
        }
    }

    fn enter_queue(&self) {
        let before = self.queued.swap(true, Relaxed);
        assert!(!before, "scheduled twice at once");
    }

    fn transition_to_running(&self) {
        self.queued.store(false, Relaxed);
        assert!(
            self.state.transition_to_running(),
            "a process that is to be scheduled can begin"
        );
        self.enter();
    }

    fn enter(&self) {
        let before = self.running.swap(true, Relaxed);
        assert!(!before, "run by two at once");
    }

    fn leave(&self) {
        self.running.store(false, Relaxed);
    }

    fn transition_to_idle(&self) -> Transition {
        self.leave();
        self.state.transition_to_idle()
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

    /// Checks the final state, when all threads are done.
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
        let generation = process.mailbox.open(Limits::default().into(), 0);
        let senders = [1, 2].map(|message| {
            let process = process.clone();
            thread::spawn(move || process.send(generation, message))
        });
        process.apply(process.state.occupy());
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
                    // It inspects the private half and does not touch the mailbox.
                    let before = process.own.load(Relaxed);
                    process.own.store(before, Relaxed);
                    process.apply(process.transition_to_idle());
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
                process.apply(process.transition_to_idle());
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
fn a_close_returns_or_rejects_each_signal() {
    model(|| {
        let mailbox = Arc::new(Mailbox::<u32>::new());
        let generation = mailbox.open(Limits::default().into(), 0);
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
        assert_eq!(process.mailbox.open(Limits::default().into(), 0), 0);
        // One sends to the old process, one to the new, whose pid it cannot know yet: it is refused
        // until the slot is reserved.
        let senders = [(0, 1), (1, 100)].map(|(generation, message)| {
            let process = process.clone();
            thread::spawn(move || process.send(generation, message))
        });

        assert_eq!(process.state.occupy(), Transition::Schedule);
        process.enter_queue();
        process.transition_to_running();
        let mut old = arrived(&process.mailbox);
        old.extend(process.mailbox.close().items);
        process.leave();
        process.state.vacate();

        process.state.reserve();
        assert_eq!(process.mailbox.open(Limits::default().into(), 0), 1);
        process.apply(process.state.occupy());

        let [to_old, to_new] = senders.map(|sender| sender.join().expect("no sender panics"));
        assert_eq!(old.len(), usize::from(to_old.is_ok()));
        assert!(!old.contains(&100));
        process.check_idle_with(if to_new.is_ok() { vec![100] } else { vec![] });
    });
}
