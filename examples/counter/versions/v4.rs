//! Version 4, broken: `last_seq` has become a structure, and nothing defines how
//! to create it from a number. No state of the previous versions can be loaded,
//! so the swap is refused before anything has changed.

use exuvia::prelude::*;

/// Sent in every reply.
const VERSION: u32 = 4;

#[derive(Serialize, Deserialize, Layout, Saved)]
struct Counter {
    /// The number of requests handled, plus the initial value.
    count: u64,
    /// The number of the previous request.
    last_seq: Position,
    /// The number of requests handled since version 3.
    #[serde(default)]
    since: u64,
}

/// The structure that replaces the number.
#[derive(Serialize, Deserialize, Layout, Saved)]
struct Position {
    seq: u64,
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
            last_seq: Position { seq: 0 },
            since: 0,
        })
    }

    fn handle_call(
        &mut self,
        Request { seq }: Request,
        _from: Caller<Reply>,
        _: &mut Context,
    ) -> Option<Reply> {
        let previous = std::mem::replace(&mut self.last_seq, Position { seq }).seq;
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
