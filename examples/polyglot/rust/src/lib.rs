//! A station in Rust: see `../README.md`.

use exuvia::prelude::*;

/// The build says it, as this package has one place in its workspace.
const VERSION: i64 = if option_env!("STATION_VERSION_2").is_some() {
    2
} else {
    1
};

/// The state, which every station saves in the same form.
#[derive(Serialize, Deserialize, Saved)]
struct Station {
    passed: i64,
    arrived: i64,
    travelled: i64,
    halted: bool,
    next: String,
}

#[derive(Deserialize)]
struct Args {
    next: String,
}

#[derive(Serialize, Deserialize)]
enum Message {
    /// A token comes by.
    Pass { hops: i64 },
}

#[derive(Serialize, Deserialize)]
enum Request {
    Halt,
    Count,
}

#[derive(Serialize, Deserialize)]
struct Counts {
    language: String,
    version: i64,
    passed: i64,
    arrived: i64,
    travelled: i64,
}

#[exuvia::actor(schema = 1)]
impl Actor for Station {
    type Args = Args;
    type Message = Message;
    type Request = Request;
    type Reply = Option<Counts>;

    fn init(args: Args, _: &mut Context) -> Result<Self, String> {
        Ok(Station {
            passed: 0,
            arrived: 0,
            travelled: 0,
            halted: false,
            next: args.next,
        })
    }

    /// The token is sent on, or has arrived.
    fn handle(&mut self, Message::Pass { hops }: Message, _: Pid, _: &mut Context) {
        let hops = hops + 1;
        self.passed += 1;
        if !self.halted
            && let Ok(to) = exuvia::whereis(&self.next)
            && to.send(&Message::Pass { hops }).is_ok()
        {
            return;
        }
        self.arrived += 1;
        self.travelled += hops;
    }

    fn handle_call(
        &mut self,
        request: Request,
        _: Caller<Option<Counts>>,
        _: &mut Context,
    ) -> Option<Option<Counts>> {
        Some(match request {
            Request::Halt => {
                self.halted = true;
                None
            }
            Request::Count => Some(Counts {
                language: "Rust".to_owned(),
                version: VERSION,
                passed: self.passed,
                arrived: self.arrived,
                travelled: self.travelled,
            }),
        })
    }
}
