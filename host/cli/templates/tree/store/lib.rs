//! Keeps what the workers have done.

use std::collections::BTreeMap;

use exuvia::prelude::*;
use protocol::Store;

#[derive(Serialize, Deserialize, Saved)]
struct State {
    done: BTreeMap<String, u64>,
}

#[exuvia::actor(schema = 1, protocol = protocol::Store)]
impl Actor for State {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(State {
            done: BTreeMap::new(),
        })
    }
}

impl Store for State {
    fn done(&mut self, worker: String, pieces: u64) {
        *self.done.entry(worker).or_default() += pieces;
    }

    fn total(&self) -> u64 {
        self.done.values().sum()
    }
}
