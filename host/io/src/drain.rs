//! The end of sockets when the node stops. Their clients connect again elsewhere, so they are not told all at once, but in
//! batches; and however many there are, all are told within the time that there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Batches in a second, if a batch is more than one socket.
const BATCHES_PER_S: usize = 10;
/// Of the time that there is, what the batches may take, in quarters. The rest is for clients that answer.
const QUARTERS: u32 = 3;

/// The sockets of a node: WebSockets, connections of TCP and responses in parts.
#[derive(Debug)]
pub(crate) struct Drain {
    open: AtomicUsize,
    /// A permit for each socket that is to end now.
    ends: Semaphore,
    is_running: AtomicBool,
}

/// A socket that is open.
#[derive(Debug)]
pub(crate) struct Drained(Arc<Drain>);

impl Drain {
    pub(crate) fn new() -> Arc<Drain> {
        Arc::new(Drain {
            open: AtomicUsize::new(0),
            ends: Semaphore::new(0),
            is_running: AtomicBool::new(false),
        })
    }

    /// One more socket is open, as long as what is returned exists.
    pub(crate) fn enter(self: &Arc<Drain>) -> Drained {
        self.open.fetch_add(1, Ordering::Relaxed);
        Drained(self.clone())
    }

    /// Ends the sockets, `per_s` in a second, or more if they would not all be told within `time` otherwise. Does not
    /// return: one that is opened meanwhile is to end as well.
    pub(crate) async fn run(&self, per_s: u32, time: Duration) {
        self.is_running.store(true, Ordering::Relaxed);
        let open = self.open.load(Ordering::Relaxed);
        let (batch, pause) = batches(open, per_s, time);
        loop {
            self.ends.add_permits(batch);
            sleep(pause).await;
        }
    }
}

impl Drained {
    /// Returns whether the node stops, so that there is not much time for a client's end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.is_running.load(Ordering::Relaxed)
    }

    /// Waits until this socket is to end.
    pub(crate) async fn turn(&self) {
        // It is never closed.
        if let Ok(permit) = self.0.ends.acquire().await {
            permit.forget();
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns how many sockets end at a time, and how long it is until the next ones do.
fn batches(open: usize, per_s: u32, time: Duration) -> (usize, Duration) {
    let per_s = usize::try_from(per_s).unwrap_or(usize::MAX).max(1);
    let batch = per_s.div_ceil(BATCHES_PER_S);
    let pause = Duration::from_secs_f64(batch as f64 / per_s as f64);
    let time = time / 4 * QUARTERS;
    // The first batch is at the beginning.
    let fit = (time.as_secs_f64() / pause.as_secs_f64()) as usize + 1;
    match batch.saturating_mul(fit) >= open {
        true => (batch, pause),
        // More at a time.
        false => {
            let pause = pause
                .min(Duration::from_secs(1) / BATCHES_PER_S as u32)
                .min(time);
            let fit = match pause.is_zero() {
                true => 1,
                false => (time.as_secs_f64() / pause.as_secs_f64()) as usize + 1,
            };
            // A pause of nothing would not let others run.
            (open.div_ceil(fit), pause.max(Duration::from_millis(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when the last of so many is told, and the largest batch.
    fn last(open: usize, per_s: u32, seconds: u64) -> (Duration, usize) {
        let (batch, pause) = batches(open, per_s, Duration::from_secs(seconds));
        let batches = open.div_ceil(batch).max(1) as u32;
        (pause * (batches - 1), batch)
    }

    #[test]
    fn sockets_are_told_in_batches_within_the_time() {
        let millis = Duration::from_millis;
        // open, per second, seconds: the last one is told after, the batch
        for (open, per_s, seconds, expected) in [
            (0, 1_000, 15, (millis(0), 100)),
            (1, 1_000, 15, (millis(0), 100)),
            (1_000, 1_000, 15, (millis(900), 100)),
            (10_000, 1_000, 15, (millis(9_900), 100)),
            (5, 2, 15, (millis(2_000), 1)),
            (30, 25, 15, (millis(1_080), 3)),
            // They would take longer than there is.
            (100_000, 1_000, 15, (millis(11_200), 885)),
            (1_000_000, 1, 4, (millis(3_000), 32_259)),
            (100, 1, 0, (millis(0), 100)),
        ] {
            let found = last(open, per_s, seconds);
            assert_eq!(found, expected, "{open} at {per_s}/s in {seconds} s");
            assert!(found.0 <= Duration::from_secs(seconds) * 3 / 4);
        }
    }

    #[tokio::test]
    async fn so_many_end_as_there_are_turns_and_new_ones_wait_for_theirs() {
        let drain = Drain::new();
        let sockets: Vec<_> = (0..5).map(|_| drain.enter()).collect();
        assert_eq!(drain.open.load(Ordering::Relaxed), 5);
        let mut turns: Vec<_> = sockets
            .iter()
            .map(|socket| Box::pin(socket.turn()))
            .collect();
        let mut ended = async || {
            let mut ended = Vec::new();
            for (number, turn) in turns.iter_mut().enumerate() {
                tokio::select! {
                    biased;
                    () = turn => ended.push(number),
                    () = std::future::ready(()) => {}
                }
            }
            let count = ended.len();
            for number in ended.into_iter().rev() {
                drop(turns.remove(number));
            }
            count
        };
        assert_eq!(ended().await, 0);
        drain.ends.add_permits(2);
        assert_eq!(ended().await, 2);
        assert_eq!(ended().await, 0);
        drain.ends.add_permits(9);
        assert_eq!(ended().await, 3);
        drop(turns);
        drop(sockets);
        assert_eq!(drain.open.load(Ordering::Relaxed), 0);
    }
}
