//! Handlers that wait, and protocols, tested against the in-memory host.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::time::Duration;

use exuvia::prelude::*;
use exuvia::testing::{self, Effect, Process};
use exuvia::{Kind, RunResult, after, join_all};

const CLIENT: Pid = Pid::from_parts(1, 70);
const PRICES: Pid = Pid::from_parts(1, 71);

type Prices = Address<(), String, u64>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shop {
    asked: u64,
}

#[derive(Serialize, Deserialize)]
enum Order {
    /// One after another.
    Sum(Vec<String>),
    /// All at once.
    All(Vec<String>),
    /// For a second at most.
    Hurry(String),
    /// Waits for something that never arrives.
    Never,
}

fn prices() -> Prices {
    Address::new(PRICES)
}

mod shop {
    use super::*;

    #[exuvia::actor(schema = 1)]
    impl Actor for Shop {
        type Message = u64;
        type Request = Order;
        type Reply = Result<u64, String>;

        fn init(_: (), _: &mut Context) -> Result<Self, String> {
            Ok(Shop { asked: 0 })
        }

        async fn handle_call(
            &mut self,
            order: Order,
            _from: Caller<Self::Reply>,
            _: &mut Context,
        ) -> Option<Self::Reply> {
            self.asked += 1;
            Some(self.price(order).await.map_err(|error| error.to_string()))
        }

        fn handle(&mut self, more: u64, _: Pid, _: &mut Context) {
            self.asked += more;
        }
    }
}

impl Shop {
    async fn price(&mut self, order: Order) -> Result<u64, Error> {
        match order {
            Order::Sum(things) => {
                let mut sum = 0;
                for thing in things {
                    sum += prices().request(&thing)?.await?;
                }
                Ok(sum)
            }
            Order::All(things) => {
                let asked: Result<Vec<_>, _> =
                    things.iter().map(|thing| prices().request(thing)).collect();
                join_all(asked?).await.into_iter().sum()
            }
            Order::Hurry(thing) => {
                let price = prices().request(&thing)?;
                price.within(Duration::from_secs(1)).await
            }
            Order::Never => std::future::pending().await,
        }
    }
}

/// Returns the references of requests to the price list, and the timers.
fn asked() -> (Vec<u64>, Vec<Effect>) {
    let (mut requests, mut timers) = (Vec::new(), Vec::new());
    for effect in testing::effects() {
        match effect {
            Effect::Request { to, reference, .. } if to == PRICES => requests.push(reference),
            Effect::Timer { .. } => timers.push(effect),
            _ => {}
        }
    }
    (requests, timers)
}

