//! Frames: where images run. A frame is one store and instance of one version, used for one
//! process after another.
//!
//! At rest a frame is plain data (`instance`), and images are loaded and saved by plain
//! calls. A guest that runs on a thread's stack (see `stack_policy`) is a plain call too;
//! if it waits, the instance stays on that stack (`blocked`). While a guest runs on a
//! fiber, the frame is a future that owns the instance: a suspended guest is a future that
//! has not finished, and killing it means dropping the call inside, after which the
//! instance comes back. No async executor is needed: the thread that runs the process
//! polls.
//!
//! Between two processes the memory and the mutable globals are reset to the base. Anything
//! else that could survive in an instance makes its module resident-only, and the frames of
//! such a module are not reused.

use std::borrow::Cow;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

use exuvia_image::{After, Extent, Image};
use exuvia_process::Grants;
use exuvia_process::resource::Resource;
use wasmtime::Store;

use crate::frames::blocked::{BlockedGuest, BlockedHandle};
use crate::frames::call::{Call, call_future};
use crate::frames::mappings;
use crate::guest::{GuestProcess, GuestSystem, Wake};
use crate::host::Host;
use crate::instance::factory::Factory;
use crate::instance::linear_memory::is_out_of_resources;
use crate::instance::setup::{COLLECTION_STEPS, Failed, Setup, at_once, set_up};
use crate::instance::store::FrameData;
use crate::instance::{Ended, Instance, Outcome, panicked};
use crate::module::info::{Artifact, Initialization};
use crate::module::stack_policy::Stack;
use crate::suspend::fiber::{self, FiberRequest};

enum FrameState {
    /// No guest code is in progress.
    Rest(Box<Instance>),
    /// A guest is suspended on its fiber.
    Called,
    /// A guest is blocked in place, on the stack of a thread.
    Blocked(BlockedHandle),
    /// The frame cannot be used. Either a guest runs in it now, or the host has failed in
    /// it, with this error.
    Broken(Cow<'static, str>),
}

/// A frame.
pub(crate) struct Frame {
    state: FrameState,
    call: Box<dyn Call>,
    pages: u32,
    /// Bytes of written pages, as last measured.
    written: u64,
    /// Bytes of written pages when the frame was new.
    first_written: u64,
    /// Where its memory is.
    pub(crate) extent: Arc<Extent>,
    /// Whether its module lets it serve another process.
    pub(crate) reusable: bool,
    /// The stack on which its guest runs.
    stack: Stack,
    /// The system of its processes, if its module imports functions of the host that may wait for the
    /// operating system.
    system: Option<Weak<GuestSystem>>,
    /// Polls a guest that uses these functions.
    in_runtime: fn(&mut dyn FnMut()),
    /// Wakes the process in the frame, if its module imports such functions.
    waker: Option<Waker>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} pages)", self.pages)
    }
}

impl Frame {
    /// Makes a frame in base state for processes of `host`.
    pub(crate) fn new(
        artifact: &Artifact,
        factory: Arc<Factory>,
        host: &Arc<Host>,
        copied_pages: usize,
    ) -> Result<Frame, Failed> {
        let plan = &artifact.plan;
        let setup = Setup {
            factory,
            base: Some(artifact.base.clone()),
            initialize: artifact.initialization == Initialization::Shared,
            memory_limit: u64::MAX,
            copied_pages,
        };
        let stack = match host.threads.get() {
            Some(_) => artifact.stack_policy.stack(),
            None => Stack::Fiber,
        };
        let mut store = Store::new(
            setup.factory.engine(),
            FrameData::new(Some(host.clone()), stack),
        );
        let failed = |reason| Failed {
            stage: "instantiation",
            reason,
            out_of_resources: false,
        };
        let (handles, _) = at_once(set_up(&mut store, &setup)).map_err(failed)??;
        let address = handles.memory.data_ptr(&store);
        let extent = (plan.memories.extent(address))
            .ok_or_else(|| failed("its memory is not one of this host".into()))?;
        let in_runtime = setup.factory.imports.asynchronous.in_runtime;
        let mut body = Box::new(Instance::new(
            store,
            handles,
            artifact.base.clone(),
            setup.factory,
            extent.clone(),
        ));
        body.reset();
        Ok(Frame {
            written: body.written(),
            first_written: body.written(),
            extent,
            stack,
            state: FrameState::Rest(body),
            call: call_future(Instance::run),
            pages: artifact.base.memory_pages,
            reusable: plan.analysis.resident_only.is_empty(),
            system: (plan.analysis.has_async_imports()).then(|| Arc::downgrade(&host.system)),
            in_runtime,
            waker: None,
        })
    }

    /// Returns the stack on which its guest runs.
    pub(crate) fn stack(&self) -> Stack {
        self.stack
    }

    /// Returns the maximum number of its kernel mappings.
    pub(crate) fn mappings(&self) -> usize {
        mappings::of(&self.extent, self.stack)
    }

