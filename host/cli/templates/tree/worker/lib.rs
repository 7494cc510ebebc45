//! Does a piece of work every so often, and tells the store.

use std::time::Duration;

use exuvia::prelude::*;
use protocol::StoreClient;

#[derive(Serialize, Deserialize, Saved)]
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
        // The store may be down for a moment: its supervisor starts it again.
        let told = StoreClient::whereis("store").and_then(|store| store.done(worker, 1));
        if let Err(error) = told {
            exuvia::warn!("the store cannot be told: {error}");
        }
        if let Err(error) = cx.send_after(&Event::Work, self.every) {
            exuvia::error!("no more work: {error}");
        }
    }
}
