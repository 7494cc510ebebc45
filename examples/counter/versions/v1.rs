//! Version 1: counts its requests. Version 2 must keep every line where it is:
//! line numbers of panics are data, and only with equal data can a process's
//! memory be reused.

use exuvia::prelude::*;

/// Sent in every reply.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize, Layout, Saved)]
struct Counter {
    /// The number of requests handled, plus the initial value.
    count: u64,
    /// The number of the previous request.
    last_seq: u64,
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
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Counter {
    type Args = Args;
    type Request = Request;
    type Reply = Reply;

    fn init(args: Args, _: &mut Context) -> Result<Self, String> {
        Ok(Counter {
            count: args.start,
            last_seq: 0,
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
        Some(Reply {
            version: VERSION,
            count: self.count,
            seq,
            previous,
        })
    }
}
