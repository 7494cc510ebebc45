//! Whose turn it is to deploy: deployments of the same module go one after the
//! other, in the order in which they came; those of others do not wait.
//!
//! A turn is no lock on the code: the way back and a way back by itself go at any
//! time, and a commit says whether it was prepared on what is current.

use parking_lot::{Condvar, Mutex};

/// Who deploys and who waits for that. As many as the control socket serves at once.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The number of whoever comes next.
    next: u64,
    /// In the order in which they came, with the modules of each.
    all: Vec<(u64, Vec<String>)>,
}

impl Queue {
    /// Whether nobody before this one has a module of it.
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
    /// Waits until nobody who came before deploys one of these modules.
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

    /// How many deploy, or wait for it.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.queue.lock().all.len()
    }
}

/// A turn, which ends when this is dropped.
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
    fn those_of_other_modules_do_not_wait() {
        let turns = Turns::default();
        let a = turns.wait(names("a b"));
        let c = turns.wait(names("c"));
        drop(a);
        drop(turns.wait(names("a d")));
        drop(c);
        assert_eq!(turns.len(), 0);
    }

    #[test]
    fn those_of_the_same_module_go_in_the_order_in_which_they_came() {
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
