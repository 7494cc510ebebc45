//! The runtimes of connections: one on each scheduler, which polls its sockets between turns and waits for them instead of
//! sleeping. So a request does not cross a thread on its way to a process and back, as in the BEAM.
//!
//! tokio's runtime of one thread runs while somebody blocks on a future. Here that is a worker of the schedulers, and the
//! future ends as soon as there is something else for it to do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeMetrics};
use tokio::time::Instant;

/// Tasks that run before processes are looked at again, if any was woken.
const TASKS: u32 = 16;
/// Threads of a runtime that read files and wait for what would block.
const BLOCKING: usize = 8;
/// Bytes that a timer has to read when it has fired: their number.
const EXPIRATIONS: usize = 8;
/// A timer that fires so much later than asked for is not set again.
const LATE: Duration = Duration::from_micros(20);

/// The runtimes of all schedulers, for those who start tasks. One is made when its first task is.
#[derive(Debug)]
pub struct Pollers {
    workers: Vec<Arc<Place>>,
    /// Makes a worker look at its poller.
    unpark: Arc<OnceLock<Callback<usize>>>,
}

/// What the workers do for their pollers.
struct Callback<T>(Box<dyn Fn(T) + Send + Sync>);

impl<T> std::fmt::Debug for Callback<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}

/// What a worker and those who start tasks on it share.
struct Place {
    worker: usize,
    made: OnceLock<Made>,
    /// A new runtime, until the worker has seen it; then the worker has it.
    new: Mutex<Option<Runtime>>,
    signal: Arc<Signal>,
    /// Records that the worker's thread sleeps, and that it has woken up.
    sleeps: Arc<OnceLock<Callback<bool>>>,
    /// Tasks that were woken while the runtime did not run.
    woken: Mutex<Vec<Waker>>,
    unpark: Arc<OnceLock<Callback<usize>>>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// The place whose runtime this thread runs.
    static CURRENT: RefCell<Option<Arc<Place>>> = const { RefCell::new(None) };
}

/// A runtime, as all see it.
#[derive(Debug)]
struct Made {
    runtime: Handle,
    metrics: RuntimeMetrics,
    /// Tasks that are always there.
    own_tasks: usize,
    timer: Timer,
}

impl Pollers {
    /// Makes them for so many workers.
    pub fn new(workers: usize) -> Pollers {
        let unpark = Arc::new(OnceLock::new());
        let place = |worker| Arc::new(Place::new(worker, &unpark));
        let workers = (0..workers).map(place).collect();
        Pollers { workers, unpark }
    }

    /// Makes the poller of a worker: called once for each, before anything else. `sleeps` is told when the worker's thread is
    /// about to sleep, and when it has woken up.
    pub fn poller(&self, worker: usize, sleeps: impl Fn(bool) + Send + Sync + 'static) -> Poller {
        let place = self.workers[worker].clone();
        let _ = place.sleeps.set(Callback(Box::new(sleeps)));
        Poller {
            place,
            runtime: None,
            fires: None,
        }
    }

    /// Says how a worker is made to look at its poller: called once, when the workers run.
    pub fn connect(&self, unpark: impl Fn(usize) + Send + Sync + 'static) {
        let _ = self.unpark.set(Callback(Box::new(unpark)));
    }

    /// Starts a task on the worker that has the fewest.
    ///
    /// # Errors
    ///
    /// It would be the first task there, and the system has no descriptors for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let place = self.workers.iter().min_by_key(|place| place.tasks());
        let place = place.expect("there is a worker");
        place.made()?.runtime.spawn(at(place.clone(), task));
        // The worker may sleep where it does not see the task.
        place.unpark();
        Ok(())
    }
}

/// Starts a task where this one runs.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    match CURRENT.with_borrow(Clone::clone) {
        Some(place) => drop(tokio::spawn(at(place, task))),
        None => drop(tokio::spawn(task)),
    }
}

pin_project! {
    /// A task whose worker notices when it is woken, which costs no system call while the worker is awake. Processes wake
    /// tasks all the time, and by itself the runtime would write to a descriptor for each.
    struct At<F> {
        #[pin]
        task: F,
        place: Arc<Place>,
        // The waker of the runtime, and the one that stands for it.
        wakers: Option<(Waker, Waker)>,
    }
}

fn at<F: Future<Output = ()>>(place: Arc<Place>, task: F) -> At<F> {
    At {
        task,
        place,
        wakers: None,
    }
}

impl<F: Future<Output = ()>> Future for At<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let runtime = context.waker();
        if !(this.wakers.as_ref()).is_some_and(|(known, _)| known.will_wake(runtime)) {
            let task = runtime.clone();
            let place = this.place.clone();
            let waker = Arc::new(TaskWaker { task, place });
            *this.wakers = Some((runtime.clone(), waker.into()));
        }
        let (_, waker) = this.wakers.as_ref().expect("it was just set");
        this.task.poll(&mut Context::from_waker(waker))
    }
}

/// Wakes a task.
struct TaskWaker {
    task: Waker,
    place: Arc<Place>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let place = &self.place;
        let is_here = CURRENT.try_with(|current| {
            let current = current.try_borrow().ok()?;
            Some(Arc::ptr_eq(current.as_ref()?, place))
        });
        if is_here.ok().flatten() == Some(true) {
            return self.task.wake_by_ref();
        }
        let is_first = {
            let mut woken = place.woken.lock();
            woken.push(self.task.clone());
            woken.len() == 1
        };
        if is_first {
            place.unpark();
        }
    }
}

impl Place {
    fn new(worker: usize, unpark: &Arc<OnceLock<Callback<usize>>>) -> Place {
        Place {
            worker,
            made: OnceLock::new(),
            new: Mutex::default(),
            signal: Arc::default(),
            sleeps: Arc::default(),
            woken: Mutex::default(),
            unpark: unpark.clone(),
        }
    }

