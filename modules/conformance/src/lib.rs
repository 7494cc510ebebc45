//! What host calls return, wherever a program runs. The same cases are run
//!
//! - by a guest in a node (`host/node/tests/it/sdk.rs`);
//! - by a test in a test's node, and by a unit test in memory (`tests/conformance.rs`).
//!
//! A case makes calls that concern only the calling process and processes that have ended, since
//! in memory no other process exists. A call that is added gets a case here.

mod cases;

pub use cases::{CASES, Case, Here};
use exuvia::{Buffer, Kind, Match, RunResult, Wait};

/// Runs the case whose number is the tag of a REQUEST. Replies its name, what it must note and what
/// it has noted, in three parts; an empty reply: there is no such case.
fn run() -> RunResult {
    let mut buffer = Buffer::new();
    while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
        if message.kind == Kind::Request {
            let message = message.into_owned();
            let case = usize::try_from(message.tag).ok().and_then(|n| CASES.get(n));
            let reply = case.map(|case| {
                let noted = case.run(&Here { post }).join("\n");
                [case.name, &case.expected.join("\n"), &noted].join(PART)
            });
            // A client that has gone needs no reply.
            let _ = message.reply_bytes(0, reply.unwrap_or_default().as_bytes());
        }
    }
    RunResult::Rest
}

/// Separates the parts of a reply.
const PART: &str = "\n\n";

fn post(tag: u32, payload: &[u8]) {
    // A process may send to itself.
    let _ = exuvia::me().send_bytes(tag, payload);
}

exuvia::module!(run = run);
