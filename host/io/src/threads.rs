//! The threads of tasks.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Threads that run tasks until this is dropped. One thread alone runs them without what several need to share them.
#[derive(Debug)]
pub(crate) struct Threads {
    handle: Handle,
    /// Several.
    many: Option<Runtime>,
    /// Ends one.
    ends: Option<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts so many threads, but at least one.
    ///
    /// # Errors
    ///
    /// The system has none.
    pub(crate) fn start(count: usize, name: &str) -> io::Result<Threads> {
        if count > 1 {
            let runtime = Builder::new_multi_thread()
                .worker_threads(count)
                .thread_name(name)
                .enable_all()
                .build()?;
            return Ok(Threads {
                handle: runtime.handle().clone(),
                many: Some(runtime),
                ends: None,
            });
        }
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (ends, end) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error: the sender is gone, which is an end as well.
                let _ = runtime.block_on(end);
                runtime.shutdown_background();
            })?;
        Ok(Threads {
            handle,
            many: None,
            ends: Some(ends),
        })
    }

    /// Returns how tasks are started.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.many.take() {
            runtime.shutdown_background();
        }
        if let Some(ends) = self.ends.take() {
            let _ = ends.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tasks_run_until_the_threads_end() {
        for count in [0, 1, 2] {
            let threads = Threads::start(count, "test").unwrap();
            let ran = threads.handle().block_on(async {
                // Timers are driven as well.
                tokio::time::sleep(Duration::from_millis(1)).await;
                tokio::spawn(async move { count }).await
            });
            assert_eq!(ran.unwrap(), count);
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            threads.handle().spawn(async move {
                let _sender = sender;
                std::future::pending::<()>().await;
            });
            drop(threads);
            assert!(receiver.recv().is_err(), "the task was dropped");
        }
    }
}
