//! Sessions and presence lists, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::borrow::Cow;
use std::time::Duration;

use exuvia::channel::{
    self, ACKNOWLEDGE_WITHIN_MS, BURST, Change, Channel, Joined, Json, MAX_TOPICS, MAX_UNSEEN,
    Presence, Push, PushId, Refusal, Session, What,
};
use exuvia::http::{Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Event, Opened, Socket};
use exuvia::testing::{self, Effect, Process};
use exuvia::{Kind, Message, RunResult, tag};
use serde_json::{Value, json};

const TOPIC: &str = "room:lobby";
const KEEPER: &str = "keeper";

#[derive(Serialize, Deserialize, Layout)]
struct Visitor {
    session: Session,
    later: Option<PushId>,
    left: Vec<String>,
    /// How many clients have begun.
    begun: u32,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Visitor {
    type Args = String;

    fn init(_key: String, _: &mut Context) -> Result<Self, String> {
        Ok(Visitor {
            session: Session::default(),
            later: None,
            left: Vec::new(),
            begun: 0,
        })
    }

    fn handle_http(&mut self, request: Request, _: Responder, _: &mut Context) -> Option<Response> {
        Some(channel::accept(&request))
    }

    fn handle_socket(&mut self, socket: Socket, event: Event, cx: &mut Context) {
        channel::handle_socket(self, socket, event, cx);
    }

    fn handle_info(&mut self, info: Info, cx: &mut Context) {
        if let Some(Info::Raw(message)) = channel::handle_info(self, info, cx)
            && let Some(id) = self.later.take()
        {
            let text = message.text().into_owned();
            self.session.reply(id, &Ok(Json::of(&text).unwrap()));
        }
    }
}

impl Channel for Visitor {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn join(&mut self, topic: &str, params: Json, _: &mut Context) -> Result<Joined, Refusal> {
        if topic.starts_with("locked") {
            return Err("it is locked".into());
        }
        let name: Option<String> = params.decode()?;
        let joined = Joined::new().reply(&"welcome")?;
        Ok(match name {
            Some(name) => joined.present(KEEPER, &name, &1)?,
            None => joined,
        })
    }

    fn push(&mut self, push: Push, _: &mut Context) -> Option<Result<Json, Refusal>> {
        match push.event.as_str() {
            "echo" => Some(Ok(push.payload)),
            "later" => {
                self.later = Some(push.id);
                None
            }
            "show" => {
                self.session.show(&push.topic, &2).unwrap();
                Some(Ok(Json::null()))
            }
            "out" => {
                self.session.leave(&push.topic, "go away");
                Some(Ok(Json::null()))
            }
            other => Some(Err(format!("what is `{other}`?").into())),
        }
    }

    fn begun(&mut self, _: &mut Context) {
        self.begun += 1;
    }

    fn left(&mut self, topic: &str, _: &mut Context) {
        self.left.push(topic.to_owned());
    }
}

/// A session, and its client.
struct Browser {
    process: Process<Visitor>,
    socket: Socket,
    token: Value,
    /// What happened besides frames to the client.
    effects: Vec<Effect>,
}

fn socket(number: u64) -> Socket {
    Socket::from_pid(Pid::from_parts(1, 900 + number))
}

impl Browser {
    fn new() -> Browser {
        let mut process = Process::<Visitor>::start(&"session:1".to_owned());
        let request = Request::new("GET", "/session/1").with_header("upgrade", "websocket");
        let reference = testing::deliver_http(&request);
        process.run();
        assert_eq!(testing::response_to(reference), Ok(Response::websocket()));
        testing::effects();
        Browser {
            process,
            socket: socket(0),
            token: Value::Null,
            effects: Vec::new(),
        }
    }

    fn welcomed() -> Browser {
        let mut browser = Browser::new();
        let welcome = browser.hello(0);
        assert_eq!(welcome[0]["resumed"], false, "{welcome:?}");
        browser
    }

    fn joined() -> Browser {
        let mut browser = Browser::welcomed();
        let reply = browser.asks(1, "join", &json!({}));
        assert_eq!(
            reply,
            json!({ "type": "reply", "seq": 1, "ref": 1, "ok": "welcome" })
        );
        browser
    }

