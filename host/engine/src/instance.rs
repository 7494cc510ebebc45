//! The inside of a frame at rest: the store, and how processes are put into its instance
//! and taken out of it.

pub(crate) mod backtrace;
pub(crate) mod factory;
pub(crate) mod fiber_stack;
pub(crate) mod fixed;
pub(crate) mod linear_memory;
pub(crate) mod restricted;
pub(crate) mod setup;
pub(crate) mod store;

use std::future::poll_fn;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use exuvia_abi::Reason;
use exuvia_image::{After, Base, Extent, Image, Scratch, total, total_from};
use exuvia_instrument::{MAIL_UNKNOWN, SLICE};
use exuvia_process::call::{Ending, ReductionDebt};
use exuvia_process::resource::Resource;
use exuvia_process::{ExitReason, transaction};
use wasmtime::{AsContextMut, Store};

use crate::WASM_PAGE;
use crate::error::panic_text;
use crate::guest::GuestProcess;
use crate::instance::factory::Factory;
use crate::instance::setup::{Handles, set_bits, to_bits, use_fibers};
use crate::instance::store::{Denied, FrameData, Mode, forget_exception, forget_mail};
use crate::suspend::fiber;

/// An instance and the base that it is compared with. The store's data refers to it too: a
/// suspended guest copies its own state from inside the call.
pub(crate) struct InstanceHandles {
    handles: Handles,
    base: Arc<Base>,
    factory: Arc<Factory>,
    /// Of the memory.
    extent: Arc<Extent>,
}

impl InstanceHandles {
    /// Returns the base of the version.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }
}

/// The most bytes of pages that stay with a frame behind the end of its memory, for the next process
/// that grows. They count as its own.
const MOST_KEPT: u64 = 64 * 1024;

impl std::fmt::Debug for InstanceHandles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceHandles").finish_non_exhaustive()
    }
}

/// A frame's store, and what it takes to use it.
pub(crate) struct Instance {
    store: Store<FrameData>,
    inside: Arc<InstanceHandles>,
    scratch: Scratch,
}

/// How an entry ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// `run` returned.
    Returned {
        /// The result of `run`.
        result: i32,
        /// The number of messages that it took.
        taken: u32,
        /// It has taken none, but may not have seen all: they were withheld for an upgrade, or more
        /// have arrived since the entry began. That includes what its own `receive` has taken over
        /// and did not want: the next entry may want it, and nothing else would cause that entry if
        /// it was taken over in an earlier turn or from a backlog.
        unseen: bool,
    },
    /// The guest is suspended; `Guest::wait` says why.
    Suspended,
    /// The guest ended its process.
    Exited(ExitReason),
    /// A signal ended the process.
    Ended(ExitReason),
    /// The guest trapped, or broke the contract.
    Trapped(ExitReason),
    /// The host panicked while it served the guest; the frame cannot be used again.
    Panicked(ExitReason),
}

/// The result of a call into the guest: the process and how the call ended. `None`: the
/// call was cancelled, and the process is with the canceller.
pub(crate) type Ended = Option<(Box<GuestProcess>, Outcome)>;

/// How a call into the guest ended, unless it was cancelled.
enum Called {
    /// The result of `run`, and the reductions that are left.
    Returned(i32, i32),
    Failed(wasmtime::Error),
    Panicked(String),
}

impl InstanceHandles {
    fn dead_stack(&self, store: &mut impl AsContextMut<Data = FrameData>) -> Range<usize> {
        let top = self
            .handles
            .stack_pointer
            .and_then(|pointer| pointer.get(&mut *store).i32());
        0..top.map_or(0, |top| top.cast_unsigned() as usize)
    }

    /// Appends the values of the mutable globals.
    fn read_globals(
        &self,
        store: &mut impl AsContextMut<Data = FrameData>,
        globals: &mut Vec<u128>,
    ) {
        let handles = self.handles.globals.iter();
        globals.extend(handles.map(|global| to_bits(&global.get(&mut *store))));
    }

