//! Echoes what it receives: a message to its sender with the same tag, a request as its reply.
//! Written as a function, without a state: all its processes have the same memory.

use exuvia::{Buffer, Kind, Match, RunResult, Wait};

fn run() -> RunResult {
    let mut buffer = Buffer::new();
    while let Ok(message) = buffer.receive(Match::Any, Wait::No) {
        // A receiver that has terminated or is full needs no echo.
        let _ = match message.kind {
            Kind::Message => message.sender.send_bytes(message.tag, &message.payload),
            Kind::Request => message.reply_bytes(message.tag, &message.payload),
            _ => Ok(()),
        };
    }
    RunResult::Rest
}

/// There is no state, so an empty one is saved.
fn save() -> bool {
    exuvia::state::put(&[]).is_ok()
}

fn load(_from_schema: i32, _length: usize) -> bool {
    true
}

exuvia::module!(run = run, schema = 1, save = save, load = load);