fn things(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn begin(order: &Order) -> (Process<Shop>, u64) {
    let process = Process::start(&());
    testing::effects();
    let reference = testing::deliver_request(CLIENT, order);
    (process, reference)
}

#[test]
fn a_handler_awaits_one_reply_after_the_other() {
    let (mut shop, reference) = begin(&Order::Sum(things(&["apples", "pears"])));
    assert_eq!(shop.run(), RunResult::Waiting);
    assert!(shop.state().is_none());
    assert_eq!(shop.save(), None);
    let (first, _) = asked();
    assert_eq!(first.len(), 1);
    // Other messages wait their turn, and nothing happens without the reply.
    testing::deliver_message(CLIENT, &100_u64);
    assert_eq!(shop.run(), RunResult::Waiting);
    testing::deliver_reply(first[0], Ok(&3_u64));
    assert_eq!(shop.run(), RunResult::Waiting);
    let (second, _) = asked();
    testing::deliver_reply(second[0], Ok(&4_u64));
    assert_eq!(shop.run(), RunResult::Rest);
    assert_eq!(
        testing::reply_to::<Result<u64, String>>(reference),
        Ok(Ok(7))
    );
    assert_eq!(*shop.state(), Some(Shop { asked: 101 }));
    assert!(shop.save().is_some());
}

#[test]
fn replies_may_arrive_in_any_order() {
    let (mut shop, reference) = begin(&Order::All(things(&["a", "b", "c"])));
    assert_eq!(shop.run(), RunResult::Waiting);
    let (asked, _) = asked();
    for (place, price) in [(2, 1_u64), (0, 10), (1, 100)] {
        assert_eq!(shop.run(), RunResult::Waiting);
        testing::deliver_reply(asked[place], Ok(&price));
    }
    assert_eq!(shop.run(), RunResult::Rest);
    assert_eq!(
        testing::reply_to::<Result<u64, String>>(reference),
        Ok(Ok(111))
    );
}

#[test]
fn a_reply_that_has_arrived_needs_no_second_entry() {
    let (mut shop, reference) = begin(&Order::All(vec![]));
    assert_eq!(shop.run(), RunResult::Rest);
    assert_eq!(
        testing::reply_to::<Result<u64, String>>(reference),
        Ok(Ok(0))
    );
}

#[test]
fn a_receiver_that_exits_is_an_error() {
    let (mut shop, reference) = begin(&Order::Sum(things(&["a"])));
    shop.run();
    testing::deliver_reply::<u64>(asked().0[0], Err(Reason::KILLED));
    assert_eq!(shop.run(), RunResult::Rest);
    let answer = testing::reply_to::<Result<u64, String>>(reference);
    assert!(answer.unwrap().unwrap_err().contains("killed"));
}

#[test]
fn a_timeout_abandons_the_request_and_a_reply_cancels_the_timer() {
    let (mut shop, reference) = begin(&Order::Hurry("a".into()));
    shop.run();
    let (requests, timers) = asked();
    testing::deliver_timer(&timers[0]);
    assert_eq!(shop.run(), RunResult::Rest);
    let effects = testing::effects();
    let given_up = Effect::Demonitor {
        reference: requests[0],
    };
    assert!(effects.contains(&given_up), "{effects:?}");
    let late = effects.iter().find_map(|effect| match effect {
        Effect::Reply {
            reference: of,
            payload,
            ..
        } if *of == reference => exuvia::decode::<Result<u64, String>>(payload).ok(),
        _ => None,
    });
    assert_eq!(late, Some(Err("the timeout passed".into())));

    let reference = testing::deliver_request(CLIENT, &Order::Hurry("b".into()));
    shop.run();
    let (requests, timers) = asked();
    testing::deliver_reply(requests[0], Ok(&9_u64));
    assert_eq!(shop.run(), RunResult::Rest);
    let Effect::Timer {
        reference: timer, ..
    } = timers[0]
    else {
        unreachable!()
    };
    let effects = testing::effects();
    assert!(effects.contains(&Effect::CancelTimer { reference: timer }));
    let answered = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Reply { reference: of, .. } if *of == reference));
    assert!(answered);
}

#[test]
#[should_panic(expected = "something that no message can complete")]
fn a_handler_that_can_never_continue_panics() {
    let (mut shop, _) = begin(&Order::Never);
    shop.run();
}

#[test]
fn an_unwanted_timer_that_fired_leaves_nothing_behind() {
    let timer = after(Duration::from_secs(1)).unwrap();
    testing::deliver_timer(&testing::effects()[0]);
    drop(timer);
    assert_eq!(exuvia::mailbox_length(), 0);
}

// ---- protocols ------------------------------------------------------------------

#[exuvia::protocol]
pub trait Door {
    /// Opens it.
    fn open(&mut self, by: String, cx: &mut Context);
    fn close(&mut self);
    fn is_open(&self) -> bool;
    fn history(&self, from: usize, count: usize) -> Vec<String>;
    /// Replies when it is opened.
    fn wait(&mut self, from: Caller<String>);
    async fn price(&mut self, of: String) -> Option<u64>;
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Gate {
    history: Vec<String>,
    open: bool,
    waiting: Vec<Caller<String>>,
}

mod gate {
    use super::*;

    #[exuvia::actor(schema = 1, protocol = Door)]
    impl Actor for Gate {
        fn init(_: (), _: &mut Context) -> Result<Self, String> {
            Ok(Gate {
                history: Vec::new(),
                open: false,
                waiting: Vec::new(),
            })
        }
    }
}

impl Door for Gate {
    fn open(&mut self, by: String, cx: &mut Context) {
        self.open = true;
        self.history.push(format!("{by} ({})", cx.sender()));
        for caller in self.waiting.drain(..) {
            caller.reply(&by).ok();
        }
    }

