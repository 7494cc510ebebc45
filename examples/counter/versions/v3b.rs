//! Version 3b: version 3 with two fields of one type exchanged. Carried, `count`
//! and `last_seq` would change places without a word; the layout's fingerprint
//! differs, and so it is loaded by names. Replies show both.

use exuvia::prelude::*;

/// Told in every reply: a number of its own, so that v3 is never taken for it.
const VERSION: u32 = 31;

#[derive(Serialize, Deserialize, Layout)]
struct Counter {
    /// The number of the request before.
    last_seq: u64,
    /// How many requests were handled, and what it began with.
    count: u64,
    /// How many of them since version 3.
    #[serde(default)]
    since: u64,
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
