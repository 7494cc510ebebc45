//! A counter: the smallest useful actor.
//!
//! Send it `Add(n)`; the request `Get` returns `{version, count}`. The arguments are `{start}`,
//! or none.

use exuvia::prelude::*;

/// Sent in every reply, so that a swap is visible from outside.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize, Layout)]
struct Counter {
    count: u64,
}

#[derive(Deserialize)]
struct Args {
    #[serde(default)]
    start: u64,
}

#[derive(Serialize, Deserialize)]
enum Change {
    Add(u64),
}

#[derive(Serialize, Deserialize)]
enum Query {
    Get,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Answer {
    version: u32,
    count: u64,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Counter {
    type Args = Args;
    type Message = Change;
    type Request = Query;
    type Reply = Answer;

    fn init(args: Args, _: &mut Context) -> Result<Self, String> {
        Ok(Counter { count: args.start })
    }

    fn handle(&mut self, Change::Add(by): Change, _from: Pid, _: &mut Context) {
        self.count = self.count.wrapping_add(by);
    }

    fn handle_call(&mut self, _: Query, _: Caller<Answer>, _: &mut Context) -> Option<Answer> {
        Some(Answer {
            version: VERSION,
            count: self.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Change, Counter, Query};
    use exuvia::Pid;
    use exuvia::testing::{self, Process};

    #[test]
    fn it_counts_from_zero() {
        let mut process = Process::<Counter>::start(&());
        testing::deliver_message(Pid::NONE, &Change::Add(2));
        testing::deliver_message(Pid::NONE, &Change::Add(3));
        let reference = testing::deliver_request(Pid::NONE, &Query::Get);
        process.run();
        assert_eq!(
            testing::reply_to(reference),
            Ok(Answer {
                version: 1,
                count: 5
            })
        );
    }
}