    fn hello(&mut self, seen: u64) -> Vec<Value> {
        let opened = Opened {
            kind: "websocket".into(),
            peer: "127.0.0.1:9".into(),
            reference: None,
        };
        testing::deliver_event(self.socket, Event::Open(opened));
        let token = self.token.clone();
        let said =
            self.says(&json!({ "type": "hello", "version": 1, "token": token, "seen": seen }));
        self.token = said[0]["token"].clone();
        said
    }

    /// Says something; returns the frames that come of it.
    fn says(&mut self, frame: &Value) -> Vec<Value> {
        testing::deliver_event(self.socket, Event::Text(frame.to_string()));
        self.runs()
    }

    fn asks(&mut self, number: u64, kind: &str, fields: &Value) -> Value {
        let mut frame = json!({ "type": kind, "ref": number, "topic": TOPIC });
        let fields = fields.as_object().unwrap().clone();
        frame.as_object_mut().unwrap().extend(fields);
        let mut said = self.says(&frame);
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    /// What was published, or sent to the session, arrives.
    fn gets(&mut self, effect: Effect) -> Vec<Value> {
        arrives(effect, Pid::from_parts(1, 50));
        self.runs()
    }

    fn hears(&mut self, event: &str) -> Vec<Value> {
        channel::publish(TOPIC, event, &event.len()).unwrap();
        let published = testing::effects().remove(0);
        self.gets(published)
    }

    fn cut(&mut self) {
        let reason = String::new();
        testing::deliver_event(self.socket, Event::Closed { code: 1006, reason });
        assert!(self.runs().is_empty());
    }

    fn runs(&mut self) -> Vec<Value> {
        assert_eq!(self.process.run(), RunResult::Rest);
        self.frames()
    }

    fn frames(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        for effect in testing::effects() {
            match effect {
                Effect::Send {
                    to,
                    tag: tag::SOCKET_TEXT,
                    payload,
                } if to == self.socket.pid() => {
                    frames.push(serde_json::from_slice(&payload).unwrap());
                }
                other => self.effects.push(other),
            }
        }
        frames
    }
}

/// Delivers what was published or sent.
fn arrives(effect: Effect, sender: Pid) {
    let (Effect::Publish { tag, payload, .. } | Effect::Send { tag, payload, .. }) = effect else {
        panic!("{effect:?}");
    };
    testing::deliver(Message {
        kind: Kind::Message,
        sender,
        reference: 0,
        tag,
        reason: Reason::NORMAL,
        payload: Cow::Owned(payload),
    });
}

fn event(seq: u64, event: &str) -> Value {
    json!({ "type": "event", "seq": seq, "topic": TOPIC, "event": event, "payload": event.len() })
}

#[test]
fn a_client_joins_hears_pushes_and_leaves() {
    let mut browser = Browser::welcomed();
    let refused = browser.asks(1, "join", &json!({ "topic": "locked:1" }));
    assert_eq!(refused["error"], "it is locked");
    assert!(
        exuvia::Group::new("channel:locked:1")
            .members()
            .unwrap()
            .is_empty()
    );
    assert!(browser.hears("early").is_empty(), "it has not joined");
    assert_eq!(browser.asks(2, "join", &json!({}))["ok"], "welcome");
    assert_eq!(
        browser.asks(3, "join", &json!({}))["error"],
        "it has been joined already"
    );
    let group = exuvia::Group::new("channel:room:lobby");
    assert_eq!(group.members().unwrap(), [exuvia::me()]);
    assert_eq!(browser.hears("news"), [event(4, "news")]);
    let payload = json!({ "a": [1, "\n\"é"] });
    let echo = browser.asks(4, "push", &json!({ "event": "echo", "payload": payload }));
    assert_eq!(echo["ok"], payload);
    let unknown = browser.asks(5, "push", &json!({ "event": "x" }));
    assert_eq!(unknown["error"], "what is `x`?");
    assert_eq!(browser.asks(6, "leave", &json!({}))["ok"], Value::Null);
    assert_eq!(browser.process.state().as_ref().unwrap().left, [TOPIC]);
    assert!(browser.hears("late").is_empty());
    assert!(group.members().unwrap().is_empty());
    let outside = browser.asks(7, "push", &json!({ "event": "echo" }));
    assert_eq!(outside["error"], "join the topic first");
}

#[test]
fn the_sender_may_be_left_out_and_one_session_may_be_sent_to() {
    let mut browser = Browser::joined();
    channel::publish_except(exuvia::me(), TOPIC, "typing", &1).unwrap();
    let typing = testing::effects().remove(0);
    assert!(browser.gets(typing).is_empty());
    channel::publish_except(Pid::from_parts(1, 51), TOPIC, "typing", &6).unwrap();
    let typing = testing::effects().remove(0);
    assert_eq!(browser.gets(typing), [event(2, "typing")]);
    channel::send(exuvia::me(), TOPIC, "whisper", &7).unwrap();
    let whisper = testing::effects().remove(0);
    assert_eq!(browser.gets(whisper), [event(3, "whisper")]);
    let out = json!({ "type": "push", "ref": 2, "topic": TOPIC, "event": "out" });
    let said = browser.says(&out);
    assert_eq!(
        (&said[0]["event"], &said[0]["payload"]),
        (&json!("left"), &json!("go away"))
    );
    assert!(browser.hears("late").is_empty());
}

#[test]
fn a_reply_may_be_given_later_but_not_to_a_client_that_has_begun_anew() {
    for anew in [false, true] {
        testing::reset();
        let mut browser = Browser::joined();
        let later = json!({ "type": "push", "ref": 2, "topic": TOPIC, "event": "later" });
        assert!(browser.says(&later).is_empty());
        if anew {
            browser.token = Value::Null;
            browser.cut();
            browser.socket = socket(2);
            browser.hello(0);
        }
        exuvia::me().send_bytes(7, b"now").unwrap();
        let now = testing::effects().remove(0);
        let said = browser.gets(now);
        let reply = json!({ "type": "reply", "seq": 2, "ref": 2, "ok": "now" });
        assert_eq!(said, if anew { vec![] } else { vec![reply] });
    }
}

#[test]
fn a_client_that_comes_back_gets_what_it_has_not_seen_and_new_code_knows_it() {
    let mut browser = Browser::joined();
    for name in ["a", "bb", "ccc"] {
        browser.hears(name);
    }
    browser.cut();
    assert!(browser.hears("dddd").is_empty());
    // Meanwhile the code is replaced.
    let saved = browser.process.save().unwrap();
    let mut process = Process::<Visitor>::new();
    assert!(process.load(1, &saved));
    browser.process = process;
    browser.socket = socket(2);
    let said = browser.hello(3);
    assert_eq!(
        (&said[0]["resumed"], &said[0]["received"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(said[1..], [event(4, "ccc"), event(5, "dddd")]);
    // A request that it repeats is not handled again.
    let again = json!({ "type": "join", "ref": 1, "topic": TOPIC });
    assert!(browser.says(&again).is_empty());
    assert_eq!(browser.hears("eeeee"), [event(6, "eeeee")]);
    // Frames that it has seen are not kept.
    browser.says(&json!({ "type": "ack", "seen": 6 }));
    browser.cut();
    browser.socket = socket(3);
    assert_eq!(browser.hello(6).len(), 1);
    browser.cut();
    browser.socket = socket(4);
    assert_eq!(
        browser.hello(5)[0]["reason"],
        "missed",
        "what it says to have seen it has seen"
    );
}

#[test]
fn a_client_that_has_missed_too_much_begins_anew() {
    let mut browser = Browser::joined();
    browser.cut();
    for _ in 0..=MAX_UNSEEN {
        browser.hears("x");
    }
    let group = exuvia::Group::new("channel:room:lobby");
    assert!(group.members().unwrap().is_empty(), "nobody would hear it");
    browser.socket = socket(2);
    let said = browser.hello(1);
    assert_eq!(said.len(), 1);
    assert_eq!(
        (&said[0]["resumed"], &said[0]["reason"]),
        (&json!(false), &json!("missed"))
    );
    // While it is connected, only what it has not acknowledged in time is lost.
    browser.asks(1, "join", &json!({}));
    for n in 0..=MAX_UNSEEN as u64 {
        assert_eq!(browser.hears("x"), [event(n + 2, "x")]);
    }
    browser.cut();
    browser.socket = socket(3);
    let said = browser.hello(2);
    assert_eq!(
        (said.len(), &said[0]["resumed"]),
        (MAX_UNSEEN + 1, &json!(true))
    );
}

#[test]
fn the_newest_connection_wins_and_a_page_that_is_left_ends_the_session() {
    let mut browser = Browser::joined();
    let former = browser.socket;
    browser.socket = socket(5);
    browser.hello(1);
    let closes = |effect: &Effect| matches!(effect, Effect::Send { to, tag: tag::SOCKET_CLOSE, .. } if *to == former.pid());
    assert!(browser.effects.iter().any(closes));
    // That the former one is closed does not matter.
    let reason = String::new();
    testing::deliver_event(
        former,
        Event::Closed {
            code: 1001,
            reason: reason.clone(),
        },
    );
    assert!(browser.runs().is_empty());
    assert_eq!(browser.hears("x"), [event(2, "x")]);
    // Nothing but a hello comes from one that is unknown.
    testing::deliver_event(socket(6), Event::Text("{\"type\":\"ping\"}".into()));
    browser.runs();
    let closes = |effect: &Effect| matches!(effect, Effect::Send { to, tag: tag::SOCKET_CLOSE, .. } if *to == socket(6).pid());
    assert!(browser.effects.iter().any(closes));
    testing::deliver_event(browser.socket, Event::Closed { code: 1001, reason });
    assert_eq!(browser.process.run(), RunResult::Done);
}

#[test]
fn a_client_that_reads_too_slowly_is_cut_off_and_gets_the_rest_when_it_comes_back() {
    let mut browser = Browser::joined();
    let slow = browser.socket.pid();
    testing::fill_mailbox(slow);
    assert!(browser.hears("a").is_empty());
    assert!(browser.effects.contains(&Effect::Kill { pid: slow }));
    assert!(browser.hears("bb").is_empty());
    browser.socket = socket(2);
    let said = browser.hello(1);
    assert_eq!(said[0]["resumed"], true);
    assert_eq!(said[1..], [event(2, "a"), event(3, "bb")]);
}

#[test]
fn there_are_limits() {
    let mut browser = Browser::welcomed();
    for n in 1..=MAX_TOPICS as u64 {
        let reply = browser.asks(n, "join", &json!({ "topic": format!("t{n}") }));
        assert_eq!(reply["ok"], "welcome");
    }
    let number = MAX_TOPICS as u64 + 1;
    let reply = browser.asks(number, "join", &json!({}));
    assert_eq!(
        reply["error"],
        "100 topics have been joined: leave one first"
    );
    // Time stands still here.
    for n in number + 1..=BURST.into() {
        browser.asks(n, "push", &json!({ "topic": "t1", "event": "echo" }));
    }
    let reply = browser.asks(
        u64::from(BURST) + 1,
        "push",
        &json!({ "topic": "t1", "event": "echo" }),
    );
    assert_eq!(reply["error"], "more than 100 requests in a second");
}

#[test]
fn what_is_no_frame_is_answered_and_the_session_goes_on() {
    let mut browser = Browser::joined();
    for text in ["", "{", "{\"type\":\"nonsense\"}", "\"\u{0}\""] {
        testing::deliver_event(browser.socket, Event::Text(text.into()));
        assert_eq!(browser.runs()[0]["type"], "error", "{text}");
    }
    testing::deliver_event(browser.socket, Event::Data(vec![1]));
    assert_eq!(
        browser.runs(),
        [json!({ "type": "error", "reason": "a frame is text" })]
    );
    assert_eq!(
        browser.says(&json!({ "type": "ping" })),
        [json!({ "type": "pong" })]
    );
    assert_eq!(browser.hears("x"), [event(2, "x")]);
    // What is said a second time has been done before.
    let again = browser.says(&json!({ "type": "hello", "version": 1, "token": null }));
    assert_eq!(again[0]["reason"], "hello was said already");
    assert_eq!(browser.hears("x"), [event(3, "x")]);
    // A request that is malformed has a reply, so that nobody waits for it.
    let long = "x".repeat(201);
    let error = browser.asks(7, "join", &json!({ "topic": long }));
    assert_eq!(
        (&error["type"], &error["ref"]),
        (&json!("error"), &json!(7))
    );
    let error = browser.asks(8, "push", &json!({ "event": "" }));
    assert_eq!(
        (&error["type"], &error["ref"]),
        (&json!("error"), &json!(8))
    );
}

#[test]
fn frames_of_all_types_count_as_requests() {
    let mut browser = Browser::joined();
    for n in 1..BURST {
        assert_eq!(browser.says(&json!({ "type": "ping" })).len(), 1, "{n}");
    }
    assert!(browser.says(&json!({ "type": "ping" })).is_empty());
    assert!(browser.says(&json!({ "type": "nonsense" })).is_empty());
    let reply = browser.asks(2, "push", &json!({ "event": "echo" }));
    assert_eq!(reply["error"], "more than 100 requests in a second");
}

#[test]
fn a_client_that_begins_is_told_to_the_actor_also_if_it_is_another_one() {
    let mut browser = Browser::joined();
    let begun = |browser: &Browser| browser.process.state().as_ref().unwrap().begun;
    assert_eq!(begun(&browser), 1);
    browser.cut();
    browser.socket = socket(2);
    assert_eq!(browser.hello(1)[0]["resumed"], true);
    assert_eq!(begun(&browser), 1);
    browser.token = json!("guessed");
    browser.socket = socket(3);
    assert_eq!(browser.hello(1)[0]["resumed"], false);
    assert_eq!(begun(&browser), 2);
}

#[test]
fn a_client_that_acknowledges_nothing_is_cut_off() {
    for acknowledges in [false, true] {
        testing::reset();
        let mut browser = Browser::joined();
        let pid = browser.socket.pid();
        testing::advance(Duration::from_millis(ACKNOWLEDGE_WITHIN_MS + 1));
        if acknowledges {
            browser.says(&json!({ "type": "ack", "seen": 1 }));
        }
        for _ in 0..=MAX_UNSEEN {
            browser.hears("x");
        }
        let is_cut = browser.effects.contains(&Effect::Kill { pid });
        assert_eq!(is_cut, !acknowledges);
    }
}

#[test]
fn json_is_sent_as_the_value_that_it_is() {
    let mut browser = Browser::joined();
    let value = Json::of(&json!({ "a": [1] })).unwrap();
    channel::publish(TOPIC, "news", &value).unwrap();
    let news = testing::effects().remove(0);
    assert_eq!(browser.gets(news)[0]["payload"], json!({ "a": [1] }));
    // In the state, it is kept as it is.
    let kept: Json = exuvia::decode(&exuvia::encode(&value).unwrap()).unwrap();
    assert_eq!(kept, value);
}

/// What the session has sent to the keeper.
fn tracks(browser: &mut Browser) -> Vec<Effect> {
    let is_track = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                tag: tag::CHANNEL_TRACK,
                ..
            }
        )
    };
    std::mem::take(&mut browser.effects)
        .into_iter()
        .filter(is_track)
        .collect()
}

#[test]
fn a_leave_that_the_keeper_has_not_got_is_repeated() {
    for rejoins in [false, true] {
        testing::reset();
        let keeper = Pid::from_parts(1, 70);
        exuvia::register(KEEPER, keeper).unwrap();
        let mut browser = Browser::welcomed();
        browser.asks(1, "join", &json!({ "payload": "anna" }));
        let join = tracks(&mut browser).remove(0);
        testing::fill_mailbox(keeper);
        browser.asks(2, "leave", &json!({}));
        let is_timer = |effect: &&Effect| matches!(effect, Effect::Timer { .. });
        let timer = browser.effects.iter().find(is_timer).unwrap().clone();
        assert!(tracks(&mut browser).is_empty());
        testing::empty_mailbox(keeper);
        let mut presence = Presence::default();
        let session = Pid::from_parts(1, 81);
        handled(&mut presence, &join, session);
        if rejoins {
            browser.asks(3, "join", &json!({ "payload": "anna" }));
        }
        testing::deliver_timer(&timer);
        browser.runs();
        let sent = tracks(&mut browser);
        assert_eq!(sent.len(), 1);
        let whats: Vec<What> = handled(&mut presence, &sent[0], session)
            .iter()
            .map(|change| change.what)
            .collect();
        let wanted: &[What] = match rejoins {
            true => &[What::Left, What::Joined],
            false => &[What::Left],
        };
        assert_eq!(whats, wanted);
    }
}

#[test]
fn a_leave_after_a_change_that_the_keeper_has_not_got_is_repeated_too() {
    let keeper = Pid::from_parts(1, 70);
    exuvia::register(KEEPER, keeper).unwrap();
    let mut browser = Browser::welcomed();
    browser.asks(1, "join", &json!({ "payload": "anna" }));
    let session = Pid::from_parts(1, 81);
    let mut presence = Presence::default();
    handled(&mut presence, &tracks(&mut browser)[0], session);
    testing::fill_mailbox(keeper);
    browser.asks(2, "push", &json!({ "event": "show" }));
    browser.asks(3, "leave", &json!({}));
    testing::empty_mailbox(keeper);
    let is_timer = |effect: &&Effect| matches!(effect, Effect::Timer { .. });
    let timer = browser.effects.iter().rfind(is_timer).unwrap().clone();
    assert!(tracks(&mut browser).is_empty());
    testing::deliver_timer(&timer);
    browser.runs();
    let sent = tracks(&mut browser);
    assert_eq!(sent.len(), 1);
    let changes = handled(&mut presence, &sent[0], session);
    assert_eq!(changes[0].what, What::Left);
}

#[test]
fn who_has_not_got_the_list_gets_it_later_and_nobody_else_does() {
    let (come, _) = track("anna");
    testing::effects();
    let session = Pid::from_parts(1, 81);
    let group = exuvia::Group::new("channel:room:lobby");
    group.join(session).unwrap();
    group.join(Pid::from_parts(1, 90)).unwrap();
    testing::fill_mailbox(session);
    let mut presence = Presence::default();
    handled(&mut presence, &come, session);
    let effects = testing::effects();
    testing::empty_mailbox(session);
    fires(&mut presence, &effects);
    let (one, all) = told();
    assert_eq!(one, [json!({ "anna": [{ "id": 1, "meta": 1 }] })]);
    assert!(all.is_empty());
}

#[test]
fn a_session_looks_for_the_keeper_of_the_list_until_there_is_one() {
    let mut browser = Browser::welcomed();
    browser.asks(1, "join", &json!({ "payload": "anna" }));
    let monitor = |effects: &[Effect]| {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::Monitor { pid, reference } => Some((*pid, *reference)),
            _ => None,
        })
    };
    // There is none: the monitor says so, and a timer is set.
    let (pid, reference) = monitor(&browser.effects).unwrap();
    assert_eq!(pid, Pid::NONE);
    testing::deliver_reply::<()>(reference, Err(Reason::NOPROC));
    browser.runs();
    let timer = browser.effects.pop().unwrap();
    let keeper = Pid::from_parts(1, 70);
    exuvia::register(KEEPER, keeper).unwrap();
    testing::deliver_timer(&timer);
    browser.runs();
    let Some(Effect::Send {
        to,
        tag: tag::CHANNEL_TRACK,
        ..
    }) = browser.effects.last()
    else {
        panic!("{:?}", browser.effects);
    };
    assert_eq!(*to, keeper);
    // It ends: the same again.
    let (_, reference) = monitor(&browser.effects).unwrap();
    testing::deliver_reply::<()>(reference, Err(Reason::KILLED));
    browser.runs();
    assert!(matches!(browser.effects.last(), Some(Effect::Timer { .. })));
    // Who has left does not look for it.
    browser.effects.clear();
    browser.asks(2, "leave", &json!({}));
    let cancels = |effect: &Effect| matches!(effect, Effect::CancelTimer { .. });
    assert!(browser.effects.iter().any(cancels), "{:?}", browser.effects);
}

