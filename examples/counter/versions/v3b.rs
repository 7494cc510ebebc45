//! Version 3b: version 3 with two fields of the same type exchanged. If the memory
//! was reused, `count` and `last_seq` would silently change places; the layout's
//! fingerprint differs, so the state is loaded by names. Replies show both.

use exuvia::prelude::*;

/// Sent in every reply; distinct, so that v3 is never mistaken for it.
const VERSION: u32 = 31;

#[derive(Serialize, Deserialize, Layout, Saved)]
struct Counter {
    /// The number of the previous request.
    last_seq: u64,
    /// The number of requests handled, plus the initial value.
    count: u64,
    /// The number of requests handled since version 3.
    #[serde(default)]
    since: u64,
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

#[exuvia::actor(schema = 2, layout)]
impl Actor for Counter {
    type Args = Args;
    type Request = Request;
    type Reply = Reply;

    fn init(args: Args, _: &mut Context) -> Result<Self, String> {
        Ok(Counter {
            count: args.start,
            last_seq: 0,
            since: 0,
        })
    }

    fn handle_call(
        &mut self,
        Request { seq }: Request,
        _from: Caller<Reply>,
        _: &mut Context,
    ) -> Option<Reply> {
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
