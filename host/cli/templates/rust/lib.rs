//! A process that counts. `exuvia dev` builds and runs it; change something here
//! while it runs, and it goes on with the new code and the count that it has.

use exuvia::prelude::*;

/// What the process can be sent and asked. It also makes `CounterClient`, for
/// processes that do so.
#[exuvia::protocol]
pub trait Counter {
    /// Counts on: `exuvia send counter '{"Add": {"by": 3}}'`.
    fn add(&mut self, by: u64);
    /// The count: `exuvia send counter '"Get"' --call`.
    fn get(&self) -> u64;
}

/// What the process remembers. New code takes it over by the fields' names: give
/// a new field `#[serde(default)]`, and raise `schema` below.
#[derive(Serialize, Deserialize, Layout, Saved)]
struct State {
    count: u64,
}

#[exuvia::actor(schema = 1, layout, protocol = Counter)]
impl Actor for State {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(State { count: 0 })
    }
}

impl Counter for State {
    fn add(&mut self, by: u64) {
        self.count += by;
        exuvia::info!("the count is {}", self.count);
    }

    fn get(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use exuvia::prelude::*;
    use exuvia::testing::{Process, deliver_message, deliver_request, reply_to};

    use super::{CounterMessage, CounterRequest, State};

    #[test]
    fn it_counts() {
        let mut process = Process::<State>::start(&());
        deliver_message(Pid::NONE, &CounterMessage::Add { by: 3 });
        let asked = deliver_request(Pid::NONE, &CounterRequest::Get);
        process.run();
        assert_eq!(reply_to::<u64>(asked), Ok(3));
    }
}
