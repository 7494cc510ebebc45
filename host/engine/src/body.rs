//! The inside of a frame at rest: the store, and how processes are brought in
//! and out of its instance.

use std::future::poll_fn;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use wasmtime::Store;

use crate::artifact::Plan;
use crate::backtrace;
use crate::baton;
use crate::data::{FrameData, Mode};
use crate::frame::{Ended, Outcome, SLICE, panic_text, panicked};
use crate::guest::GuestOwn;
use crate::image::{After, Base, Image, Scratch};
use crate::pagemap;
use crate::setup::{
    CROSSING_REDUCTIONS, Handles, INITIALIZATION, initialize, restricted, set_bits, to_bits,
};

/// What a frame works with.
pub(crate) struct Body {
    store: Store<FrameData>,
    handles: Handles,
    base: Arc<Base>,
    plan: Arc<Plan>,
    /// The mutable globals, as read last.
    globals: Vec<u128>,
    scratch: Scratch,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// How a call into the guest has ended.
enum Called {
    /// What `run` answered, and the reductions that are left.
    Returned(i32, i32),
    Failed(wasmtime::Error),
    Panicked(String),
    Cancelled,
}

impl Body {
    pub(crate) fn new(
        store: Store<FrameData>,
        handles: Handles,
        base: Arc<Base>,
        plan: Arc<Plan>,
    ) -> Body {
        Body {
            store,
            handles,
            base,
            plan,
            globals: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    fn dead_stack(&mut self) -> Range<usize> {
        let top = self
            .handles
            .stack_pointer
            .and_then(|pointer| pointer.get(&mut self.store).i32());
        0..top.map_or(0, |top| top.cast_unsigned() as usize)
    }

    fn read_globals(&mut self) {
        let (store, globals) = (&mut self.store, self.handles.globals.iter());
        self.globals.clear();
        self.globals
            .extend(globals.map(|global| to_bits(&global.get(&mut *store))));
    }

    /// Takes the image, and leaves it in the frame or brings the frame to the base.
    pub(crate) fn save(&mut self, after: After) -> Image {
        self.read_globals();
        let dead = self.dead_stack();
        let memory = self.handles.memory.data_mut(&mut self.store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        let image = Image::take(
            memory,
            &self.globals,
            &self.base,
            dead,
            after,
            &mut self.scratch,
        );
        if after == After::Reset {
            self.reset_globals();
        }
        image
    }

    /// Brings the globals to the base from what was read last.
    fn reset_globals(&mut self) {
        let globals = self.handles.globals.iter().zip(&self.globals);
        for ((global, value), base) in globals.zip(&self.base.globals) {
            if value != base {
                set_bits(global, &mut self.store, *base);
            }
        }
    }

    /// Brings the frame to the base.
    pub(crate) fn reset(&mut self) {
        let memory = self.handles.memory.data_mut(&mut self.store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        self.base.restore(memory, &self.scratch.ranges);
        self.read_globals();
        self.reset_globals();
    }

    /// Puts an image into the frame, which stands at the base. Its memory grows
    /// if the image's is larger.
    pub(crate) async fn load(&mut self, image: &Image) -> Result<(), String> {
        let memory = self.handles.memory;
        let (has, wants) = (memory.size(&self.store), u64::from(image.memory_pages()));
        if wants > has {
            self.store.data_mut().limiter.bytes = u64::MAX;
            memory
                .grow_async(&mut self.store, wants - has)
                .await
                .map_err(|error| format!("its memory could not be grown for an image: {error}"))?;
            pagemap::prepare(memory.data(&self.store));
        }
        let globals = image.apply(memory.data_mut(&mut self.store));
        for (index, value) in globals {
            if let Some(global) = self.handles.globals.get(index) {
                set_bits(global, &mut self.store, value);
            }
        }
        Ok(())
    }

    /// Wasm pages of its memory.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.handles.memory.size(&self.store)).unwrap_or(u32::MAX)
    }

    /// Enters `run` with a process, until it returns or fails. Whoever polls is
    /// given the process while it is suspended (see `baton`).
    pub(crate) async fn run(mut self: Box<Body>, own: Box<GuestOwn>) -> (Box<Body>, Ended) {
        let data = self.store.data_mut();
        data.limiter.bytes = own.limits().memory;
        data.limiter.denied = false;
        data.own = Some(own);
        data.mode = Mode::Run;
        data.exit = None;
        data.last_error = None;
        data.taken = 0;
        let called = {
            let body = &mut *self;
            let mut call = pin!(body.handles.turn.call_async(&mut body.store, ()));
            poll_fn(|context| {
                if baton::take_cancel() {
                    return Poll::Ready(Called::Cancelled);
                }
                // A panic of a host call must not lose the process.
                match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(Ok((result, left)))) => {
                        Poll::Ready(Called::Returned(result, left))
                    }
                    Ok(Poll::Ready(Err(error))) => Poll::Ready(Called::Failed(error)),
                    Err(panic) => Poll::Ready(Called::Panicked(panic_text(&*panic))),
                }
            })
            .await
        };
        let ended = self.ended(called);
        (self, ended)
    }

    fn ended(&mut self, called: Called) -> Ended {
        let left = match &called {
            Called::Returned(_, left) => *left,
            // Also what was charged before it failed counts.
            _ => self
                .handles
                .reductions
                .get(&mut self.store)
                .i32()
                .unwrap_or(0),
        };
        let data = self.store.data_mut();
        let mut own = data.own.take()?;
        own.reductions += u64::try_from(SLICE - left).unwrap_or(0);
        let outcome = match called {
            Called::Returned(result, _) => Outcome::Returned {
                result,
                taken: data.taken,
            },
            Called::Failed(error) => match data.exit.take() {
                Some(reason) => Outcome::Exited(reason),
                None => {
                    let denied = data.limiter.denied;
                    let said = data.last_error.take();
                    Outcome::Trapped(backtrace::reason(&error, &self.plan, said, denied))
                }
            },
            Called::Panicked(text) => panicked(&text),
            // The process is with whoever cancels: it cannot be here.
            Called::Cancelled => Outcome::Suspended,
        };
        Some((own, outcome))
    }

    /// Calls `save`.
    pub(crate) async fn call_save(&mut self) -> Result<Vec<u8>, String> {
        let save = (self.handles.save.as_ref()).ok_or("the old version exports no `save`")?;
        let (result, restricted) = restricted(
            &mut self.store,
            "`save`",
            CROSSING_REDUCTIONS,
            None,
            &self.plan,
            async |store| save.call_async(store, ()).await,
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
        let load = (self.handles.load.as_ref()).ok_or("the new version exports no `load`")?;
        let length = i32::try_from(state.len()).map_err(|_| "the state is too large")?;
        let (result, _) = restricted(
            &mut self.store,
            "`load`",
            CROSSING_REDUCTIONS,
            Some(state),
            &self.plan,
            async |store| load.call_async(store, (schema, length)).await,
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
    pub(crate) async fn initialize(&mut self) -> Result<(), String> {
        let instance = &self.handles.instance;
        initialize(&mut self.store, instance, &self.plan, &INITIALIZATION)
            .await
            .map(|_| ())
            .map_err(|failed| failed.reason)
    }
}