    /// Makes the worker look at its poller.
    fn unpark(&self) {
        if let Some(Callback(unpark)) = self.unpark.get() {
            unpark(self.worker);
        }
    }

    /// Has the runtime run the tasks that were woken. Called on its thread, while it runs.
    fn wake_tasks(&self) {
        let mut woken = std::mem::take(&mut *self.woken.lock());
        woken.drain(..).for_each(Waker::wake);
        // Its room is used again.
        let mut empty = self.woken.lock();
        if empty.is_empty() {
            *empty = woken;
        }
    }

    /// Returns the number of tasks.
    fn tasks(&self) -> usize {
        // None are left after the end of the worker.
        let tasks = |made: &Made| {
            made.metrics
                .num_alive_tasks()
                .saturating_sub(made.own_tasks)
        };
        self.made.get().map_or(0, tasks)
    }

    fn made(&self) -> io::Result<&Made> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let mut new = self.new.lock();
        // Another thread may have been faster.
        if self.made.get().is_none() {
            let (runtime, made) = make(self)?;
            *new = Some(runtime);
            let _ = self.made.set(made);
        }
        Ok(self.made.get().expect("it was just set"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(runtime) = self.new.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

fn make(place: &Place) -> io::Result<(Runtime, Made)> {
    // Not the place itself, which may have the runtime.
    let sleeps = |asleep: bool| {
        let sleeps = place.sleeps.clone();
        move || {
            if let Some(Callback(sleeps)) = sleeps.get() {
                sleeps(asleep);
            }
        }
    };
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .thread_name("exuvia-io")
        .event_interval(TASKS)
        .on_thread_park(sleeps(true))
        .on_thread_unpark(sleeps(false))
        .enable_all()
        .build()?;
    let timer = Timer::new()?;
    {
        let _context = runtime.enter();
        // Not a pipe, but read like one. More room than there is to read: then it is known to be empty.
        let expirations = Receiver::from_owned_fd_unchecked(timer.0.try_clone()?)?;
        let signal = place.signal.clone();
        runtime.spawn(async move {
            let mut room = [0; 2 * EXPIRATIONS];
            while expirations.readable().await.is_ok() {
                // Setting it anew makes it unreadable as well.
                let _ = expirations.try_read(&mut room);
                signal.set();
            }
        });
    }
    let metrics = runtime.metrics();
    let made = Made {
        runtime: runtime.handle().clone(),
        own_tasks: metrics.num_alive_tasks(),
        metrics,
        timer,
    };
    Ok((runtime, made))
}

/// The runtime of one scheduler.
#[derive(Debug)]
pub struct Poller {
    place: Arc<Place>,
    /// `None` before its first task.
    runtime: Option<Runtime>,
    /// When the timer will fire.
    fires: Option<Instant>,
}

/// Ends a wait.
#[derive(Debug, Default)]
pub struct Signal {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Makes the current wait return, or the next one at once.
    pub fn set(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        self.waker.register(waker);
        match self.is_set.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Poller {
    /// Returns whether it has any task.
    pub fn is_in_use(&self) -> bool {
        self.place.tasks() > 0
    }

    /// Returns what ends a wait.
    pub fn signal(&self) -> Arc<Signal> {
        self.place.signal.clone()
    }

    /// Runs tasks that are ready, and looks what else is.
    pub fn poll(&mut self) {
        let mut was_polled = false;
        self.run(|place, waker| {
            place.wake_tasks();
            if std::mem::replace(&mut was_polled, true) {
                return Poll::Ready(());
            }
            // So the runtime polls this again after its tasks and its sockets.
            waker.wake_by_ref();
            Poll::Pending
        });
    }

    /// Runs tasks, and waits for more until the signal is set, or for so long.
    pub fn wait(&mut self, time: Option<Duration>) {
        if let Some(time) = time {
            self.fire_in(time);
        }
        self.run(|place, waker| {
            // In this order: whoever wakes a task gives the signal afterwards.
            let is_set = place.signal.poll(waker);
            place.wake_tasks();
            is_set
        });
    }

    /// Runs the runtime until `poll` returns that it may end.
    fn run(&mut self, mut poll: impl FnMut(&Place, &Waker) -> Poll<()>) {
        let place = self.place.clone();
        let Some(runtime) = self.runtime() else {
            return;
        };
        CURRENT.set(Some(place.clone()));
        runtime.block_on(poll_fn(|context| poll(&place, context.waker())));
        CURRENT.set(None);
    }

    fn runtime(&mut self) -> Option<&Runtime> {
        if self.runtime.is_none() {
            self.runtime = self.place.new.lock().take();
        }
        self.runtime.as_ref()
    }

    /// Has the timer end a wait then, at the latest. A system call is saved if it does so already.
    fn fire_in(&mut self, time: Duration) {
        let Some(made) = self.place.made.get() else {
            return;
        };
        let now = Instant::now();
        let due = now + time;
        let is_set = |fires: Instant| fires > now && fires <= due + LATE;
        if !self.fires.is_some_and(is_set) {
            made.timer.set(time);
            self.fires = Some(due);
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waiting for files that are being read.
            runtime.shutdown_background();
        }
    }
}

/// A timer of the system: tokio's have steps of a millisecond, which processes would notice.
#[derive(Debug)]
struct Timer(OwnedFd);

impl Timer {
    fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Sets it to fire once.
    fn set(&self, time: Duration) {
        // Zero would turn it off.
        let time = time.max(Duration::from_nanos(1));
        let zero = Timespec::default();
        let value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let value = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value)
            .expect("the descriptor is a timer, and the time is valid");
    }
}

#[cfg(test)]
mod tests;
