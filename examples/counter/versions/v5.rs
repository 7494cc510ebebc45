//! Version 5, broken in another way: it compiles, and loads every state, but it
//! panics when it handles the third request after it took a process over. A
//! check of states cannot see that; only probation does.

use exuvia::prelude::*;

/// Told in every reply.
const VERSION: u32 = 5;

#[derive(Serialize, Deserialize, Layout)]
struct Counter {
    /// How many requests were handled, and what it began with.
    count: u64,
    /// The number of the request before.
    last_seq: u64,
    /// How many of them since version 3.
    #[serde(default)]
    since: u64,
    /// How many of them by this version: not part of the state that crosses.
    #[serde(default, skip_serializing)]
    by_this: u32,
}

#[derive(Deserialize)]
struct Args {
    #[serde(default)]
    start: u64,
}

/// Every request has a number, so that a client sees what is lost or repeated.
#[derive(Serialize, Deserialize)]
struct Request {
    seq: u64,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Reply {
    version: u32,
    count: u64,
    /// The request's number.
    seq: u64,
    /// The number of the request before it.
    previous: u64,
    /// Requests since version 3.
    since: u64,
}

#[exuvia::actor(schema = 3, layout)]
impl Actor for Counter {
    type Args = Args;
    type Request = Request;
    type Reply = Reply;

    fn init(args: Args, _: &mut Context) -> Result<Self, String> {
        Ok(Counter {
            count: args.start,
            last_seq: 0,
            since: 0,
            by_this: 0,
        })
    }

    fn handle_call(
        &mut self,
        Request { seq }: Request,
        _from: Caller<Reply>,
        _: &mut Context,
    ) -> Option<Reply> {
        self.by_this += 1;
        assert!(self.by_this < 3, "version 5 cannot count to three");
        let previous = std::mem::replace(&mut self.last_seq, seq);
        self.count += 1;
        self.since += 1;
        Some(Reply {
            version: VERSION,
            count: self.count,
            seq,
            previous,
            since: self.since,
        })
    }
}
