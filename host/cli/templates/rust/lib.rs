//! A process that counts. `exuvia dev` builds and runs it; change something here
//! while it runs, and it goes on with the new code and the count that it has.

use exuvia::prelude::*;

/// What the process remembers. It crosses to new code by the fields' names: give
/// a new field `#[serde(default)]`, and raise `schema` below.
#[derive(Serialize, Deserialize, Layout)]
struct Counter {
    count: u64,
}

/// What it can be sent: `exuvia send counter '{"Add": 3}'`.
#[derive(Serialize, Deserialize)]
enum Change {
    Add(u64),
}

/// What it can be asked: `exuvia send counter '"Get"' --call`.
#[derive(Serialize, Deserialize)]
enum Query {
    Get,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Counter {
    type Message = Change;
    type Request = Query;
    type Reply = u64;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Counter { count: 0 })
    }

    fn handle(&mut self, Change::Add(by): Change, _from: Pid, _: &mut Context) {
        self.count += by;
        exuvia::info!("the count is {}", self.count);
    }

    fn handle_call(&mut self, _: Query, _: Caller<u64>, _: &mut Context) -> Option<u64> {
        Some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use exuvia::prelude::*;
    use exuvia::testing::{Process, deliver_message, deliver_request, reply_to};

    use super::{Change, Counter, Query};

    #[test]
    fn it_counts() {
        let mut process = Process::<Counter>::start(&());
        deliver_message(Pid::NONE, &Change::Add(3));
        let asked = deliver_request(Pid::NONE, &Query::Get);
        process.run();
        assert_eq!(reply_to::<u64>(asked), Ok(3));
    }
}
