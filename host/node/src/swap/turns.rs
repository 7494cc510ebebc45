//! The order of deployments: those of the same module run one after the other, in the order in
//! which they arrived; those of other modules do not wait.
//!
//! A turn does not lock the code: a rollback, by a user or by the runtime, is possible at any time,
//! and a commit checks whether it was prepared on the current release.

use parking_lot::{Condvar, Mutex};

/// The running and waiting deployments. There are at most as many as the control socket serves at
/// once.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of the next deployment.
    next: u64,
    /// The deployments in order of arrival, with the modules of each.
    all: Vec<(u64, Vec<String>)>,
}

impl Queue {
    /// Returns whether no earlier deployment contains one of its modules.
    fn is_first(&self, number: u64) -> bool {
        let Some(at) = self.all.iter().position(|(other, _)| *other == number) else {
            return true;
        };
        let (before, this) = (&self.all[..at], &self.all[at].1);
        !before
            .iter()
            .any(|(_, modules)| modules.iter().any(|module| this.contains(module)))
    }
}

impl Turns {
    /// Waits until no earlier deployment of one of these modules is left.
    pub(crate) fn wait(&self, modules: Vec<String>) -> Turn<'_> {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.all.push((number, modules));
        while !queue.is_first(number) {
            self.ended.wait(&mut queue);
        }
        Turn {
            turns: self,
            number,
        }
    }

    /// Returns the number of running and waiting deployments.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.queue.lock().all.len()
    }
}

/// The turn of a deployment, which ends when this is dropped.
#[must_use]
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let number = self.number;
        self.turns
            .queue
            .lock()
            .all
            .retain(|(other, _)| *other != number);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::Turns;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn swaps_of_other_modules_do_not_wait() {
        let turns = Turns::default();
        let a = turns.wait(names("a b"));
        let c = turns.wait(names("c"));
        drop(a);
        drop(turns.wait(names("a d")));
        drop(c);
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn swaps_of_one_module_run_in_arrival_order() {
        let turns = Turns::default();
        let first = turns.wait(names("a b"));
        let (sender, order) = channel();
        thread::scope(|scope| {
            for (at, modules) in ["b c", "c", "a"].into_iter().enumerate() {
                let (sender, turns) = (sender.clone(), &turns);
                scope.spawn(move || {
                    let turn = turns.wait(names(modules));
                    sender.send(modules).unwrap();
                    drop(turn);
                });
                while turns.len() < at + 2 {
                    thread::yield_now();
                }
            }
            // `c` waits for `b c`, which waits for the first.
            assert!(order.try_recv().is_err());
            drop(first);
            let order: Vec<_> = order.iter().take(3).collect();
            let at = |name| order.iter().position(|it| *it == name);
            assert!(at("b c") < at("c"), "{order:?}");
        });
    }
}