    /// Moves its guest to fibers for good. Returns `Ok(false)` if the system has no memory
    /// or mappings for a stack.
    pub(crate) fn use_fibers(&mut self) -> Result<bool, String> {
        let done = self.at_rest(async |body| match body.use_fibers().await {
            Ok(()) => Ok(true),
            Err(error) if is_out_of_resources(&error) => Ok(false),
            Err(error) => Err(format!(
                "its guest could not be started on a fiber: {error}"
            )),
        })?;
        if done {
            self.stack = Stack::Fiber;
        }
        Ok(done)
    }

    /// Returns whether it may serve another process.
    pub(crate) fn may_serve_another(&self) -> bool {
        self.reusable && matches!(self.state, FrameState::Rest(_))
    }

    /// Returns the memory of the image in the frame in Wasm pages, as last measured.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Returns the bytes of written pages of its memory, as last measured. A reset to the
    /// base does not give them back.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the written bytes that a new frame would not have.
    pub(crate) fn spare(&self) -> u64 {
        self.written.saturating_sub(self.first_written)
    }

    /// Gives the pages of a frame in base state back to the system.
    pub(crate) fn release(&mut self) {
        // A broken frame is dropped when it is returned to its pool.
        drop(self.at_rest(async |body| body.release()));
    }

    /// Runs the process until it returns, is suspended, or ends; a process that was
    /// suspended in this frame is resumed. The process is returned in any case; `None`
    /// means that a bug of the host has lost it.
    pub(crate) fn run(
        &mut self,
        mut process: Box<GuestProcess>,
    ) -> Option<(Box<GuestProcess>, Outcome)> {
        if let Some(system) = &self.system {
            let pid = process.pid();
            let made = || Wake::new(system.clone(), pid);
            let wake = process.guest().map(|guest| guest.wake(made));
            // The run sees everything that is ready by now.
            wake.as_ref().inspect(|wake| wake.reset());
            self.waker = wake.map(Waker::from);
        }
        match std::mem::replace(&mut self.state, LOST) {
            FrameState::Rest(mut body) => {
                body.here();
                self.call.begin(body, process);
            }
            FrameState::Called => fiber::put_request(FiberRequest::Resume(process)),
            FrameState::Broken(text) => {
                let outcome = panicked(&text);
                self.state = FrameState::Broken(text);
                return Some((process, outcome));
            }
            FrameState::Blocked(held) => {
                self.state = FrameState::Blocked(held);
                return Some((process, panicked("it waits on a thread")));
            }
        }
        for _ in 0..COLLECTION_STEPS {
            match self.poll() {
                // The process of a resume request is still here if a function of the host has not
                // finished.
                Poll::Pending => {
                    let process = fiber::take_suspended().or_else(fiber::take_resumed);
                    if let Some(process) = process {
                        return Some((process, Outcome::Suspended));
                    }
                    // The guest has it and does not wait: its exceptions are being collected.
                }
                Poll::Ready(Some(ended)) => return Some(ended),
                // The call failed before it took the process, or after it gave the process
                // away.
                Poll::Ready(None) => {
                    let process = fiber::take_resumed().or_else(fiber::take_suspended)?;
                    self.state = LOST;
                    return Some((process, panicked("a call has returned without its process")));
                }
            }
        }
        None
    }

    /// Records that the guest on this thread's stack is blocked in place.
    pub(crate) fn block_in_place(&mut self, guest: Arc<BlockedGuest>) {
        self.state = FrameState::Blocked(BlockedHandle::new(guest));
    }