/// Has a session ask to be present, or not to be. Returns what it sends to the keeper.
fn track(name: &str) -> (Effect, Effect) {
    exuvia::register(KEEPER, Pid::from_parts(1, 70)).unwrap();
    let mut browser = Browser::welcomed();
    browser.asks(1, "join", &json!({ "payload": name }));
    browser.asks(2, "leave", &json!({}));
    let mut tracks = browser.effects.into_iter().filter(|effect| {
        matches!(
            effect,
            Effect::Send {
                tag: tag::CHANNEL_TRACK,
                ..
            }
        )
    });
    (tracks.next().unwrap(), tracks.next().unwrap())
}

/// The same, from a session that the keeper knows.
fn shown_again(come: &Effect) -> Effect {
    #[derive(Serialize, Deserialize)]
    struct Track {
        topic: String,
        shown: Option<(String, String)>,
        anew: bool,
    }
    let Effect::Send { to, tag, payload } = come else {
        panic!("{come:?}");
    };
    let mut track: Track = exuvia::decode(payload).unwrap();
    assert!(track.anew);
    track.anew = false;
    Effect::Send {
        to: *to,
        tag: *tag,
        payload: exuvia::encode(&track).unwrap(),
    }
}

fn handled(presence: &mut Presence, effect: &Effect, sender: Pid) -> Vec<Change> {
    arrives(effect.clone(), sender);
    let message = exuvia::receive(exuvia::Match::Any, Wait::No).unwrap();
    presence.handle_info(Info::Raw(message)).unwrap()
}

