//! The actor's loop, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use exuvia::prelude::*;
use exuvia::testing::{self, Effect, ME, Process};
use exuvia::{Kind, Level, Message, RunResult, tag};

const CLIENT: Pid = Pid::from_parts(1, 77);

#[derive(Serialize, Deserialize, Layout, Debug, PartialEq)]
struct Counter {
    count: u64,
    #[serde(default)]
    waiting: Vec<Caller<u64>>,
    #[serde(default)]
    seen: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Args {
    start: u64,
}

#[derive(Serialize, Deserialize)]
enum Change {
    Add(u64),
    Tick,
    AnswerAll,
    Stop,
    Fail(String),
}

#[derive(Serialize, Deserialize)]
enum Query {
    Get,
    Later,
}

#[exuvia::actor(schema = 3, layout)]
impl Actor for Counter {
    type Args = Args;
    type Message = Change;
    type Request = Query;
    type Reply = u64;

    fn init(args: Args, cx: &mut Context) -> Result<Self, String> {
        if args.start > 1_000 {
            return Err("begins too high".to_owned());
        }
        cx.send_after(&Change::Tick, Duration::from_millis(20))?;
        Ok(Counter {
            count: args.start,
            waiting: Vec::new(),
            seen: Vec::new(),
        })
    }

    fn handle(&mut self, message: Change, from: Pid, cx: &mut Context) {
        match message {
            Change::Add(by) => self.count += by,
            Change::Tick => self.seen.push(format!("tick of {from}")),
            Change::AnswerAll => {
                for caller in self.waiting.drain(..) {
                    cx.reply(caller, self.count).unwrap();
                }
            }
            Change::Stop => cx.stop(Reason::NORMAL),
            Change::Fail(why) => cx.stop_saying(Reason(Reason::GUEST + 4), &why),
        }
    }

    fn handle_call(&mut self, request: Query, from: Caller<u64>, _: &mut Context) -> Option<u64> {
        match request {
            Query::Get => Some(self.count),
            Query::Later => {
                self.waiting.push(from);
                None
            }
        }
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        self.seen.push(match info {
            Info::Exit { pid, reason, text } => format!("exit {pid} {} {text}", reason.name()),
            Info::Down { reference, .. } => format!("down {reference}"),
            Info::Reply(reply) => format!("reply {:?}", reply.decode::<u64>()),
            Info::Timer(timer) => format!("timer {}", timer.tag),
            Info::Raw(message) => format!("raw {} {}", message.tag, message.text()),
            other => format!("{other:?}"),
        });
    }
}

fn started(start: u64) -> Process<Counter> {
    let process = Process::start(&Args { start });
    testing::effects();
    process
}

fn seen(process: &Process<Counter>) -> Vec<String> {
    process.state().as_ref().unwrap().seen.clone()
}

fn message(kind: Kind, tag: u32, payload: &'static [u8]) -> Message<'static> {
    Message {
        kind,
        sender: CLIENT,
        reference: 5,
        tag,
        reason: Reason::KILLED,
        payload: payload.into(),
    }
}

#[test]
fn the_start_is_acknowledged_after_init() {
    let process = Process::<Counter>::start(&Args { start: 4 });
    assert_eq!(process.state().as_ref().unwrap().count, 4);
    let effects = testing::effects();
    assert!(matches!(
        &effects[..],
        [
            Effect::Timer {
                to: ME,
                tag: tag::TYPED,
                millis: 20,
                ..
            },
            Effect::InitAck { status: 0, .. },
        ]
    ));
}

#[test]
fn a_failed_start_reports_its_cause_and_exits() {
    let mut process = Process::<Counter>::new();
    testing::deliver(Message {
        payload: exuvia::encode(&Args { start: 2_000 }).unwrap().into(),
        ..message(Kind::Init, 0, b"")
    });
    assert_eq!(process.run(), RunResult::Done);
    assert_eq!(
        testing::effects(),
        [Effect::InitAck {
            status: Reason::GUEST,
            payload: b"begins too high".to_vec(),
        }]
    );
}

#[test]
fn arguments_that_do_not_fit_fail_the_start() {
    let mut process = Process::<Counter>::new();
    testing::deliver(message(Kind::Init, 0, b"\xc3"));
    assert_eq!(process.run(), RunResult::Done);
    let effects = testing::effects();
    let [Effect::InitAck { status, payload }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*status, Reason::GUEST);
    assert!(payload.starts_with(b"the arguments:"));
}

#[test]
fn messages_are_handled_in_order_until_none_is_left() {
    let mut process = started(0);
    testing::deliver_message(CLIENT, &Change::Add(3));
    let first = testing::deliver_request(CLIENT, &Query::Get);
    testing::deliver_message(CLIENT, &Change::Add(4));
    let second = testing::deliver_request(CLIENT, &Query::Get);
    assert_eq!(process.run(), RunResult::Rest);
    assert_eq!(testing::reply_to::<u64>(first), Ok(3));
    assert_eq!(testing::reply_to::<u64>(second), Ok(7));
}

#[test]
fn a_kept_request_is_answered_later_even_from_newer_code() {
    let mut process = started(9);
    let reference = testing::deliver_request(CLIENT, &Query::Later);
    process.run();
    assert_eq!(testing::reply_to::<u64>(reference), Err(Error::Timeout));
    let mut next = Process::<Counter>::new();
    assert!(next.load(3, &process.save().unwrap()));
    testing::deliver_message(CLIENT, &Change::AnswerAll);
    next.run();
    assert_eq!(testing::reply_to::<u64>(reference), Ok(9));
}

#[test]
fn undecodable_messages_are_dropped_and_requests_refused() {
    let mut process = started(1);
    testing::deliver(message(Kind::Message, tag::TYPED, b"\xa3abc"));
    process.run();
    assert!(matches!(
        &testing::effects()[..],
        [Effect::Log { level: Level::Warn, line }] if line.contains("dropped")
    ));
    let reference = testing::deliver_request(CLIENT, &"no query");
    process.run();
    assert!(matches!(
        testing::reply_to::<u64>(reference),
        Err(Error::Refused(why)) if why.contains("no query")
    ));
    assert_eq!(process.state().as_ref().unwrap().count, 1);
}

#[test]
fn everything_else_arrives_as_info() {
    let mut process = started(0);
    testing::deliver(message(Kind::Exit, 0, b"gone"));
    testing::deliver(message(Kind::Down, 0, b""));
    testing::deliver(message(Kind::Reply, 0, b"\x07"));
    testing::deliver(message(Kind::Reply, tag::REFUSED, b"no"));
    testing::deliver(message(Kind::Timer, 6, b""));
    testing::deliver(message(Kind::Message, 8, b"bytes"));
    testing::deliver(Message {
        sender: ME,
        payload: exuvia::encode(&Change::Tick).unwrap().into(),
        ..message(Kind::Timer, tag::TYPED, b"")
    });
    process.run();
    assert_eq!(
        seen(&process),
        [
            format!("exit {CLIENT} killed gone"),
            "down 5".to_owned(),
            "reply Ok(7)".to_owned(),
            "reply Err(Refused(\"no\"))".to_owned(),
            "timer 6".to_owned(),
            "raw 8 bytes".to_owned(),
            format!("tick of {ME}"),
        ]
    );
}

/// Neither handled nor reported: an old guest works on a new host.
#[test]
fn an_actor_ignores_kinds_of_a_later_host() {
    let mut process = started(0);
    testing::deliver_unknown(b"\x01");
    testing::deliver(message(Kind::Message, 8, b"bytes"));
    testing::deliver_unknown(&[7; 10_000]);
    assert_eq!(process.run(), RunResult::Rest);
    assert_eq!(seen(&process), ["raw 8 bytes"]);
    assert_eq!(testing::effects(), []);
}

#[test]
fn stopping_normally_leaves_the_rest_of_the_mailbox() {
    let mut process = started(0);
    testing::deliver_message(CLIENT, &Change::Stop);
    testing::deliver_message(CLIENT, &Change::Add(1));
    assert_eq!(process.run(), RunResult::Done);
    assert_eq!(exuvia::mailbox_length(), 1);
}

#[test]
fn stopping_with_a_reason_exits() {
    let mut process = started(0);
    testing::deliver_message(CLIENT, &Change::Fail("the disk is full".to_owned()));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| process.run()));
    assert!(ended.is_err());
    assert_eq!(
        testing::effects(),
        [Effect::Exit {
            reason: Reason(Reason::GUEST + 4),
            payload: b"the disk is full".to_vec(),
        }]
    );
}

