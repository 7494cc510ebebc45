//! What each message does; `guest-sdk/conformance/README.md` has the list.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use exuvia::prelude::*;
use exuvia::{Bytes, Error, Match, Wait};
use rmpv::Value;

/// Version 101 is version 1 with other code only.
const VERSION: u32 = if option_env!("EXUVIA_CONFORMANCE_SAME").is_some() {
    101
} else if cfg!(feature = "two") {
    2
} else if cfg!(feature = "bad") {
    3
} else {
    1
};
#[derive(Serialize, Deserialize, Layout, Saved)]
struct Guest {
    #[cfg_attr(feature = "two", serde(rename = "total"))]
    count: i64,
    notes: Vec<String>,
    /// Requests that are not answered yet.
    #[serde(default)]
    kept: Vec<(Pid, u64)>,
}

thread_local! {
    /// It is not part of the state: other code opens its own.
    static OPEN: RefCell<Option<File>> = const { RefCell::new(None) };
}

#[derive(Serialize, Deserialize, Default)]
struct Args {
    start: i64,
}

#[derive(Serialize, Deserialize)]
enum Message {
    Add { by: i64 },
    Note { text: String },
    Stop { code: i32, text: String },
    Trap,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Version,
    Echo {
        value: Value,
    },
    Get,
    Length {
        bytes: Bytes,
    },
    Notes,
    Keep,
    Release {
        value: Value,
    },
    Call {
        to: Pid,
        value: Value,
        timeout_ms: u64,
    },
    CallKeep {
        to: Pid,
        timeout_ms: u64,
    },
    Await {
        to: Pid,
        timeout_ms: u64,
    },
    Select {
        tag: u32,
        timeout_ms: u64,
    },
    Timers {
        delays_ms: Vec<u64>,
    },
    Watch {
        pid: Pid,
    },
    Join {
        pid: Pid,
    },
    Register {
        name: String,
    },
    Whereis {
        name: String,
    },
    Child {
        start: i64,
    },
    Send {
        to: Pid,
        text: String,
    },
    Fill {
        bytes: u32,
    },
    ReadFile {
        path: String,
    },
    OpenFile {
        path: String,
    },
    ReadOn,
    Random,
    Log {
        text: String,
    },
}

#[cfg_attr(feature = "two", exuvia::actor(schema = 2, layout, loads = [1]))]
#[cfg_attr(feature = "bad", exuvia::actor(schema = 3, layout, loads = [1]))]
#[cfg_attr(
    not(any(feature = "two", feature = "bad")),
    exuvia::actor(schema = 1, layout, loads = [])
)]
impl Actor for Guest {
    type Args = Option<Args>;
    type Message = Message;
    type Request = Request;
    type Reply = Value;

    fn init(args: Option<Args>, _: &mut Context) -> Result<Self, String> {
        Ok(Guest {
            count: args.unwrap_or_default().start,
            notes: Vec::new(),
            kept: Vec::new(),
        })
    }

    fn handle(&mut self, message: Message, _: Pid, cx: &mut Context) {
        match message {
            Message::Add { by } => self.count += by,
            Message::Note { text } => self.notes.push(text),
            Message::Stop { code, text } => cx.stop_saying(Reason(code), &text),
            Message::Trap => outer(self.count),
        }
    }

    async fn handle_call(
        &mut self,
        request: Request,
        from: Caller<Value>,
        cx: &mut Context,
    ) -> Option<Value> {
        if let Request::Keep = request {
            self.kept.push((from.pid, from.reference));
            return None;
        }
        match self.answer(request, cx).await {
            Ok(reply) => Some(reply),
            Err(why) => {
                from.refuse(&why);
                None
            }
        }
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        match info {
            Info::Down { reason, .. } => self.notes.push(format!("down {}", reason.0)),
            Info::Exit { reason, .. } => self.notes.push(format!("exit {}", reason.0)),
            Info::Raw(message) => message.refuse("no such tag"),
            _ => {}
        }
    }

    #[cfg(feature = "two")]
    fn migrate(from_schema: i32, state: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct One {
            count: i64,
            notes: Vec<String>,
        }
        match from_schema {
            1 => {
                let One { count, notes } = exuvia::decode(state)?;
                Ok(Guest {
                    count,
                    notes,
                    kept: Vec::new(),
                })
            }
            2 => Ok(exuvia::decode(state)?),
            other => Err(format!("schema {other} is not known")),
        }
    }

