//! Lookups of names. The system cannot give one up, so a name that nobody answers for takes a place for long: each process has
//! a share of the places, and holds up no other.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use exuvia_abi::Pid;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Names that are looked up at a time.
pub(super) const LOOKUPS: usize = 64;
/// Those of one process; more of them wait.
pub(super) const LOOKUPS_EACH: usize = 8;

tokio::task_local! {
    /// The process for which a task makes a request. The connector, which hyper calls, does not get it otherwise.
    pub(super) static ASKER: Pid;
}

/// Returns the process for which this task makes a request.
pub(super) fn asker() -> Pid {
    ASKER.try_with(|asker| *asker).unwrap_or(Pid::NONE)
}

/// Looks names up.
#[derive(Debug)]
pub(super) struct Lookups {
    /// Whose threads wait for the system.
    runtime: Handle,
    all: Arc<Semaphore>,
    /// The shares of those who have lookups under way, or wait for one.
    each: Mutex<HashMap<Pid, Arc<Semaphore>, foldhash::fast::FixedState>>,
}

impl Lookups {
    pub(super) fn new(runtime: Handle) -> Arc<Lookups> {
        Arc::new(Lookups {
            runtime,
            all: Arc::new(Semaphore::new(LOOKUPS)),
            each: Mutex::default(),
        })
    }

    /// Looks a name up for a process.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        of: Pid,
        host: &str,
        port: u16,
    ) -> io::Result<Vec<SocketAddr>> {
        let place = self.place(of).await;
        let name = host.to_owned();
        let found = self.runtime.spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            drop(place);
            found.map(Iterator::collect)
        });
        found.await?
    }

    /// Waits for a place of those of a process.
    pub(super) async fn place(self: &Arc<Self>, of: Pid) -> Place {
        let new = || Arc::new(Semaphore::new(LOOKUPS_EACH));
        let share = self.each.lock().entry(of).or_insert_with(new).clone();
        let mut place = Place {
            lookups: self.clone(),
            of,
            share: Some(share.clone()),
            permits: None,
        };
        // Its own first: what waits for that takes nothing from others.
        if let Ok(own) = share.acquire_owned().await
            && let Ok(one) = self.all.clone().acquire_owned().await
        {
            place.permits = Some([own, one]);
        }
        place
    }
}

/// A lookup that is under way, or waits until it may be, as long as this exists.
#[derive(Debug)]
pub(super) struct Place {
    lookups: Arc<Lookups>,
    of: Pid,
    /// Dropped under the lock of all shares: so the last one sees that it is the last.
    share: Option<Arc<Semaphore>>,
    permits: Option<[OwnedSemaphorePermit; 2]>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.permits = None;
        let mut each = self.lookups.each.lock();
        self.share = None;
        // The map has it, and nobody else.
        if each
            .get(&self.of)
            .is_some_and(|share| Arc::strong_count(share) == 1)
        {
            each.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_process_has_a_share_of_the_lookups() {
        let lookups = Lookups::new(Handle::current());
        let (greedy, other) = (Pid::new(1, 1, 0), Pid::new(1, 2, 0));
        let mut held = Vec::new();
        for _ in 0..LOOKUPS_EACH {
            held.push(lookups.place(greedy).await);
        }
        // It waits for its own, and takes nothing from others meanwhile.
        let waits = timeout(Duration::from_millis(20), lookups.place(greedy));
        assert!(waits.await.is_err());
        let name = lookups.look_up(other, "127.0.0.1", 80);
        assert_eq!(name.await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(lookups.each.lock().len(), 1, "nothing is left of it");
        let freed = held.pop();
        assert!(freed.is_some());
        drop(freed);
        held.push(lookups.place(greedy).await);
        drop(held);
        assert!(lookups.each.lock().is_empty());
        assert_eq!(lookups.all.available_permits(), LOOKUPS);
    }
}
