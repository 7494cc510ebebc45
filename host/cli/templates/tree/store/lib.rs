//! Keeps what the workers have done.

use std::collections::BTreeMap;

use exuvia::prelude::*;
use protocol::{Change, Query};

#[derive(Serialize, Deserialize)]
struct Store {
    done: BTreeMap<String, u64>,
}

#[exuvia::actor(schema = 1)]
impl Actor for Store {
    type Message = Change;
    type Request = Query;
    type Reply = u64;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Store {
            done: BTreeMap::new(),
        })
    }

    fn handle(&mut self, message: Change, _from: Pid, _: &mut Context) {
        let Change::Done { worker, pieces } = message;
        *self.done.entry(worker).or_default() += pieces;
    }

    fn handle_call(&mut self, _: Query, _: Caller<u64>, _: &mut Context) -> Option<u64> {
        Some(self.done.values().sum())
    }
}
