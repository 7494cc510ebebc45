//! The inside of a frame at rest: the store, and how processes are brought in
//! and out of its instance.

use std::future::poll_fn;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use exuvia_abi::Reason;
use exuvia_process::{ExitReason, Grants};
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi::I32Exit;

use crate::WASM_PAGE;
use crate::artifact::Plan;
use crate::backtrace;
use crate::baton;
use crate::calls::forget_mail;
use crate::data::{Denied, Exit, FrameData, Mode, Toll};
use crate::frame::{panic_text, panicked};
use crate::guest::GuestOwn;
use crate::image::{After, Base, Image, Scratch};
use crate::instrument::{MAIL_UNKNOWN, SLICE};
use crate::pagemap::{self, total};
use crate::setup::{
    CROSSING_REDUCTIONS, Handles, INITIALIZATION, call, initialize, restricted, set_bits, to_bits,
    use_fibers,
};
use crate::transaction::transaction;
use crate::wasi::Wasi;

/// An instance and what it is compared with. The store's data has it too: a
/// guest that is suspended lends a copy of its state from inside the call.
pub(crate) struct Inside {
    handles: Handles,
    base: Arc<Base>,
    plan: Arc<Plan>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

/// What a frame works with.
pub(crate) struct Body {
    store: Store<FrameData>,
    inside: Arc<Inside>,
    scratch: Scratch,
}

/// How an entry ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// `run` has returned.
    Returned {
        /// What it answered.
        result: i32,
        /// Messages that it took.
        taken: u32,
    },
    /// The guest is suspended; `Guest::wait` says why.
    Suspended,
    /// It has ended itself.
    Exited(ExitReason),
    /// A signal has ended it.
    Ended(ExitReason),
    /// The guest trapped, or broke the contract.
    Trapped(ExitReason),
    /// The host panicked while serving it; the frame cannot be used again.
    Panicked(ExitReason),
}

/// What a call into the guest leaves: the process and how the call ended.
/// `None`: it was cancelled, and the process is with whoever did that.
pub(crate) type Ended = Option<(Box<GuestOwn>, Outcome)>;

/// How a call into the guest has ended, unless it was cancelled.
enum Called {
    /// What `run` answered, and the reductions that are left.
    Returned(i32, i32),
    Failed(wasmtime::Error),
    Panicked(String),
}

impl Inside {
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

    /// Has `scratch.ranges` say which pages are written. It said so before, if
    /// the store's data has the faults of that time.
    fn find_written(&self, store: &mut impl AsContextMut<Data = FrameData>, scratch: &mut Scratch) {
        let page_map = &self.plan.page_map;
        let faults = page_map.faults();
        let mut store = store.as_context_mut();
        let before = std::mem::replace(&mut store.data_mut().faults, faults);
        if faults.is_none() || faults != before {
            scratch.ranges.clear();
            page_map.dirty(self.handles.memory.data(&store), &mut scratch.ranges);
        }
    }

    /// Takes the image, and leaves it in memory or brings memory to the base.
    /// The globals, as they are, stay in `scratch`.
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

    /// A copy of the state of a process that is suspended.
    pub(crate) fn copy(&self, store: &mut impl AsContextMut<Data = FrameData>) -> Image {
        let mut scratch = Scratch::default();
        self.read_globals(store, &mut scratch.globals);
        let dead = self.dead_stack(store);
        let memory = self.handles.memory.data_mut(&mut *store);
        // What the frame knows of its pages is not here.
        self.plan.page_map.dirty(memory, &mut scratch.ranges);
        Image::take(memory, &self.base, dead, After::Keep, &mut scratch)
    }
}

impl Body {
    pub(crate) fn new(
        mut store: Store<FrameData>,
        handles: Handles,
        base: Arc<Base>,
        plan: Arc<Plan>,
    ) -> Body {
        let inside = Arc::new(Inside {
            handles,
            base,
            plan,
        });
        store.data_mut().inside = Some(inside.clone());
        Body {
            store,
            inside,
            scratch: Scratch::default(),
        }
    }

    /// Takes the image, and leaves it in the frame or brings the frame to the base.
    pub(crate) fn save(&mut self, after: After) -> Image {
        let image = self.inside.image(&mut self.store, after, &mut self.scratch);
        if after == After::Reset {
            self.reset_globals();
        }
        image
    }

    /// Brings the globals to the base from what `scratch` says they are.
    fn reset_globals(&mut self) {
        let inside = &*self.inside;
        let globals = inside.handles.globals.iter().zip(&self.scratch.globals);
        for ((global, value), base) in globals.zip(&inside.base.globals) {
            if value != base {
                set_bits(global, &mut self.store, *base);
            }
        }
    }

