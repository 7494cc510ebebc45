//! The inside of a frame: bringing images in and out of an instance.
//!
//! It lies in the store's data, so that it is at hand wherever a command finds
//! the frame: between two calls, or inside the one that is not left between
//! two processes (see `frame`).

use std::ops::Range;
use std::sync::Arc;

use exuvia_abi::exports;
use wasmtime::{AsContextMut, Store};

use crate::artifact::Plan;
use crate::data::{FrameData, Mode};
use crate::guest::GuestOwn;
use crate::image::{After, Base, Image, Scratch};
use crate::pagemap;
use crate::setup::{CROSSING_REDUCTIONS, Handles, function, restricted, set_bits, to_bits};

/// What a frame works with.
pub(crate) struct Body {
    pub(crate) handles: Handles,
    base: Arc<Base>,
    pub(crate) plan: Arc<Plan>,
    scratch: Scratch,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

impl Body {
    pub(crate) fn new(handles: Handles, base: Arc<Base>, plan: Arc<Plan>) -> Body {
        Body {
            handles,
            base,
            plan,
            scratch: Scratch::default(),
        }
    }

    fn dead_stack(&self, store: &mut impl AsContextMut<Data = FrameData>) -> Range<usize> {
        let top = self
            .handles
            .stack_pointer
            .and_then(|pointer| pointer.get(&mut *store).i32());
        0..top.map_or(0, |top| top.cast_unsigned() as usize)
    }

    fn read_globals(&self, store: &mut impl AsContextMut<Data = FrameData>) -> Vec<u128> {
        self.handles
            .globals
            .iter()
            .map(|global| to_bits(&global.get(&mut *store)))
            .collect()
    }

    /// Takes the image, and leaves it in the frame or brings the frame to the base.
    pub(crate) fn save(
        &mut self,
        store: &mut impl AsContextMut<Data = FrameData>,
        after: After,
    ) -> Image {
        let globals = self.read_globals(store);
        let dead = self.dead_stack(store);
        let memory = self.handles.memory.data_mut(&mut *store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        let image = Image::take(memory, &globals, &self.base, dead, after, &mut self.scratch);
        if after == After::Reset {
            self.reset_globals(store, &globals);
        }
        image
    }

    fn reset_globals(&self, store: &mut impl AsContextMut<Data = FrameData>, now: &[u128]) {
        for ((global, value), base) in self.handles.globals.iter().zip(now).zip(&self.base.globals)
        {
            if value != base {
                set_bits(global, store, *base);
            }
        }
    }

    /// Brings the frame to the base.
    pub(crate) fn reset(&mut self, store: &mut impl AsContextMut<Data = FrameData>) {
        let memory = self.handles.memory.data_mut(&mut *store);
        self.scratch.ranges.clear();
        self.plan.page_map.dirty(memory, &mut self.scratch.ranges);
        self.base.restore(memory, &self.scratch.ranges);
        let globals = self.read_globals(store);
        self.reset_globals(store, &globals);
    }

    /// Whether an image can be applied without growing the memory.
    pub(crate) fn fits(
        &self,
        store: &mut impl AsContextMut<Data = FrameData>,
        image: &Image,
    ) -> bool {
        u64::from(image.memory_pages()) <= self.handles.memory.size(&*store)
    }

    /// Makes the memory as large as the image's.
    pub(crate) async fn grow(&self, store: &mut Store<FrameData>, image: &Image) {
        let memory = self.handles.memory;
        let has = memory.size(&*store);
        let wants = u64::from(image.memory_pages()).max(has);
        store.data_mut().limiter.bytes = u64::MAX;
        if memory.grow_async(&mut *store, wants - has).await.is_err() {
            tracing::error!(wants, "a frame's memory could not be grown for an image");
        }
        pagemap::prepare(memory.data(&*store));
    }

    /// Puts an image that fits into the frame, which stands at the base.
    pub(crate) fn load(&mut self, store: &mut impl AsContextMut<Data = FrameData>, image: &Image) {
        let globals = image.apply(self.handles.memory.data_mut(&mut *store));
        for (index, value) in globals {
            if let Some(global) = self.handles.globals.get(index) {
                set_bits(global, store, value);
            }
        }
    }

    /// Wasm pages of its memory.
    pub(crate) fn pages(&self, store: &mut impl AsContextMut<Data = FrameData>) -> u32 {
        u32::try_from(self.handles.memory.size(&*store)).unwrap_or(u32::MAX)
    }

    /// Lets a process in, right before `run` is entered.
    pub(crate) fn enter(
        &self,
        store: &mut impl AsContextMut<Data = FrameData>,
        own: Box<GuestOwn>,
    ) {
        let mut store = store.as_context_mut();
        let data = store.data_mut();
        data.limiter.bytes = own.limits().memory;
        data.limiter.denied = false;
        data.own = Some(own);
        data.mode = Mode::Run;
        data.exit = None;
        data.last_error = None;
        data.taken = 0;
    }

    /// Calls `save`.
    pub(crate) async fn call_save(
        &mut self,
        store: &mut Store<FrameData>,
    ) -> Result<Vec<u8>, String> {
        let save = function::<(), i32>(store, &self.handles.instance, exports::SAVE)
            .ok_or("the old version exports no `save`")?;
        let (result, restricted) = restricted(
            store,
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
    pub(crate) async fn call_load(
        &mut self,
        store: &mut Store<FrameData>,
        schema: i32,
        state: Vec<u8>,
    ) -> Result<(), String> {
        let load = function::<(i32, i32), i32>(store, &self.handles.instance, exports::LOAD)
            .ok_or("the new version exports no `load`")?;
        let length = i32::try_from(state.len()).map_err(|_| "the state is too large")?;
        let (result, _) = restricted(
            store,
            "`load`",
            CROSSING_REDUCTIONS,
            Some(state),
            &self.plan,
            async |store| load.call_async(store, (schema, length)).await,
        )
        .await;
        let said = store.data_mut().last_error.take();
        match (result?, said) {
            (0, _) => Ok(()),
            (code, None) => Err(format!("`load` answered {code}")),
            (_, Some(said)) => Err(format!("`load` refused it: {said}")),
        }
    }
}
