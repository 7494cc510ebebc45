//! What acts in the middle of a notification, and turns that a test takes itself.

use super::*;

type Once = Box<dyn FnOnce(&System<()>) + Send>;

/// Acts once, at the moment when a process is scheduled: in the middle of what schedules it.
#[derive(Default)]
pub(super) struct WhenScheduled {
    system: Weak<System<()>>,
    act: Mutex<Option<Once>>,
}

impl WhenScheduled {
    /// Returns a node, and what acts in it. The test runs its processes.
    pub(super) fn new() -> (Arc<System<()>>, Arc<WhenScheduled>) {
        let mut hook = None;
        let system = Arc::new_cyclic(|system| {
            hook = Some(Arc::new(WhenScheduled {
                system: system.clone(),
                ..WhenScheduled::default()
            }));
            System::new(7, PROCESSES, 1, Clock::manual())
        });
        let hook = hook.expect("it was made");
        system.connect(hook.clone());
        (system, hook)
    }

    /// Acts the next time. What it returns will be there.
    pub(super) fn act<R: Send + 'static>(
        &self,
        act: impl FnOnce(&System<()>) -> R + Send + 'static,
    ) -> Arc<Mutex<Option<R>>> {
        let result = Arc::new(Mutex::new(None));
        let there = result.clone();
        let act = Box::new(move |system: &System<()>| {
            *there.lock().unwrap() = Some(act(system));
        });
        *self.act.lock().unwrap() = Some(act);
        result
    }
}

impl Schedule for WhenScheduled {
    fn schedule(&self, _: u32) {
        let act = self.act.lock().unwrap().take();
        if let (Some(act), Some(system)) = (act, self.system.upgrade()) {
            act(&system);
        }
    }
}

pub(super) fn spec() -> SpawnSpec<()> {
    SpawnSpec::new(Body::Guest(()), Limits::default().into(), Payload::empty())
}

/// Takes the private half of a process that is scheduled.
pub(super) fn take_scheduled(system: &System<()>, pid: Pid) -> Box<Process<()>> {
    let slot = system.table.slot(pid.slot()).unwrap();
    assert!(slot.state.transition_to_running());
    slot.take_process().unwrap()
}

/// Lets a process rest.
pub(super) fn put_idle(system: &System<()>, process: Box<Process<()>>) {
    let slot = system.table.slot(process.pid().slot()).unwrap();
    slot.put_process(process);
    let _ = slot.state.transition_to_idle();
}
