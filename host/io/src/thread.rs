//! A thread of tasks that are not of one connection or request.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Runs tasks until it is dropped, which drops them.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: Handle,
    /// Dropped, it ends the thread.
    _ends: oneshot::Sender<()>,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// The system has none.
    pub(crate) fn start(name: &str) -> io::Result<Thread> {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (_ends, end) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error: the sender is gone.
                let _ = runtime.block_on(end);
                runtime.shutdown_background();
            })?;
        Ok(Thread { handle, _ends })
    }

    /// Returns how tasks are started.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_run_until_the_thread_ends() {
        let thread = Thread::start("test").unwrap();
        let ran = thread.handle().block_on(async {
            // Timers are driven as well.
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::spawn(async { 7 }).await
        });
        assert_eq!(ran.unwrap(), 7);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        thread.handle().spawn(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        drop(thread);
        assert!(receiver.recv().is_err(), "the task was dropped");
    }
}