/// The payloads of what was told to one session and to all.
fn told() -> (Vec<Value>, Vec<Value>) {
    #[derive(Deserialize)]
    struct Told {
        event: String,
        payload: String,
    }
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for effect in testing::effects() {
        let (Effect::Send { payload, .. } | Effect::Publish { payload, .. }) = &effect else {
            continue;
        };
        let told: Told = exuvia::decode(payload).unwrap();
        let value = serde_json::from_str(&told.payload).unwrap();
        match effect {
            Effect::Send { .. } => {
                assert_eq!(told.event, "presence_state");
                one.push(value);
            }
            _ => {
                assert_eq!(told.event, "presence_diff");
                all.push(value);
            }
        }
    }
    (one, all)
}

#[test]
fn a_presence_list_counts_the_sessions_of_a_user_and_notices_how_they_end() {
    let (come, go) = track("anna");
    let (come_ben, _) = track("ben");
    testing::effects();
    let mut presence = Presence::default();
    let [first, second, ben] = [1, 2, 3].map(|n| Pid::from_parts(1, 80 + n));
    let change = |session: Pid, key: &str, what: What, others: usize| {
        let (topic, key) = (TOPIC.to_owned(), key.to_owned());
        vec![Change {
            topic,
            session,
            key,
            what,
            others,
        }]
    };
    let one = |id: u64| json!({ "id": id, "meta": 1 });

    assert_eq!(
        handled(&mut presence, &come, first),
        change(first, "anna", What::Joined, 0)
    );
    let diff = |joins: Value, leaves: Value| json!({ "joins": joins, "leaves": leaves });
    let monitors: Vec<u64> = {
        let effects = testing::effects();
        let of = |effect: &Effect| match effect {
            Effect::Monitor { reference, .. } => Some(*reference),
            _ => None,
        };
        effects.iter().filter_map(of).collect()
    };
    assert_eq!(monitors.len(), 1);
    assert_eq!(
        handled(&mut presence, &come, second),
        change(second, "anna", What::Joined, 1)
    );
    let (state, all) = told();
    assert_eq!(state, [json!({ "anna": [one(1), one(2)] })]);
    assert_eq!(all, [diff(json!({ "anna": [one(2)] }), json!({}))]);
    handled(&mut presence, &come_ben, ben);
    told();
    let keys: Vec<&str> = presence.list(TOPIC).map(|present| present.key).collect();
    assert_eq!(keys, ["anna", "anna", "ben"]);
    // Something else that it shows is no other session.
    assert_eq!(
        handled(&mut presence, &shown_again(&come), second),
        change(second, "anna", What::Changed, 1)
    );
    let (state, all) = told();
    assert!(state.is_empty());
    assert_eq!(all, [diff(json!({ "anna": [one(2)] }), json!({}))]);

    // One leaves, one is killed.
    assert_eq!(
        handled(&mut presence, &go, second),
        change(second, "anna", What::Left, 1)
    );
    assert_eq!(told().1, [diff(json!({}), json!({ "anna": [one(2)] }))]);
    assert_eq!(handled(&mut presence, &go, second), []);
    let down = |reference| Info::Down {
        pid: first,
        reference,
        reason: Reason::KILLED,
        text: String::new(),
    };
    assert_eq!(
        presence.handle_info(down(12_345)),
        Err(down(12_345)),
        "somebody else's monitor"
    );
    let left = presence.handle_info(down(monitors[0]));
    assert_eq!(left, Ok(change(first, "anna", What::Left, 0)));
    assert_eq!(told().1, [diff(json!({}), json!({ "anna": [one(1)] }))]);
    assert_eq!(presence.list(TOPIC).count(), 1);
}

