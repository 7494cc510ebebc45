//! Counts the words of one piece after another. It requests the next piece when the counts of
//! the previous one are stored: that is all the backpressure there is.

use std::time::Duration;

use exuvia::prelude::*;
use pipeline_protocol::{Counts, SinkClient, SourceClient};

/// The pause before it retries when a process does not reply.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Serialize, Deserialize)]
struct Worker {
    /// The number of pieces it has counted.
    counted: u64,
}

#[derive(Serialize, Deserialize)]
enum Go {
    On,
}

#[exuvia::actor(schema = 1)]
impl Actor for Worker {
    type Message = Go;

    fn init(_: (), cx: &mut Context) -> Result<Self, String> {
        cx.me().send(&Go::On)?;
        Ok(Worker { counted: 0 })
    }

    async fn handle(&mut self, _: Go, _: Pid, cx: &mut Context) {
        match self.count().await {
            // One piece per message: between two messages it can be upgraded to new code.
            Ok(true) => {
                cx.me().send(&Go::On).ok();
            }
            Ok(false) => exuvia::info!("{} pieces counted", self.counted),
            Err(error) => {
                exuvia::debug!("{error}: once more");
                cx.send_after(&Go::On, PAUSE).ok();
            }
        }
    }
}

impl Worker {
    /// Counts a piece; returns whether there was one.
    async fn count(&mut self) -> Result<bool, Error> {
        let source = SourceClient::whereis("source")?;
        let Some(piece) = source.request_next()?.await? else {
            return Ok(false);
        };
        let mut counts = Counts::new();
        let words = piece.text.split(|c: char| !c.is_alphanumeric());
        for word in words.filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
        // The sink may be restarting. It counts each piece once.
        loop {
            if let Ok(sink) = SinkClient::whereis("sink")
                && let Ok(()) = sink.request_add(piece.id, counts.clone())?.await
            {
                break;
            }
            exuvia::after(PAUSE)?.await;
        }
        source.request_done(piece.id)?.await?;
        self.counted += 1;
        Ok(true)
    }
}
