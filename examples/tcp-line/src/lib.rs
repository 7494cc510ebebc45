//! A calculator with a line protocol: numbers go on a stack, words such as `+` take theirs from it, and each line is
//! answered with what is on top. A process for each client, whose stack outlives new code.

use exuvia::prelude::*;
use exuvia::socket::{Event, Socket};

/// The maximum number of bytes of a line: more without an end is no line of ours.
const LONGEST_LINE: usize = 1_024;
/// The maximum number of numbers on the stack.
const DEEPEST: usize = 1_000;

#[derive(Serialize, Deserialize, Layout, Saved)]
struct Calculator {
    stack: Vec<i64>,
    /// The beginning of a line whose end has not arrived yet.
    begun: Vec<u8>,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Calculator {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Calculator {
            stack: Vec::new(),
            begun: Vec::new(),
        })
    }

    async fn handle_socket(&mut self, socket: Socket, event: Event, cx: &mut Context) {
        let is_open = match event {
            Event::Open(_) => is_written(socket, "numbers, and + - * / swap drop stack\n").await,
            Event::Data(bytes) => self.received(socket, &bytes).await,
            // What has no end of line is a line as well if nothing follows.
            Event::End if !self.begun.is_empty() && !self.received(socket, b"\n").await => false,
            Event::End => {
                // Both sides have ended now, so the connection is closed, and this process with it.
                let _ = socket.end();
                true
            }
            Event::Text(_) | Event::Datagram { .. } | Event::Closed { .. } => true,
        };
        if !is_open {
            // The client is gone, takes nothing or sends no lines: the socket ends with this process.
            cx.stop(Reason::NORMAL);
        }
    }
}

/// Writes something, and waits until the system has taken it: a client that does not read is not read from.
async fn is_written(socket: Socket, text: &str) -> bool {
    match socket.write(text.as_bytes()) {
        Ok(written) => written.await.is_ok(),
        Err(_) => false,
    }
}