    /// Brings the frame to the base.
    pub(crate) fn reset(&mut self) {
        let (inside, scratch) = (&*self.inside, &mut self.scratch);
        inside.find_written(&mut self.store, scratch);
        let memory = inside.handles.memory.data_mut(&mut self.store);
        inside.base.restore(memory, &scratch.ranges);
        scratch.globals.clear();
        inside.read_globals(&mut self.store, &mut scratch.globals);
        self.reset_globals();
    }

    /// Brings the memory to the size of an image of so many pages; the frame
    /// stands at the base. `Ok(false)`: the system has no room for it.
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
        let inside = &*self.inside;
        // No process has had less: below lies what frames share.
        let bytes = pages.max(inside.base.memory_pages) as usize * WASM_PAGE as usize;
        let memories = &inside.plan.memories;
        let done = memories
            .shrink(&mut self.store, &inside.handles.memory, bytes)
            .map_err(|error| error.to_string())?;
        if done {
            // What was written below is as it was.
            let ranges = &mut self.scratch.ranges;
            ranges.retain_mut(|range| {
                range.end = range.end.min(bytes);
                range.start < range.end
            });
        }
        Ok(done)
    }

    /// Bytes of written pages, as the last image or reset has found them.
    pub(crate) fn written(&self) -> u64 {
        total(&self.scratch.ranges)
    }

    /// Gives the pages back to the system; the frame stands at the base, before
    /// and after.
    pub(crate) fn release(&mut self) {
        let (inside, scratch) = (&*self.inside, &mut self.scratch);
        let memory = inside.handles.memory.data_mut(&mut self.store);
        pagemap::release(memory);
        inside.base.restore(memory, &inside.base.written);
        self.store.data_mut().faults = None;
        inside.find_written(&mut self.store, scratch);
    }

    /// Puts an image into the frame, which stands at the base and has a memory
    /// of the image's size.
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

    /// Wasm pages of its memory.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.inside.handles.memory.size(&self.store)).unwrap_or(u32::MAX)
    }

    /// This thread is about to use the frame. What another knew of its pages
    /// need not be true afterwards.
    #[inline]
    pub(crate) fn here(&mut self) {
        let data = self.store.data_mut();
        if data.faults.is_some_and(|faults| !faults.are_ours()) {
            data.faults = None;
        }
    }

    /// The next entry goes on with what a continuation in guest memory waits for.
    pub(crate) fn goes_on(&mut self, continues: bool) {
        self.store.data_mut().continues = continues;
    }

    /// Has its guest run on fibers from now on.
    pub(crate) async fn use_fibers(&mut self) -> wasmtime::Result<()> {
        use_fibers(&mut self.store, &self.inside.handles.instance).await
    }

    /// Puts a process in. Answers what the guest is told of its mail.
    fn admit(&mut self, mut own: Box<GuestOwn>) -> i32 {
        let data = self.store.data_mut();
        data.limiter.bytes = own.limits().memory;
        data.limiter.denied = Denied::No;
        // In probation the host says how many messages an entry takes.
        data.mail_known = transaction(&mut own).is_none();
        let mail = match data.mail_known {
            true => i32::try_from(own.inbox_len()).unwrap_or(MAIL_UNKNOWN),
            false => MAIL_UNKNOWN,
        };
        data.wasi = own.guest().and_then(|guest| guest.take_wasi());
        data.own = Some(own);
        data.mode = Mode::Run;
        data.exit = None;
        data.last_error = None;
        data.taken = 0;
        data.toll = Toll::default();
        data.slices = 0;
        mail
    }

    /// Enters `run` with a process on this thread's stack, until it returns or
    /// fails. While it waits, it does so on another thread's time (see `aside`).
    pub(crate) fn run_here(&mut self, own: Box<GuestOwn>) -> Ended {
        let mail = self.admit(own);
        let enter = &self.inside.handles.enter;
        // A panic of a host call must not lose the process.
        let called = catch_unwind(AssertUnwindSafe(|| enter.call(&mut self.store, mail)));
        self.ended(match called {
            Ok(Ok((result, left))) => Called::Returned(result, left),
            Ok(Err(error)) => Called::Failed(error),
            Err(panic) => Called::Panicked(panic_text(&*panic)),
        })
    }

    /// Enters `run` with a process, until it returns or fails. Whoever polls is
    /// given the process while it is suspended (see `baton`).
    pub(crate) async fn run(mut self: Box<Body>, own: Box<GuestOwn>) -> (Box<Body>, Ended) {
        let mail = self.admit(own);
        let called = {
            let body = &mut *self;
            let enter = &body.inside.handles.enter;
            let mut call = pin!(enter.call_async(&mut body.store, mail));
            poll_fn(|context| {
                if baton::take_cancel() {
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
            None => {
                // Who is ended in a function of WASI has left its files here.
                self.store.data_mut().wasi = None;
                None
            }
        };
        (self, ended)
    }

    fn ended(&mut self, called: Called) -> Ended {
        let left = match &called {
            Called::Returned(_, left) => *left,
            // Also what was spent before it failed counts.
            Called::Failed(_) | Called::Panicked(_) => {
                forget_mail(&mut self.store);
                let counter = self.inside.handles.reductions;
                counter.get(&mut self.store).i32().unwrap_or(0)
            }
        };
        let data = self.store.data_mut();
        let wasi = data.wasi.take();
        let mut own = match data.own.take() {
            Some(own) => own,
            // A function of WASI has failed.
            None => {
                let mut own = baton::take_suspended().or_else(baton::take_resumed)?;
                own.guest().and_then(|guest| guest.wait.take());
                own
            }
        };
        if let (Some(guest), Some(wasi)) = (own.guest(), wasi) {
            guest.put_wasi(wasi);
        }
        own.reductions += u64::try_from(SLICE.saturating_sub(left)).unwrap_or(0);
        let outcome = match called {
            Called::Returned(result, _) => Outcome::Returned {
                result,
                taken: data.taken,
            },
            Called::Failed(error) => match data.exit.take() {
                Some(Exit::Itself(reason)) => Outcome::Exited(reason),
                Some(Exit::Signal(reason)) => Outcome::Ended(reason),
                Some(Exit::Fault(reason)) => Outcome::Trapped(reason),
                None if let Some(exit) = error.downcast_ref::<I32Exit>() => {
                    Outcome::Exited(exited(exit.0))
                }
                None => {
                    let denied = data.limiter.denied;
                    let said = data.last_error.take();
                    let plan = &self.inside.plan;
                    // What guests and their tools wrote into names is read here.
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
        Some((own, outcome))
    }

    /// Calls `save`.
    pub(crate) async fn call_save(&mut self) -> Result<Vec<u8>, String> {
        let save =
            (self.inside.handles.save.as_ref()).ok_or("the old version exports no `save`")?;
        let (result, restricted) = restricted(
            &mut self.store,
            "`save`",
            CROSSING_REDUCTIONS,
            None,
            &self.inside.plan,
            async |store| call(save, store, ()).await,
        )
        .await;
        match result? {
            0 => restricted
                .state
                .ok_or_else(|| "`save` answered 0 without having called `state_put`".into()),
            code => Err(format!("`save` answered {code}")),
        }
    }

    /// Calls `load` with a state of this schema.
    pub(crate) async fn call_load(&mut self, schema: i32, state: Vec<u8>) -> Result<(), String> {
        let load =
            (self.inside.handles.load.as_ref()).ok_or("the new version exports no `load`")?;
        let length = i32::try_from(state.len()).map_err(|_| "the state is too large")?;
        let (result, _) = restricted(
            &mut self.store,
            "`load`",
            CROSSING_REDUCTIONS,
            Some(state),
            &self.inside.plan,
            async |store| call(load, store, (schema, length)).await,
        )
        .await;
        let said = self.store.data_mut().last_error.take();
        match (result?, said) {
            (0, _) => Ok(()),
            (code, None) => Err(format!("`load` answered {code}")),
            (_, Some(said)) => Err(format!("`load` did not take it: {said}")),
        }
    }

    /// Runs the initialization of a process whose module has its own for each.
    /// It may ask for what the process is granted, and open nothing.
    pub(crate) async fn initialize(&mut self, module: &str, grants: &Grants) -> Result<(), String> {
        let inside = &*self.inside;
        if inside.plan.analysis.uses_wasi() {
            let data = self.store.data_mut();
            data.wasi = match &data.shared {
                Some(shared) => Some(Box::new(Wasi::new(module, grants, &shared.files)?)),
                None => None,
            };
        }
        let instance = &inside.handles.instance;
        let done = initialize(&mut self.store, instance, &inside.plan, &INITIALIZATION).await;
        self.store.data_mut().wasi = None;
        done.map(|_| ()).map_err(|failed| failed.reason)
    }
}

/// The reason of a process that has called WASI's `proc_exit`.
fn exited(status: i32) -> ExitReason {
    match status {
        0 => ExitReason::new(Reason::NORMAL),
        _ => {
            let text = format!("it exited with the status {status}");
            ExitReason::with(Reason::GUEST + status, text.as_bytes())
        }
    }
}
