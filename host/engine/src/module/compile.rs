//! How many modules are compiled at once, and on which threads. Compiling is the only thing
//! a module makes a node do that takes seconds and gigabytes. So each function and each
//! module has a limit (`instrument`), and the node has the one here.
//!
//! Several modules are compiled at once, each by threads of its own: in a shared pool, a
//! small module would wait for all functions of a large one. Together they have no more
//! threads than there are cores, but each has at least one, and they get a smaller share of
//! a core than the schedulers when both want it. When the limits of [`Compilers`] are met,
//! modules wait in order.

use parking_lot::{Condvar, Mutex};

use exuvia_instrument::MAX_CODE_BYTES;

/// The minimum number of modules that are compiled at once, whatever the machine's size: a
/// module that takes long to compile must not keep others from being deployed.
const LEAST_AT_ONCE: usize = 2;
/// The maximum bytes of code, as [`exuvia_instrument::Instrumented::code_bytes`] counts
/// them, that are compiled at once: two of the largest modules.
const MOST_BYTES: u64 = 2 * MAX_CODE_BYTES;
/// The nice value of a compiling thread relative to a scheduler. Beside a scheduler on one
/// core it gets about a quarter of the scheduler's share, and all of a core that is idle.
const NICE: i32 = 6;

/// The node's capacity for compiling.
#[derive(Debug)]
pub(crate) struct Compilers {
    /// Modules at once.
    most: usize,
    /// Threads for each module.
    threads: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    bytes: u64,
    /// The number for the next module to arrive, and the number to be served next.
    last: u64,
    next: u64,
}

impl Compilers {
    pub(crate) fn new() -> Compilers {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Compilers::with(LEAST_AT_ONCE.max(cores / 4), cores)
    }

    fn with(most: usize, cores: usize) -> Compilers {
        Compilers {
            most,
            threads: (cores / most).max(1),
            queue: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Runs `work`, which compiles so many bytes of code, once there is capacity for it.
    pub(crate) fn run<T: Send>(&self, bytes: u64, work: impl FnOnce() -> T + Send) -> T {
        let _room = self.room(bytes.min(MOST_BYTES));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|_| "exuvia-compile".into())
            .start_handler(|_| {
                // If this fails, the thread only takes more time from the schedulers.
                let _ = rustix::process::setpriority_process(None, NICE);
            })
            .build();
        match pool {
            Ok(pool) => pool.install(work),
            // No thread could be spawned: compile on this one, which takes longer.
            Err(_) => work(),
        }
    }

    fn room(&self, bytes: u64) -> Room<'_> {
        let mut queue = self.queue.lock();
        let number = queue.last;
        queue.last += 1;
        while queue.next != number || queue.running >= self.most || queue.bytes + bytes > MOST_BYTES
        {
            self.changed.wait(&mut queue);
        }
        queue.next += 1;
        queue.running += 1;
        queue.bytes += bytes;
        drop(queue);
        // There may be capacity for the next one too.
        self.changed.notify_all();
        Room {
            compilers: self,
            bytes,
        }
    }

    /// Returns how many wait.
    #[cfg(test)]
    fn waiting(&self) -> u64 {
        let queue = self.queue.lock();
        queue.last - queue.next
    }
}

struct Room<'a> {
    compilers: &'a Compilers,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut queue = self.compilers.queue.lock();
        queue.running -= 1;
        queue.bytes -= self.bytes;
        drop(queue);
        self.compilers.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_long_compilation_does_not_delay_others() {
        for cores in [1, 2, 64] {
            let compilers = Compilers::with(2, cores);
            let (end, ended) = channel::<()>();
            let (begin, begun) = channel();
            thread::scope(|scope| {
                let long = scope.spawn(|| {
                    compilers.run(MAX_CODE_BYTES, move || {
                        begin.send(()).unwrap();
                        ended.recv().unwrap_err();
                    });
                });
                begun.recv().unwrap();
                for n in 0..3 {
                    assert_eq!(compilers.run(100, || n), n);
                }
                drop(end);
                long.join().unwrap();
            });
        }
    }

    #[test]
    fn concurrent_compilations_are_limited_and_waiters_get_a_turn() {
        let compilers = Compilers::with(2, 2);
        let rooms = [compilers.room(1), compilers.room(1)];
        let (done, order) = channel();
        thread::scope(|scope| {
            for number in 0..2 {
                let (done, compilers) = (done.clone(), &compilers);
                scope.spawn(move || {
                    let room = compilers.room(1);
                    done.send(number).unwrap();
                    drop(room);
                });
                while compilers.waiting() <= number {
                    thread::yield_now();
                }
            }
            assert!(order.try_recv().is_err());
            drop(rooms);
            let mut both = [order.recv().unwrap(), order.recv().unwrap()];
            both.sort_unstable();
            assert_eq!(both, [0, 1]);
        });
        assert_eq!(compilers.waiting(), 0);
    }

    #[test]
    fn the_bytes_compiled_at_once_are_limited() {
        let compilers = Compilers::with(8, 8);
        let large = [
            compilers.room(MAX_CODE_BYTES),
            compilers.room(MAX_CODE_BYTES),
        ];
        let (done, order) = channel();
        thread::scope(|scope| {
            let compilers = &compilers;
            scope.spawn(move || {
                let _room = compilers.room(1);
                done.send(()).unwrap();
            });
            while compilers.waiting() == 0 {
                thread::yield_now();
            }
            assert!(order.try_recv().is_err());
            drop(large);
            order.recv().unwrap();
        });
    }

    #[test]
    fn a_compilation_that_panics_releases_its_permit() {
        let compilers = Compilers::with(1, 1);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let () = compilers.run(1, || panic!("as a compiler might"));
        }));
        assert!(failed.is_err());
        assert_eq!(compilers.run(1, || 7), 7);
    }
}