    /// Sets `scratch.ranges` to the pages that are written, also behind the end of the memory. They
    /// are still right if this thread is the last that measured them and has had no page fault since.
    fn find_written(&self, store: &mut impl AsContextMut<Data = FrameData>, scratch: &mut Scratch) {
        let page_map = &self.factory.plan.page_map;
        let faults = page_map.faults();
        let mut store = store.as_context_mut();
        let before = std::mem::replace(&mut store.data_mut().faults, faults);
        if faults.is_none() || faults != before {
            scratch.ranges.clear();
            let memory = self.handles.memory.data(&store);
            page_map.dirty_up_to(memory, self.extent.reached(), &mut scratch.ranges);
        }
    }

    /// Returns the image, and leaves memory as it is or resets it to the base. The globals
    /// stay in `scratch` as they were.
    fn image(
        &self,
        store: &mut impl AsContextMut<Data = FrameData>,
        after: After,
        scratch: &mut Scratch,
    ) -> Image {
        scratch.globals.clear();
        self.read_globals(store, &mut scratch.globals);
        let dead = self.dead_stack(store);
        self.find_written(store, scratch);
        let memory = self.handles.memory.data_mut(&mut *store);
        Image::take(memory, &self.base, dead, after, scratch)
    }

    /// Returns a copy of the state of a process that is suspended.
    pub(crate) fn copy(&self, store: &mut impl AsContextMut<Data = FrameData>) -> Image {
        let mut scratch = Scratch::default();
        self.read_globals(store, &mut scratch.globals);
        let dead = self.dead_stack(store);
        let memory = self.handles.memory.data_mut(&mut *store);
        // The frame's own record of written pages is out of reach here.
        self.factory
            .plan
            .page_map
            .dirty(memory, &mut scratch.ranges);
        Image::take(memory, &self.base, dead, After::Keep, &mut scratch)
    }
}

impl Instance {
    pub(crate) fn new(
        mut store: Store<FrameData>,
        handles: Handles,
        base: Arc<Base>,
        factory: Arc<Factory>,
        extent: Arc<Extent>,
    ) -> Instance {
        let inside = Arc::new(InstanceHandles {
            handles,
            base,
            factory,
            extent,
        });
        store.data_mut().inside = Some(inside.clone());
        Instance {
            store,
            inside,
            scratch: Scratch::default(),
        }
    }

    /// Returns the image, and leaves the frame as it is or resets it to the base.
    pub(crate) fn save(&mut self, after: After) -> Image {
        let image = self.inside.image(&mut self.store, after, &mut self.scratch);
        if after == After::Reset {
            self.reset_globals();
        }
        image
    }

    /// Resets the globals to the base from the values in `scratch`.
    fn reset_globals(&mut self) {
        let inside = &*self.inside;
        let globals = inside.handles.globals.iter().zip(&self.scratch.globals);
        for ((global, value), base) in globals.zip(&inside.base.globals) {
            if value != base {
                set_bits(global, &mut self.store, *base);
            }
        }
    }

    /// Resets the frame to the base.
    pub(crate) fn reset(&mut self) {
        let (inside, scratch) = (&*self.inside, &mut self.scratch);
        inside.find_written(&mut self.store, scratch);
        let memory = inside.handles.memory.data_mut(&mut self.store);
        inside.base.restore(memory, &scratch.ranges);
        scratch.globals.clear();
        inside.read_globals(&mut self.store, &mut scratch.globals);
        self.reset_globals();
    }

    /// Changes the memory to the size of an image of so many pages. The frame must be in
    /// base state. Returns `Ok(false)` if the system is out of memory or mappings.
    pub(crate) fn resize(&mut self, pages: u32) -> Result<bool, String> {
        let memory = self.inside.handles.memory;
        let (has, wants) = (memory.size(&self.store), u64::from(pages));
        if wants < has {
            return self.shrink(pages);
        }
        if wants == has {
            return Ok(true);
        }
        self.store.data_mut().limiter.bytes = u64::MAX;
        match memory.grow(&mut self.store, wants - has) {
            Ok(_) => Ok(true),
            Err(_) if self.store.data().limiter.denied == Denied::System => Ok(false),
            Err(error) => Err(format!(
                "its memory could not be grown for an image: {error}"
            )),
        }
    }

