//! Does a piece of work every so often, and tells the store.

use std::time::Duration;

use exuvia::prelude::*;
use protocol::{Change, Store};

#[derive(Serialize, Deserialize)]
struct Worker {
    every: Duration,
}

/// `args` in the manifest.
#[derive(Deserialize)]
struct Args {
    every_ms: u64,
}

/// What it sends itself.
#[derive(Serialize, Deserialize)]
enum Event {
    Work,
}

#[exuvia::actor(schema = 1)]
impl Actor for Worker {
    type Args = Args;
    type Message = Event;

    fn init(args: Args, cx: &mut Context) -> Result<Self, String> {
        let every = Duration::from_millis(args.every_ms);
        cx.send_after(&Event::Work, every)?;
        Ok(Worker { every })
    }

    fn handle(&mut self, Event::Work: Event, _from: Pid, cx: &mut Context) {
        let worker = cx.me().to_string();
        let done = Change::Done { worker, pieces: 1 };
        // The store may be down for a moment: its supervisor starts it again.
        if let Err(error) = Store::whereis("store").and_then(|store| store.send(&done)) {
            exuvia::warn!("the store cannot be told: {error}");
        }
        if let Err(error) = cx.send_after(&Event::Work, self.every) {
            exuvia::error!("no more work: {error}");
        }
    }
}