/// Lets the one timer among these effects fire.
fn fires(presence: &mut Presence, effects: &[Effect]) {
    let is_timer = |effect: &&Effect| matches!(effect, Effect::Timer { .. });
    let timers: Vec<&Effect> = effects.iter().filter(is_timer).collect();
    assert_eq!(timers.len(), 1, "one for all that was missed");
    testing::deliver_timer(timers[0]);
    let timer = exuvia::receive(exuvia::Match::Any, Wait::No).unwrap();
    assert_eq!(presence.handle_info(Info::Timer(timer)), Ok(vec![]));
}

/// Who gets the list, and its text.
fn lists(effects: &[Effect]) -> Vec<(Pid, String)> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, payload, .. } => Some((*to, String::from_utf8_lossy(payload))),
        _ => None,
    });
    let lists = sent.filter(|(_, text)| text.contains("presence_state"));
    lists.map(|(to, text)| (to, text.into_owned())).collect()
}

#[test]
fn a_change_that_has_not_reached_all_is_made_up_for_by_the_list_and_then_for_the_slow_one_alone() {
    let (come, go) = track("anna");
    testing::effects();
    let [quick, slow] = [90, 91].map(|n| Pid::from_parts(1, n));
    let group = exuvia::Group::new("channel:room:lobby");
    group.join(quick).unwrap();
    group.join(slow).unwrap();
    testing::fill_mailbox(slow);
    let mut presence = Presence::default();
    handled(&mut presence, &come, Pid::from_parts(1, 81));
    handled(&mut presence, &go, Pid::from_parts(1, 81));
    handled(&mut presence, &come, Pid::from_parts(1, 82));
    fires(&mut presence, &testing::effects());
    let effects = testing::effects();
    let [(to, text)] = &lists(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*to, quick);
    assert!(text.contains(r#"{"anna":[{"id":2,"meta":1}]}"#), "{text}");
    // It is known now who has missed it: others get no list for that, and none for later changes.
    handled(&mut presence, &go, Pid::from_parts(1, 82));
    assert!(lists(&testing::effects()).is_empty());
    fires(&mut presence, &effects);
    let effects = testing::effects();
    assert!(lists(&effects).is_empty());
    testing::empty_mailbox(slow);
    fires(&mut presence, &effects);
    let effects = testing::effects();
    let [(to, text)] = &lists(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(*to, slow);
    assert!(text.contains("{}"), "{text}");
    assert_eq!(effects.len(), 1, "no timer");
}