#[test]
fn a_message_larger_than_the_buffer_arrives_whole() {
    let mut process = started(0);
    let text = "x".repeat(5_000);
    testing::deliver(Message {
        payload: text.clone().into_bytes().into(),
        ..message(Kind::Message, 2, b"")
    });
    testing::deliver_message(CLIENT, &Change::Add(1));
    process.run();
    assert_eq!(seen(&process), [format!("raw 2 {text}")]);
    assert_eq!(process.state().as_ref().unwrap().count, 1);
}

#[test]
fn state_is_migrated_by_field_names() {
    let process = started(12);
    let saved = process.save().unwrap();
    let mut next = Process::<Counter>::new();
    assert!(next.load(1, &saved));
    assert_eq!(*next.state(), *process.state());

    // Another order, a removed field, and two that are missing.
    #[derive(Serialize)]
    struct Older {
        gone: bool,
        count: u64,
    }
    let older = exuvia::encode(&Older {
        gone: true,
        count: 8,
    })
    .unwrap();
    assert!(next.load(1, &older));
    assert_eq!(next.state().as_ref().unwrap().count, 8);
}

#[test]
fn a_rejected_state_names_the_field_and_changes_nothing() {
    #[derive(Serialize)]
    struct Broken {
        count: &'static str,
    }
    let mut process = started(12);
    let broken = exuvia::encode(&Broken { count: "many" }).unwrap();
    assert!(!process.load(2, &broken));
    assert!(matches!(
        &testing::effects()[..],
        [Effect::Log { level: Level::Error, line }]
            if line.contains("field `count`") && line.contains("schema 2")
    ));
    assert_eq!(process.state().as_ref().unwrap().count, 12);
}

#[test]
fn a_process_that_was_not_started_is_migrated_as_such() {
    let process = Process::<Counter>::new();
    let saved = process.save().unwrap();
    assert!(saved.is_empty());
    let mut next = started(3);
    assert!(next.load(3, &saved));
    assert!(next.state().is_none());
    let reference = testing::deliver_request(CLIENT, &Query::Get);
    next.run();
    assert!(matches!(
        testing::reply_to::<u64>(reference),
        Err(Error::Refused(_))
    ));
}

#[derive(Serialize, Deserialize)]
struct Plain {}

#[exuvia::actor(schema = 1)]
impl Actor for Plain {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Plain {})
    }
}

#[test]
fn an_unhandled_raw_request_is_refused() {
    let mut process = Process::<Plain>::start(&());
    testing::effects();
    testing::deliver(message(Kind::Request, 8, b"bytes"));
    testing::deliver(message(Kind::Message, 8, b"bytes"));
    process.run();
    assert!(matches!(
        testing::reply_to::<u64>(5),
        Err(Error::Refused(why)) if why.contains("raw requests")
    ));
    let answered = |effect: &Effect| matches!(effect, Effect::Reply { .. });
    assert!(!testing::effects().iter().any(answered));
}