    fn close(&mut self) {
        self.open = false;
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn history(&self, from: usize, count: usize) -> Vec<String> {
        self.history
            .iter()
            .skip(from)
            .take(count)
            .cloned()
            .collect()
    }

    fn wait(&mut self, from: Caller<String>) {
        self.waiting.push(from);
    }

    async fn price(&mut self, of: String) -> Option<u64> {
        prices().request(&of).ok()?.await.ok()
    }
}

#[test]
fn a_protocol_is_messages_and_requests() {
    let mut gate: Process<Gate> = Process::start(&());
    testing::deliver_message(CLIENT, &DoorMessage::Open { by: "anna".into() });
    let open = testing::deliver_request(CLIENT, &DoorRequest::IsOpen);
    let history = testing::deliver_request(CLIENT, &DoorRequest::History { from: 0, count: 5 });
    testing::deliver_message(CLIENT, &DoorMessage::Close);
    let wait = testing::deliver_request(CLIENT, &DoorRequest::Wait);
    let closed = testing::deliver_request(CLIENT, &DoorRequest::IsOpen);
    testing::deliver_message(CLIENT, &DoorMessage::Open { by: "ben".into() });
    assert_eq!(gate.run(), RunResult::Rest);
    assert_eq!(testing::reply_to(open), Ok(true));
    let expected = vec![format!("anna ({CLIENT})")];
    assert_eq!(testing::reply_to(history), Ok(expected));
    assert_eq!(testing::reply_to(closed), Ok(false));
    assert_eq!(testing::reply_to(wait), Ok("ben".to_owned()));
}

#[test]
fn functions_of_a_protocol_can_wait() {
    let mut gate: Process<Gate> = Process::start(&());
    testing::effects();
    let price = testing::deliver_request(CLIENT, &DoorRequest::Price { of: "it".into() });
    assert_eq!(gate.run(), RunResult::Waiting);
    testing::deliver_reply(asked().0[0], Ok(&5_u64));
    assert_eq!(gate.run(), RunResult::Rest);
    assert_eq!(testing::reply_to(price), Ok(Some(5_u64)));
}

#[test]
fn a_client_sends_and_calls() {
    let door = DoorClient::new(PRICES);
    door.open("anna".into()).unwrap();
    door.close().unwrap();
    door.open_after(Duration::from_secs(2), "ben".into())
        .unwrap();
    testing::answer_call(Ok(&vec!["anna"]));
    assert_eq!(door.history(1, 2), Ok(vec!["anna".to_owned()]));
    let asked = door.with_timeout(Wait::Forever).request_is_open().unwrap();
    testing::deliver_reply(asked.reference(), Ok(&true));
    assert_eq!(asked.wait(Wait::No), Ok(true));
    let effects = testing::effects();
    let payload = |at: usize| match &effects[at] {
        Effect::Send { payload, .. } | Effect::Timer { payload, .. } => payload.clone(),
        Effect::Request { payload, .. } => payload.clone(),
        other => panic!("{other:?}"),
    };
    // The encoding is the same in any language.
    assert_eq!(payload(0), b"\x81\xa4Open\x81\xa2by\xa4anna");
    assert_eq!(payload(1), b"\xa5Close");
    assert_eq!(payload(2), b"\x81\xa4Open\x81\xa2by\xa3ben");
    assert_eq!(payload(4), b"\xa6IsOpen");
    // In a state it is encoded as a pid.
    let bytes = exuvia::encode(&door).unwrap();
    assert_eq!(bytes, exuvia::encode(&PRICES).unwrap());
    assert_eq!(exuvia::decode::<DoorClient>(&bytes), Ok(door));
    assert_eq!(exuvia::encode(&DoorReply::IsOpen(true)), Ok(vec![0xc3]));
    assert_eq!(Kind::Request as u32, 3);
}

// ---- groups and tables ----------------------------------------------------------

#[test]
fn publications_are_recorded() {
    let room = Group::new("room");
    room.join(CLIENT).unwrap();
    room.join(PRICES).unwrap();
    assert_eq!(room.publish(&1_u64), Ok(2));
    let published = Effect::Publish {
        group: "room".into(),
        tag: 0,
        payload: vec![1],
    };
    assert_eq!(testing::effects(), [published]);
}

#[test]
fn many_members_and_long_rows_are_fetched_whole() {
    let all = Group::new("all");
    for number in 0..100 {
        all.join(Pid::from_parts(1, number)).unwrap();
    }
    assert_eq!(all.members().unwrap().len(), 100);
    let table = Table::<String>::new(exuvia::Access::Private).unwrap();
    let long = "x".repeat(5_000);
    table.put("long", &long).unwrap();
    assert_eq!(table.get("long"), Ok(Some(long)));
    for number in 0..300_u32 {
        table.put(number.to_be_bytes(), &String::new()).unwrap();
    }
    let keys: Vec<_> = table.keys().map(Result::unwrap).collect();
    assert_eq!(keys.len(), 301);
    assert!(keys.is_sorted());
}
