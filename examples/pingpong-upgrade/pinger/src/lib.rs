//! Sends ten pings to the process named `ponger`, one after another, and logs each pong with
//! the version that sent it.
//!
//! It sends each ping after the previous pong has arrived and a pause has passed, so that there
//! is time to replace the ponger in the middle. The request `Report` returns all pongs so far.
//! The arguments are `{pause_ms}`, or none.

use std::time::Duration;

use exuvia::prelude::*;

/// The number of pings.
const PINGS: u64 = 10;

#[derive(Serialize, Deserialize)]
struct Pinger {
    pause: Duration,
    pongs: Vec<Pong>,
}

#[derive(Deserialize)]
struct Args {
    #[serde(default = "half_a_second")]
    pause_ms: u64,
}

fn half_a_second() -> u64 {
    500
}

#[derive(Serialize, Deserialize)]
struct Ping {
    number: u64,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
struct Pong {
    version: u32,
    number: u64,
    answered: u64,
}

/// The message that it sends itself after a pause.
#[derive(Serialize, Deserialize)]
enum Event {
    Next,
}

#[derive(Serialize, Deserialize)]
enum Query {
    Report,
}

#[exuvia::actor(schema = 1)]
impl Actor for Pinger {
    type Args = Args;
    type Message = Event;
    type Request = Query;
    type Reply = Vec<Pong>;

    fn init(args: Args, cx: &mut Context) -> Result<Self, String> {
        let pause = Duration::from_millis(args.pause_ms);
        cx.send_after(&Event::Next, pause)?;
        Ok(Pinger {
            pause,
            pongs: Vec::new(),
        })
    }

    fn handle(&mut self, Event::Next: Event, _from: Pid, cx: &mut Context) {
        let number = self.pongs.len() as u64 + 1;
        // Not a `call`: while it waits for the pong it is at rest, and can itself be upgraded.
        let sent = cx
            .whereis("ponger")
            .and_then(|ponger| ponger.request(&Ping { number }));
        if let Err(error) = sent {
            exuvia::warn!("ping {number}: {error}");
            self.next_after_pause(cx);
        }
    }

    fn handle_call(
        &mut self,
        Query::Report: Query,
        _: Caller<Vec<Pong>>,
        _: &mut Context,
    ) -> Option<Vec<Pong>> {
        Some(self.pongs.clone())
    }

    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        match info {
            Info::Reply(reply) => match reply.decode::<Pong>() {
                Ok(pong) => {
                    exuvia::info!("pong {} of version {}", pong.number, pong.version);
                    self.pongs.push(pong);
                }
                Err(error) => exuvia::warn!("a pong: {error}"),
            },
            Info::Down { reason, .. } => exuvia::warn!("the ponger ended: {}", reason.name()),
            other => exuvia::debug!("{other:?}"),
        }
        if (self.pongs.len() as u64) < PINGS {
            self.next_after_pause(cx);
        } else {
            exuvia::info!("ten pings, ten pongs");
        }
    }
}

impl Pinger {
    fn next_after_pause(&self, cx: &mut Context) {
        if let Err(error) = cx.send_after(&Event::Next, self.pause) {
            cx.stop_saying(Reason(Reason::GUEST), &error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Pinger, Pong, Query};
    use exuvia::testing::{self, Effect, Process};
    use exuvia::{Kind, Message, Pid, Reason};

    const PONGER: Pid = Pid::from_parts(1, 9);

    #[test]
    fn ten_pings_and_no_more() {
        let mut process = Process::<Pinger>::start(&());
        exuvia::register("ponger", PONGER).expect("the name is free");
        for number in 1..=10 {
            testing::effects();
            testing::deliver_message(testing::ME, &Event::Next);
            process.run();
            let effects = testing::effects();
            let [
                Effect::Request {
                    to: PONGER,
                    reference,
                    ..
                },
            ] = &effects[..]
            else {
                panic!("{effects:?}");
            };
            let pong = Pong {
                version: 1,
                number,
                answered: number,
            };
            testing::deliver(Message {
                kind: Kind::Reply,
                sender: PONGER,
                reference: *reference,
                tag: exuvia::tag::TYPED,
                reason: Reason::NORMAL,
                payload: exuvia::encode(&pong).expect("a pong").into(),
            });
            process.run();
        }
        assert!(
            !testing::effects()
                .iter()
                .any(|effect| matches!(effect, Effect::Timer { .. }))
        );
        let reference = testing::deliver_request(PONGER, &Query::Report);
        process.run();
        let pongs: Vec<Pong> = testing::reply_to(reference).expect("a report");
        assert_eq!(pongs.len(), 10);
    }
}
