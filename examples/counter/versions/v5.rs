//! Version 5, broken in another way: it compiles and loads every state, but
//! panics when it handles the third request after it took over a process. A
//! check of states cannot detect that; only probation does.

use exuvia::prelude::*;

/// Sent in every reply.
const VERSION: u32 = 5;

#[derive(Serialize, Deserialize, Layout, Saved)]
struct Counter {
    /// The number of requests handled, plus the initial value.
    count: u64,
    /// The number of the previous request.
    last_seq: u64,
    /// The number of requests handled since version 3.
    #[serde(default)]
    since: u64,
    /// Requests handled by this version: not part of the saved state.
    #[serde(default, skip_serializing)]
    by_this: u32,
}

#[derive(Deserialize)]
struct Args {
    #[serde(default)]
    start: u64,
}

/// Every request has a number, so that a client detects lost or repeated ones.
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
    /// The number of the previous request.
    previous: u64,
    /// The number of requests since version 3.
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
