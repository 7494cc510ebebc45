//! Counters over UDP, as statsd has them: a line `visits:1|c` adds to one, and `visits?` is answered with it. Over HTTP, all
//! of them are shown.

use std::collections::BTreeMap;

use exuvia::http::{Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Event, Socket};

/// The maximum number of counters, and of bytes of a name: anybody may send datagrams.
const COUNTERS: usize = 1_000;
const NAME: usize = 100;

#[derive(Default, Serialize, Deserialize, Saved)]
struct Meter {
    counters: BTreeMap<String, u64>,
    /// Lines that were none of ours.
    invalid: u64,
}

#[exuvia::actor(schema = 1)]
impl Actor for Meter {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Meter::default())
    }

    fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
        let Event::Datagram { peer, bytes } = event else {
            return;
        };
        for line in String::from_utf8_lossy(&bytes).lines() {
            if let Some(name) = line.strip_suffix('?') {
                let count = self.counters.get(name).copied().unwrap_or(0);
                // It may be lost on its way as well.
                let _ = socket.send_to(peer, format!("{name}:{count}\n").as_bytes());
            } else if self.add(line).is_none() {
                self.invalid += 1;
            }
        }
    }

    fn handle_http(&mut self, _: Request, _: Responder, _: &mut Context) -> Option<Response> {
        Some(Response::json(&*self))
    }
}

impl Meter {
    /// Adds what a line says, unless it says nothing, or there are too many counters.
    fn add(&mut self, line: &str) -> Option<()> {
        let (name, by) = line.strip_suffix("|c")?.split_once(':')?;
        let by = by.parse().ok()?;
        let is_new = !self.counters.contains_key(name);
        if name.is_empty() || name.len() > NAME || (is_new && self.counters.len() >= COUNTERS) {
            return None;
        }
        let count = self.counters.entry(name.to_owned()).or_default();
        *count = count.saturating_add(by);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use exuvia::Pid;
    use exuvia::http::{Request, Response};
    use exuvia::socket::{Event, Socket};
    use exuvia::testing::{self, Process};

    use super::{COUNTERS, Meter};

    /// Has a datagram arrive. Returns what is answered.
    fn says(process: &mut Process<Meter>, text: &str) -> String {
        let socket = Socket::from_pid(Pid::from_parts(1, 90));
        let peer = "192.0.2.7:5000".parse().expect("an address");
        let bytes = text.as_bytes().to_vec();
        testing::deliver_event(socket, Event::Datagram { peer, bytes });
        process.run();
        let mut answers = String::new();
        for (to, bytes) in testing::datagrams(socket) {
            assert_eq!(to, peer);
            answers += &String::from_utf8(bytes).expect("text");
        }
        answers
    }

    #[test]
    fn lines_are_counted_and_shown() {
        let mut process = Process::start(&());
        assert_eq!(says(&mut process, "visits:1|c"), "");
        assert_eq!(
            says(&mut process, "visits:2|c\nsales:7|c\nvisits?\nnone?"),
            "visits:3\nnone:0\n"
        );
        for invalid in ["visits", "visits:x|c", ":1|c", "visits:1|ms", "visits:-1|c"] {
            assert_eq!(says(&mut process, invalid), "");
        }
        assert_eq!(
            says(&mut process, &format!("visits:{}|c\nvisits?", u64::MAX)),
            format!("visits:{}\n", u64::MAX)
        );
        let reference = testing::deliver_http(&Request::new("GET", "/"));
        process.run();
        let shown = format!(
            r#"{{"counters":{{"sales":7,"visits":{}}},"invalid":5}}"#,
            u64::MAX
        );
        let response = testing::response_to(reference).expect("a response");
        assert_eq!(response.body, shown.as_bytes());
        assert_eq!(response.status, Response::new(200).status);
    }

    #[test]
    fn whoever_sends_cannot_fill_the_memory() {
        let mut process = Process::start(&());
        for n in 0..COUNTERS + 10 {
            says(&mut process, &format!("c{n}:1|c"));
        }
        assert_eq!(says(&mut process, "c0?\nc1009?"), "c0:1\nc1009:0\n");
        says(&mut process, &format!("{}:1|c", "n".repeat(101)));
        let state = process.state();
        let meter = state.as_ref().expect("a state");
        assert_eq!((meter.counters.len(), meter.invalid), (COUNTERS, 11));
    }
}