    fn shrink(&mut self, pages: u32) -> Result<bool, String> {
        // No image is smaller than the base, and below that are the pages that frames
        // share.
        let pages = pages.max(self.inside.base.memory_pages);
        let bytes = pages as usize * WASM_PAGE as usize;
        // In base state all of them are zero.
        let stays = total_from(&self.scratch.ranges, bytes) <= MOST_KEPT;
        self.shrink_to(bytes, stays)
    }

    /// `stays`: whether the pages behind the end stay where they are, if the memory is packed. They must
    /// be zero.
    fn shrink_to(&mut self, bytes: usize, stays: bool) -> Result<bool, String> {
        let inside = &*self.inside;
        let (extent, memory) = (&inside.extent, &inside.handles.memory);
        let done = linear_memory::shrink(extent, &mut self.store, memory, bytes, stays)
            .map_err(|error| error.to_string())?;
        if done == Some(false) {
            // The written pages below the new end are the same as before.
            let ranges = &mut self.scratch.ranges;
            ranges.retain_mut(|range| {
                range.end = range.end.min(bytes);
                range.start < range.end
            });
        }
        Ok(done.is_some())
    }

    /// Returns the bytes of written pages, as measured by the last image or reset.
    pub(crate) fn written(&self) -> u64 {
        total(&self.scratch.ranges)
    }

    /// Gives the pages back to the system. The frame is in base state before and after.
    pub(crate) fn release(&mut self) -> Result<(), String> {
        let bytes = self.inside.handles.memory.data_size(&self.store);
        self.shrink_to(bytes, false)?;
        let (inside, scratch) = (&*self.inside, &mut self.scratch);
        let memory = inside.handles.memory.data_mut(&mut self.store);
        exuvia_image::release(memory);
        inside.base.restore(memory, &inside.base.written);
        self.store.data_mut().faults = None;
        inside.find_written(&mut self.store, scratch);
        Ok(())
    }

    /// Loads an image into the frame, which must be in base state and have a memory of the
    /// image's size.
    pub(crate) fn load(&mut self, image: &Image) -> Result<(), String> {
        let handles = &self.inside.handles;
        let memory = handles.memory;
        let globals = image.apply(memory.data_mut(&mut self.store));
        for (index, value) in globals {
            if let Some(global) = handles.globals.get(index) {
                set_bits(global, &mut self.store, value);
            }
        }
        Ok(())
    }