    /// Takes the right to a guest that is blocked in place, if there is one. The frame
    /// cannot be used until the guest waits again or its call ends.
    pub(crate) fn take_blocked(&mut self) -> Option<BlockedHandle> {
        if !matches!(self.state, FrameState::Blocked(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, LOST) {
            FrameState::Blocked(held) => Some(held),
            _ => None,
        }
    }

    /// Takes the instance for an entry on this thread's stack; see `enter`.
    pub(super) fn take_instance(&mut self) -> Option<Box<Instance>> {
        if !matches!(
            (&self.state, self.stack),
            (FrameState::Rest(_), Stack::Thread)
        ) {
            return None;
        }
        match std::mem::replace(&mut self.state, LOST) {
            FrameState::Rest(mut body) => {
                body.here();
                Some(body)
            }
            _ => None,
        }
    }

    /// Records whether `run` returned WAITING at the last entry.
    pub(crate) fn set_continues(&mut self, continues: bool) {
        if let FrameState::Rest(body) = &mut self.state {
            body.set_continues(continues);
        }
    }

    /// Ends the suspended call. The caller has its process. Returns the process's resource that was lent to
    /// the function of the host in which it waited.
    pub(crate) fn cancel(&mut self) -> Option<Box<dyn Resource>> {
        match std::mem::replace(&mut self.state, LOST) {
            FrameState::Blocked(mut held) => {
                if let Some(body) = held.end() {
                    self.rest(body);
                }
            }
            FrameState::Called => {
                fiber::put_cancel();
                let _ = self.poll();
            }
            other => self.state = other,
        }
        match &mut self.state {
            FrameState::Rest(body) => body.take_lent(),
            _ => None,
        }
    }

    /// Returns a copy of the state of the process that is suspended in the frame.
    pub(crate) fn copy(&mut self) -> Option<Image> {
        match std::mem::replace(&mut self.state, LOST) {
            FrameState::Called => {
                fiber::put_request(FiberRequest::Copy);
                let _ = self.poll();
                // A guest in a function of the host does not take the request.
                drop(fiber::take_request());
                if let Some(waker) = &self.waker {
                    // That function may have finished just now; nothing else would wake the
                    // process then.
                    waker.wake_by_ref();
                }
                fiber::take_copy()
            }
            FrameState::Blocked(mut held) => {
                let image = held.copy();
                if image.is_some() {
                    self.state = FrameState::Blocked(held);
                }
                image
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    fn poll(&mut self) -> Poll<Ended> {
        let waker = self.waker.as_ref().unwrap_or(Waker::noop());
        let call = &mut self.call;
        let polled = match self.system {
            Some(_) => {
                let mut polled = None;
                (self.in_runtime)(&mut || polled = call.poll(waker));
                polled
            }
            None => call.poll(waker),
        };
        let (body, ended) = match polled {
            Some(Poll::Ready(ended)) => ended,
            Some(Poll::Pending) => {
                self.state = FrameState::Called;
                return Poll::Pending;
            }
            None => return Poll::Ready(None),
        };
        self.end(body, &ended);
        Poll::Ready(ended)
    }

    /// Handles the end of a call.
    pub(super) fn end(&mut self, body: Box<Instance>, ended: &Ended) {
        if matches!(ended, Some((_, Outcome::Panicked(_)))) {
            self.pages = body.pages();
        } else {
            self.rest(body);
        }
    }

    fn rest(&mut self, body: Box<Instance>) {
        self.pages = body.pages();
        self.state = FrameState::Rest(body);
    }

    /// Changes its memory to the size of an image of so many pages. The frame must be in
    /// base state. Returns `Ok(false)` if the system is out of memory or mappings.
    pub(crate) fn resize(&mut self, pages: u32) -> Result<bool, String> {
        self.at_rest(async |body| body.resize(pages))
    }

    /// Loads an image into the frame, which must be in base state and have a memory of the
    /// image's size.
    pub(crate) fn load(&mut self, image: &Image) -> Result<(), String> {
        self.at_rest(async |body| body.load(image))
    }

    /// Returns the image of the frame's state, and leaves the frame as it is or resets it
    /// to the base.
    pub(crate) fn save(&mut self, after: After) -> Result<Image, String> {
        self.at_rest(async |body| Ok(body.save(after)))
    }

    /// Resets the frame to the base.
    pub(crate) fn reset(&mut self) {
        // A broken frame is never used again.
        drop(self.at_rest(async |body| {
            body.reset();
            Ok(())
        }));
    }

    /// Calls `save` and returns the state.
    pub(crate) fn call_save(&mut self) -> Result<Vec<u8>, String> {
        self.at_rest(Instance::call_save)
    }

    /// Calls `load` with a state of this schema.
    pub(crate) fn call_load(&mut self, schema: i32, state: Vec<u8>) -> Result<(), String> {
        self.at_rest(async |body| body.call_load(schema, state).await)
    }

    /// Runs the initialization of a process, if its module runs it for each process. The
    /// frame must be in base state.
    pub(crate) fn initialize(
        &mut self,
        artifact: &Artifact,
        module: &str,
        grants: &Grants,
    ) -> Result<(), String> {
        match artifact.initialization {
            Initialization::Shared => Ok(()),
            Initialization::PerProcess(_) => {
                self.at_rest(async |body| body.initialize(module, grants).await)
            }
        }
    }

    /// Calls `act` with the instance of a frame at rest. `act` may run guest code, which is
    /// never suspended there.
    fn at_rest<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Instance) -> Result<T, String>,
    ) -> Result<T, String> {
        let body = match &mut self.state {
            FrameState::Rest(body) => body,
            FrameState::Called | FrameState::Blocked(_) => {
                return Err("a process is suspended in the frame".into());
            }
            FrameState::Broken(text) => return Err(text.to_string()),
        };
        body.here();
        match at_once(act(body)) {
            Ok(result) => {
                self.pages = body.pages();
                self.written = body.written();
                result
            }
            Err(text) => {
                tracing::error!("a frame is dropped: {text}");
                self.state = FrameState::Broken(text.clone().into());
                Err(text)
            }
        }
    }
}

/// The state of a frame while a guest runs in it, and after the host has failed in it.
const LOST: FrameState =
    FrameState::Broken(Cow::Borrowed("the host failed while a process ran in it"));
