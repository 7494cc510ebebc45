//! Version 2: replies to every ping with its version.
//!
//! The two versions differ in one constant and in this comment.

use exuvia::prelude::*;

/// Sent in every pong.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize, Layout)]
struct Ponger {
    answered: u64,
}

#[derive(Serialize, Deserialize)]
struct Ping {
    number: u64,
}

#[derive(Serialize, Deserialize)]
struct Pong {
    version: u32,
    number: u64,
    answered: u64,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Ponger {
    type Request = Ping;
    type Reply = Pong;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Ponger { answered: 0 })
    }

    fn handle_call(&mut self, ping: Ping, _: Caller<Pong>, _: &mut Context) -> Option<Pong> {
        self.answered += 1;
        Some(Pong {
            version: VERSION,
            number: ping.number,
            answered: self.answered,
        })
    }
}