impl Calculator {
    /// Takes bytes as they come: a line may come in several parts, and a part may have several lines. Answers each that is
    /// complete before it looks at the next one, so that no more than one answer is in memory. Returns whether the client
    /// may go on.
    async fn received(&mut self, socket: Socket, bytes: &[u8]) -> bool {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\n");
            if self.begun.len() + line.unwrap_or(part).len() > LONGEST_LINE {
                is_written(socket, "error: the line is too long\n").await;
                return false;
            }
            self.begun.extend_from_slice(line.unwrap_or(part));
            if line.is_none() {
                continue;
            }
            let line = std::mem::take(&mut self.begun);
            let mut answer = match self.evaluate(&String::from_utf8_lossy(&line)) {
                Ok(answer) => answer,
                Err(error) => format!("error: {error}"),
            };
            answer.push('\n');
            if !is_written(socket, &answer).await {
                return false;
            }
        }
        true
    }

    /// Evaluates a line. If one of its words fails, the stack is as it was before.
    fn evaluate(&mut self, line: &str) -> Result<String, String> {
        let before = self.stack.clone();
        let mut answer = None;
        for word in line.split_whitespace() {
            match self.word(word) {
                Ok(said) => answer = said,
                Err(error) => {
                    self.stack = before;
                    return Err(error);
                }
            }
        }
        Ok(answer.unwrap_or_else(|| match self.stack.last() {
            Some(top) => top.to_string(),
            None => "empty".to_owned(),
        }))
    }

    /// Does what a word says. Returns the answer if that is not what is on top.
    fn word(&mut self, word: &str) -> Result<Option<String>, String> {
        match word {
            "+" => self.two(i64::checked_add)?,
            "-" => self.two(i64::checked_sub)?,
            "*" => self.two(i64::checked_mul)?,
            "/" => self.two(i64::checked_div)?,
            "drop" => {
                self.pop()?;
            }
            "swap" => {
                let (second, first) = (self.pop()?, self.pop()?);
                self.stack.extend([second, first]);
            }
            "stack" => {
                let all: Vec<String> = self.stack.iter().map(i64::to_string).collect();
                return Ok(Some(all.join(" ")));
            }
            number => match number.parse() {
                Ok(_) if self.stack.len() >= DEEPEST => return Err("the stack is full".to_owned()),
                Ok(number) => self.stack.push(number),
                Err(_) => return Err(format!("`{number}` is neither a number nor a word")),
            },
        }
        Ok(None)
    }

    fn two(&mut self, operation: fn(i64, i64) -> Option<i64>) -> Result<(), String> {
        let (second, first) = (self.pop()?, self.pop()?);
        let result = operation(first, second).ok_or("the result is not a number of 64 bits")?;
        self.stack.push(result);
        Ok(())
    }

    fn pop(&mut self) -> Result<i64, String> {
        self.stack.pop().ok_or("the stack is empty".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use exuvia::socket::{Event, Opened, Socket};
    use exuvia::testing::{self, Effect, Process, deliver_event, deliver_reply, effects};
    use exuvia::{Pid, RunResult};

    use super::{Calculator, LONGEST_LINE};

    const SOCKET: Pid = Pid::from_parts(1, 90);

    /// A process with a client.
    struct Client(Process<Calculator>);

    impl Client {
        fn new() -> Client {
            testing::reset();
            let mut client = Client(Process::start(&()));
            let opened = Opened {
                kind: "tcp".into(),
                peer: "127.0.0.1:9".into(),
                reference: None,
            };
            let greeting = client.gets(Event::Open(opened));
            assert!(greeting.starts_with("numbers, and + "), "{greeting}");
            client
        }

        /// Has something happen to the socket. Returns what is written meanwhile, which the system takes at once.
        fn gets(&mut self, event: Event) -> String {
            deliver_event(Socket::from_pid(SOCKET), event);
            let mut written = String::new();
            while self.0.run() == RunResult::Waiting {
                for effect in effects() {
                    if let Effect::Request {
                        to,
                        payload,
                        reference,
                        ..
                    } = effect
                    {
                        assert_eq!(to, SOCKET);
                        written += &String::from_utf8(payload).expect("text");
                        deliver_reply(reference, Ok(&()));
                    }
                }
            }
            written
        }

        fn says(&mut self, text: &str) -> String {
            self.gets(Event::Data(text.into()))
        }
    }

    #[test]
    fn lines_are_evaluated() {
        let mut client = Client::new();
        for (line, answer) in [
            ("", "empty"),
            ("1 2 +", "3"),
            ("4 *\r", "12"),
            ("5 swap -", "-7"),
            ("1 2 stack", "-7 1 2"),
            ("drop", "1"),
            ("0 /", "error: the result is not a number of 64 bits"),
            ("stack", "-7 1"),
            ("+ +", "error: the stack is empty"),
            ("seven", "error: `seven` is neither a number nor a word"),
            (
                "9223372036854775807 1 +",
                "error: the result is not a number of 64 bits",
            ),
            ("stack", "-7 1"),
        ] {
            assert_eq!(client.says(&format!("{line}\n")), format!("{answer}\n"));
        }
    }

    #[test]
    fn a_line_comes_in_pieces_and_a_piece_has_several() {
        let mut client = Client::new();
        assert_eq!(client.says("1"), "");
        assert_eq!(client.says("2 1"), "");
        assert_eq!(client.says(" +\n7\n8 "), "13\n7\n");
        assert_eq!(client.says("stack\n"), "13 7 8\n");
        assert_eq!(client.says("*"), "");
        // The last one needs no end.
        assert_eq!(client.gets(Event::End), "56\n");
    }

    #[test]
    fn what_has_been_begun_goes_to_new_code() {
        let mut client = Client::new();
        client.says("1 2\n3 ");
        let saved = client.0.save().expect("a state");
        let mut new = Client::new();
        assert!(new.0.load(1, &saved));
        assert_eq!(new.says("+ +\n"), "6\n");
    }

    #[test]
    fn what_is_no_line_ends_the_connection() {
        // Whether its end comes with it or not.
        for end in ["", "\n7\n"] {
            let mut client = Client::new();
            let line = format!("{}{end}", "1".repeat(LONGEST_LINE + 1));
            deliver_event(Socket::from_pid(SOCKET), Event::Data(line.into()));
            assert_eq!(client.0.run(), RunResult::Waiting);
            let effects = effects();
            let Some(Effect::Request {
                payload, reference, ..
            }) = effects.first()
            else {
                panic!("{effects:?}");
            };
            assert_eq!(payload, b"error: the line is too long\n");
            deliver_reply(*reference, Ok(&()));
            assert_eq!(client.0.run(), RunResult::Done);
        }
        let mut client = Client::new();
        let longest = format!("{}1\n", " ".repeat(LONGEST_LINE - 1));
        assert_eq!(client.says(&longest), "1\n");
    }

    #[test]
    fn a_line_is_answered_before_the_next_one_is_looked_at() {
        let mut client = Client::new();
        deliver_event(Socket::from_pid(SOCKET), Event::Data(b"1\n2\n".to_vec()));
        assert_eq!(client.0.run(), RunResult::Waiting);
        let written = |effects: Vec<Effect>| -> Vec<Vec<u8>> {
            let requests = effects.into_iter();
            let payloads = requests.filter_map(|effect| match effect {
                Effect::Request { payload, .. } => Some(payload),
                _ => None,
            });
            payloads.collect()
        };
        assert_eq!(written(effects()), [b"1\n"]);
    }
}