    /// Returns the size of its memory in Wasm pages.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.inside.handles.memory.size(&self.store)).unwrap_or(u32::MAX)
    }

    /// Takes the resource of a process that was ended in a function of the host.
    pub(crate) fn take_lent(&mut self) -> Option<Box<dyn Resource>> {
        self.store.data_mut().lent.take()
    }

    /// Prepares the frame for use by this thread. What another thread has measured of its
    /// pages may not be true afterwards.
    #[inline]
    pub(crate) fn here(&mut self) {
        let data = self.store.data_mut();
        if data.faults.is_some_and(|faults| !faults.are_ours()) {
            data.faults = None;
        }
    }

    /// Sets whether the next entry continues what a continuation in guest memory waits for.
    pub(crate) fn set_continues(&mut self, continues: bool) {
        self.store.data_mut().continues = continues;
    }

    /// Moves its guest to fibers for good.
    pub(crate) async fn use_fibers(&mut self) -> wasmtime::Result<()> {
        let inside = &*self.inside;
        let imports = &inside.factory.imports;
        use_fibers(&mut self.store, &inside.handles.instance, imports).await
    }

    /// Puts a process into the store. Returns the number of waiting messages that the guest
    /// is told, or [`MAIL_UNKNOWN`].
    fn admit(&mut self, mut process: Box<GuestProcess>) -> i32 {
        let data = self.store.data_mut();
        data.limiter.bytes = process.limits().memory;
        data.limiter.denied = Denied::No;
        // In probation the host limits how many messages an entry takes.
        data.mail_known = transaction::open(&mut process).is_none();
        let mail = match data.mail_known {
            true => i32::try_from(process.inbox_len()).unwrap_or(MAIL_UNKNOWN),
            false => MAIL_UNKNOWN,
        };
        data.arrivals = process.arrivals();
        data.withheld = false;
        data.process = Some(process);
        data.mode = Mode::Run;
        data.exit = None;
        data.last_error = None;
        data.taken = 0;
        data.debt = ReductionDebt::default();
        data.slices = 0;
        mail
    }

    /// Enters `run` with a process on this thread's stack, until it returns or fails. If
    /// the guest waits, this thread blocks in place (see `blocked`).
    pub(crate) fn run_here(&mut self, process: Box<GuestProcess>) -> Ended {
        let mail = self.admit(process);
        let enter = &self.inside.handles.enter;
        // A panic of a host call must not lose the process.
        let called = catch_unwind(AssertUnwindSafe(|| enter.call(&mut self.store, mail)));
        self.ended(match called {
            Ok(Ok((result, left))) => Called::Returned(result, left),
            Ok(Err(error)) => Called::Failed(error),
            Err(panic) => Called::Panicked(panic_text(&*panic)),
        })
    }

    /// Enters `run` with a process, until it returns or fails. While the guest is
    /// suspended, the poller has the process (see `suspend::fiber`).
    pub(crate) async fn run(
        mut self: Box<Instance>,
        process: Box<GuestProcess>,
    ) -> (Box<Instance>, Ended) {
        let mail = self.admit(process);
        let called = {
            let body = &mut *self;
            let enter = &body.inside.handles.enter;
            let mut call = pin!(enter.call_async(&mut body.store, mail));
            poll_fn(|context| {
                if fiber::take_cancel() {
                    return Poll::Ready(None);
                }
                // A panic of a host call must not lose the process.
                let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
                Poll::Ready(Some(match polled {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(Ok((result, left)))) => Called::Returned(result, left),
                    Ok(Poll::Ready(Err(error))) => Called::Failed(error),
                    Err(panic) => Called::Panicked(panic_text(&*panic)),
                }))
            })
            .await
        };
        let ended = match called {
            Some(called) => self.ended(called),
            None => None,
        };
        (self, ended)
    }

    fn ended(&mut self, called: Called) -> Ended {
        let left = match &called {
            Called::Returned(_, left) => *left,
            // Reductions that were spent before the failure count too.
            Called::Failed(_) | Called::Panicked(_) => {
                forget_mail(&mut self.store);
                let counter = self.inside.handles.reductions;
                counter.get(&mut self.store).i32().unwrap_or(0)
            }
        };
        let data = self.store.data_mut();
        let mut process = match data.process.take() {
            Some(process) => process,
            // A function of the host has failed that may wait.
            None => {
                let mut process = fiber::take_suspended().or_else(fiber::take_resumed)?;
                process.guest().and_then(|guest| guest.wait.take());
                process
            }
        };
        // It is still here if the function has failed that it was lent to.
        if let Some(lent) = data.lent.take()
            && let Some(guest) = process.guest()
        {
            guest.resources().put(lent);
        }
        process.reductions += u64::try_from(SLICE.saturating_sub(left)).unwrap_or(0);
        if let Called::Failed(error) = &called {
            forget_exception(&mut self.store, error);
        }
        let data = self.store.data_mut();
        let outcome = match called {
            Called::Returned(result, _) => Outcome::Returned {
                result,
                taken: data.taken,
                unseen: data.taken == 0 && (data.withheld || process.arrivals() != data.arrivals),
            },
            Called::Failed(error) => match data.exit.take() {
                Some(Ending::Itself(reason)) => Outcome::Exited(reason),
                Some(Ending::Signal(reason)) => Outcome::Ended(reason),
                Some(Ending::Fault(reason)) => Outcome::Trapped(reason),
                None => {
                    let denied = data.limiter.denied;
                    let said = data.last_error.take();
                    let plan = &self.inside.factory.plan;
                    // This reads names from the module, which may contain anything.
                    let reason = catch_unwind(AssertUnwindSafe(|| {
                        backtrace::reason(&error, plan, said, denied)
                    }));
                    match reason {
                        Ok(reason) => Outcome::Trapped(reason),
                        Err(panic) => panicked(&panic_text(&*panic)),
                    }
                }
            },
            Called::Panicked(text) => panicked(&text),
        };
        Some((process, outcome))
    }
}

/// Returns the outcome of an entry in which the host has panicked.
pub(crate) fn panicked(text: &str) -> Outcome {
    let text = format!("the host failed while serving the process: {text}");
    Outcome::Panicked(ExitReason::with(Reason::INTERNAL.0, text.as_bytes()))
}