    #[cfg(feature = "bad")]
    fn migrate(_: i32, state: &[u8]) -> Result<Self, String> {
        let guest: Guest = exuvia::decode(state)?;
        assert!(guest.count != 13, "13 cannot be carried over");
        match guest.count % 2 {
            0 => Ok(guest),
            _ => Err(format!("`count` is odd: {}", guest.count)),
        }
    }
}

impl Guest {
    async fn answer(&mut self, request: Request, cx: &mut Context) -> Result<Value, String> {
        Ok(match request {
            Request::Version => VERSION.into(),
            Request::Echo { value } => value,
            Request::Get => self.count.into(),
            Request::Length { bytes } => bytes.0.len().into(),
            Request::Notes => {
                let notes = std::mem::take(&mut self.notes);
                Value::Array(notes.into_iter().map(Value::from).collect())
            }
            Request::Keep => return Err("it is kept before".into()),
            Request::Release { value } => {
                for (pid, reference) in self.kept.drain(..) {
                    // Whoever has ended needs no reply.
                    let _ = Caller::new(pid, reference).reply(&value);
                }
                Value::Nil
            }
            Request::Call {
                to,
                value,
                timeout_ms,
            } => outcome(to.call(&Request::Echo { value }, Duration::from_millis(timeout_ms))),
            Request::CallKeep { to, timeout_ms } => {
                outcome(to.call(&Request::Keep, Duration::from_millis(timeout_ms)))
            }
            Request::Await { to, timeout_ms } => {
                let reply = exuvia::Pending::<Value>::new(to.request(&Request::Keep)?);
                outcome(reply.within(Duration::from_millis(timeout_ms)).await)
            }
            Request::Select { tag, timeout_ms } => {
                let wait = Wait::For(Duration::from_millis(timeout_ms));
                match exuvia::receive(Match::Tag(tag), wait) {
                    Ok(message) => message.decode()?,
                    Err(_) => Value::Nil,
                }
            }
            Request::Timers { delays_ms } => {
                for delay in delays_ms {
                    let text = format!("timer {delay}");
                    cx.send_after(&Message::Note { text }, Duration::from_millis(delay))?;
                }
                Value::Nil
            }
            Request::Watch { pid } => {
                cx.monitor(pid)?;
                Value::Nil
            }
            Request::Join { pid } => {
                cx.trap_exit(true);
                cx.link(pid)?;
                Value::Nil
            }
            Request::Register { name } => {
                cx.register(&name)?;
                Value::Nil
            }
            Request::Whereis { name } => match cx.whereis(&name) {
                Ok(pid) => Value::Binary(pid.to_bytes().to_vec()),
                Err(_) => Value::Nil,
            },
            Request::Child { start } => {
                let child = exuvia::spawn_self().args(&Args { start })?.link().start()?;
                Value::Binary(child.pid.to_bytes().to_vec())
            }
            Request::Send { to, text } => {
                to.send(&Message::Note { text })?;
                Value::Nil
            }
            Request::Fill { bytes } => {
                let filled = std::hint::black_box(vec![7u8; bytes as usize]);
                filled.len().into()
            }
            Request::ReadFile { path } => {
                let text = std::fs::read_to_string(&path);
                text.map_err(|error| format!("{path}: {error}"))?.into()
            }
            Request::OpenFile { path } => {
                let opened = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
                OPEN.set(Some(opened));
                next_byte()?;
                Value::Nil
            }
            Request::ReadOn => next_byte()?.into(),
            Request::Random => {
                let mut bytes = [0; 16];
                exuvia::random(&mut bytes);
                Value::Binary(bytes.to_vec())
            }
            Request::Log { text } => {
                exuvia::info!("{text}");
                Value::Nil
            }
        })
    }
}

/// Returns the next byte of the open file, as text.
fn next_byte() -> Result<String, String> {
    OPEN.with_borrow_mut(|open| {
        let mut byte = [0];
        let file = open.as_mut().ok_or("no file is open")?;
        file.read_exact(&mut byte)
            .map_err(|error| error.to_string())?;
        Ok(char::from(byte[0]).to_string())
    })
}

fn outcome(result: Result<Value, Error>) -> Value {
    let (name, value) = match result {
        Ok(value) => ("Ok", value),
        Err(Error::Timeout) => ("Err", "timeout".into()),
        Err(Error::NoProc(_)) => ("Err", "noproc".into()),
        Err(Error::Refused(why)) => ("Err", format!("refused: {why}").into()),
        Err(error) => ("Err", error.to_string().into()),
    };
    Value::Map(vec![(name.into(), value)])
}

#[inline(never)]
fn outer(count: i64) {
    inner(count);
}

#[inline(never)]
fn inner(count: i64) {
    panic!("as asked, with {count}");
}
