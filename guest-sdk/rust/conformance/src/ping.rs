//! The process of the benchmark: two of them send each other a message to and fro.

use exuvia::prelude::*;

#[derive(Serialize, Deserialize)]
struct Player {
    rounds: u64,
}

#[derive(Serialize, Deserialize)]
enum Message {
    Start { to: Pid, rounds: u64 },
    Ping { left: u64 },
    Pong { left: u64 },
}

#[derive(Serialize, Deserialize)]
enum Request {
    Rounds,
}

#[exuvia::actor(schema = 1)]
impl Actor for Player {
    type Args = Option<()>;
    type Message = Message;
    type Request = Request;
    type Reply = u64;

    fn init(_: Option<()>, _: &mut Context) -> Result<Self, String> {
        Ok(Player { rounds: 0 })
    }

    fn handle(&mut self, message: Message, from: Pid, _: &mut Context) {
        let sent = match message {
            Message::Start { to, rounds } => to.send(&Message::Ping { left: rounds }),
            Message::Ping { left } => {
                self.rounds += 1;
                from.send(&Message::Pong { left })
            }
            Message::Pong { left } => {
                self.rounds += 1;
                match left {
                    0 | 1 => Ok(()),
                    _ => from.send(&Message::Ping { left: left - 1 }),
                }
            }
        };
        if let Err(error) = sent {
            exuvia::warn!("the other one: {error}");
        }
    }

    fn handle_call(
        &mut self,
        Request::Rounds: Request,
        _: Caller<u64>,
        _: &mut Context,
    ) -> Option<u64> {
        Some(self.rounds)
    }
}
