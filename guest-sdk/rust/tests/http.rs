//! Requests of HTTP and responses, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use exuvia::http::{Fetch, FetchError, Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Event, Opened, Socket};
use exuvia::testing::{self, Effect, Process};
use exuvia::{Error, Kind, Message, Reason, tag};

#[derive(Serialize, Deserialize)]
struct Page {
    requests: u32,
    later: Option<Responder>,
}

#[derive(Serialize, Deserialize)]
struct Sum {
    a: i32,
    b: i32,
}

impl Page {
    fn answer(&self, request: &Request) -> Result<Response, Response> {
        Ok(match request.path.as_str() {
            "/sum" => {
                let sum: Sum = request.query()?;
                Response::json(&(sum.a + sum.b))
            }
            "/echo" => Response::json(&request.json::<Vec<u32>>()?),
            _ => {
                let id: u32 = request.param("id")?;
                Response::text(format!(
                    "{} {id} {:?}",
                    self.requests,
                    request.header("X-One")
                ))
            }
        })
    }
}

#[exuvia::actor(schema = 1)]
impl Actor for Page {
    type Message = String;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Page {
            requests: 0,
            later: None,
        })
    }

    fn handle(&mut self, text: String, _: Pid, _: &mut Context) {
        if let Some(later) = self.later.take() {
            later.respond(&Response::text(text)).unwrap();
        }
    }

    fn handle_http(
        &mut self,
        request: Request,
        from: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        self.requests += 1;
        if request.path == "/later" {
            self.later = Some(from);
            return None;
        }
        Some(self.answer(&request).unwrap_or_else(|error| error))
    }
}

fn ask(process: &mut Process<Page>, request: &Request) -> Response {
    let reference = testing::deliver_http(request);
    process.run();
    testing::response_to(reference).unwrap()
}

#[test]
fn a_request_is_responded_to() {
    let mut process = Process::<Page>::start(&());
    let request = Request::new("GET", "/page/7")
        .with_param("id", "7")
        .with_header("X-One", "yes");
    assert_eq!(
        ask(&mut process, &request),
        Response::text("1 7 Some(\"yes\")")
    );
    let sum = ask(&mut process, &Request::new("GET", "/sum?a=4&b=-1"));
    assert_eq!(sum, Response::json(&3));
    for kind in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/ld+json",
    ] {
        let echo = Request::new("POST", "/echo").with_header("Content-Type", kind);
        assert_eq!(ask(&mut process, &echo.with_body("[1,2]")).body, b"[1,2]");
    }
}

#[test]
fn what_a_handler_cannot_read_is_the_clients_error() {
    let echo = |kind, body| {
        let request = Request::new("POST", "/echo").with_header("content-type", kind);
        request.with_body(body)
    };
    let mut process = Process::<Page>::start(&());
    for (request, status, why) in [
        (
            Request::new("GET", "/sum?a=x&b=1"),
            400,
            "the query: invalid digit",
        ),
        (Request::new("GET", "/sum"), 400, "missing field `a`"),
        (
            echo("application/json", "[1,"),
            400,
            "400 Bad Request: the body is not JSON: EOF while parsing a value at line 1 column 3",
        ),
        (
            echo("application/json", "[1, true]"),
            422,
            "422 Unprocessable Entity: the body: invalid type: boolean `true`, expected u32",
        ),
        (
            echo("text/plain", "[1]"),
            415,
            "the body is `text/plain`; send it as `content-type: application/json`",
        ),
        (
            Request::new("POST", "/echo").with_body("[1]"),
            415,
            "the body has no `content-type`",
        ),
        (
            Request::new("GET", "/page/x"),
            404,
            "404 Not Found: the path has no `id`",
        ),
        (
            Request::new("GET", "/page/x").with_param("id", "x"),
            404,
            "`id` of the path: invalid digit",
        ),
    ] {
        let response = ask(&mut process, &request);
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, status, "{}", request.path);
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_response_may_be_given_later() {
    let mut process = Process::<Page>::start(&());
    let reference = testing::deliver_http(&Request::new("GET", "/later"));
    process.run();
    assert_eq!(testing::response_to(reference), Err(Error::Timeout));
    testing::deliver_message(Pid::NONE, "now");
    process.run();
    assert_eq!(testing::response_to(reference), Ok(Response::text("now")));
}

#[test]
fn a_request_that_is_none_is_refused() {
    let mut process = Process::<Page>::start(&());
    testing::deliver(Message {
        kind: Kind::Request,
        sender: Pid::NONE,
        reference: 5,
        tag: tag::HTTP_REQUEST,
        reason: Reason::NORMAL,
        payload: b"\x81\xa6method\xa3GET".into(),
    });
    process.run();
    let error = testing::reply_to::<u64>(5);
    assert!(
        matches!(&error, Err(Error::Refused(why)) if why.contains("path")),
        "{error:?}"
    );
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
fn an_actor_without_a_handler_says_so() {
    let mut process = Process::<Plain>::start(&());
    let reference = testing::deliver_http(&Request::new("GET", "/"));
    process.run();
    assert_eq!(testing::response_to(reference).unwrap().status, 501);
}

#[derive(Serialize, Deserialize)]
struct Slow {}

#[exuvia::actor(schema = 1)]
impl Actor for Slow {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Slow {})
    }

    async fn handle_http(
        &mut self,
        request: Request,
        _: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        exuvia::after(Duration::from_millis(50)).unwrap().await;
        Some(Response::text(request.path))
    }
}

#[test]
fn a_handler_may_wait() {
    let mut process = Process::<Slow>::start(&());
    testing::effects();
    let reference = testing::deliver_http(&Request::new("GET", "/slow"));
    process.run();
    let effects = testing::effects();
    let timer = effects
        .iter()
        .find(|effect| matches!(effect, Effect::Timer { .. }));
    testing::deliver_timer(timer.unwrap());
    process.run();
    assert_eq!(testing::response_to(reference), Ok(Response::text("/slow")));
}

#[derive(Serialize, Deserialize)]
struct Room {
    seen: Vec<String>,
}

#[exuvia::actor(schema = 1)]
impl Actor for Room {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Room { seen: Vec::new() })
    }

    fn handle_http(&mut self, request: Request, _: Responder, _: &mut Context) -> Option<Response> {
        Some(match request.wants_websocket() {
            true => Response::websocket_with("chat").header("x-room", "1"),
            false => Response::events(),
        })
    }

    fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
        self.seen.push(format!("{event:?}"));
        match event {
            Event::Text(text) => socket.send(&text).unwrap(),
            Event::Data(bytes) => socket.send_bytes(&bytes).unwrap(),
            Event::End => socket.end().unwrap(),
            Event::Open(opened) if opened.kind == "response" => {
                socket.send_event(None, "hello").unwrap();
                socket.end_with(&[("x-end", "yes")]).unwrap();
            }
            Event::Open(_) => socket.close(3001, "enough").unwrap(),
            Event::Datagram { .. } | Event::Closed { .. } => {}
        }
    }
}

#[test]
fn a_socket_is_accepted_and_its_events_are_acknowledged() {
    let mut process = Process::<Room>::start(&());
    let request = Request::new("GET", "/").with_header("upgrade", "websocket");
    let asked = testing::deliver_http(&request);
    process.run();
    let expected = Response::websocket_with("chat").header("x-room", "1");
    assert_eq!(testing::response_to(asked), Ok(expected));
    let socket = Socket::from_pid(Pid::from_parts(1, 90));
    testing::effects();
    let opened = |kind: &str| {
        Event::Open(Opened {
            kind: kind.into(),
            peer: "127.0.0.1:7".into(),
            reference: Some(7),
        })
    };
    assert_eq!(testing::deliver_event(socket, opened("websocket")), 0);
    let references = [
        Event::Text("text".into()),
        Event::Data(vec![0xff]),
        Event::End,
        Event::Closed {
            code: 1001,
            reason: "bye".into(),
        },
    ]
    .map(|event| testing::deliver_event(socket, event));
    process.run();
    let effects = testing::effects();
    let sent: Vec<u32> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, tag, .. } if *to == socket.pid() => Some(*tag),
            _ => None,
        })
        .collect();
    assert_eq!(
        sent,
        [
            tag::SOCKET_CLOSE,
            tag::SOCKET_TEXT,
            tag::SOCKET_DATA,
            tag::SOCKET_END
        ]
    );
    for reference in references {
        let is_acknowledged = |effect: &Effect| {
            matches!(effect, Effect::Reply { to, reference: of, tag: 0, payload }
                if *to == socket.pid() && *of == reference && payload.is_empty())
        };
        assert_eq!(
            effects
                .iter()
                .filter(|effect| is_acknowledged(effect))
                .count(),
            1
        );
    }
    let state = process.state();
    let seen = &state.as_ref().unwrap().seen;
    assert!(
        seen[4].contains("1001") && seen[4].contains("bye"),
        "{seen:?}"
    );
}

#[test]
fn a_response_may_be_sent_in_parts() {
    let mut process = Process::<Room>::start(&());
    let asked = testing::deliver_http(&Request::new("GET", "/"));
    process.run();
    assert_eq!(testing::response_to(asked), Ok(Response::events()));
    let socket = Socket::from_pid(Pid::from_parts(1, 91));
    testing::effects();
    let opened = Opened {
        kind: "response".into(),
        peer: "127.0.0.1:7".into(),
        reference: Some(asked),
    };
    testing::deliver_event(socket, Event::Open(opened));
    process.run();
    let sent: Vec<Vec<u8>> = testing::effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { payload, .. } => Some(payload),
            _ => None,
        })
        .collect();
    assert_eq!(sent[0], b"data: hello\n\n");
    assert_eq!(sent[1], b"\x81\xa8trailers\x91\x92\xa5x-end\xa3yes");
}

#[derive(Serialize, Deserialize)]
struct Prices {}

#[exuvia::actor(schema = 1)]
impl Actor for Prices {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Prices {})
    }

    async fn handle_http(
        &mut self,
        request: Request,
        _: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        let fetch = Fetch::post("https://api.example.com/prices").header("x-one", "yes");
        let fetching = fetch
            .with_body(request.body)
            .within(Duration::from_secs(5))
            .send();
        let fetched = match fetching {
            Ok(fetching) => fetching.await,
            Err(error) => Err(error),
        };
        Some(match fetched.and_then(|fetched| fetched.json::<u32>()) {
            Ok(price) => Response::json(&(price * 2)),
            Err(FetchError::Denied(why)) => Response::text(why).with_status(403),
            Err(error) => Response::text(error.to_string()).with_status(502),
        })
    }
}

#[test]
fn a_handler_awaits_what_it_fetches() {
    let mut process = Process::<Prices>::start(&());
    for (came, status, body) in [
        (Ok(Response::json(&21)), 200, "42"),
        (Ok(Response::text("no number")), 502, "expected"),
        (Err("denied: not granted"), 403, "not granted"),
        (
            Err("timeout: no response in time"),
            502,
            "no response came in time",
        ),
        (Err("connect: refused"), 502, "refused"),
    ] {
        testing::effects();
        let asked = testing::deliver_http(&Request::new("POST", "/").with_body("books"));
        process.run();
        let effects = testing::effects();
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Request {
                to: testing::HTTP_CLIENT,
                tag: tag::HTTP_REQUEST,
                payload,
                reference,
            } => Some((payload, *reference)),
            _ => None,
        });
        let (payload, reference) = sent.unwrap();
        let text = String::from_utf8_lossy(payload);
        for part in [
            "POST",
            "https://api.example.com/prices",
            "x-one",
            "timeout_ms",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(payload.ends_with(b"books"));
        testing::deliver_fetched(reference, came.as_ref().map_err(|text| *text));
        process.run();
        let response = testing::response_to(asked).unwrap();
        let text = String::from_utf8(response.body).unwrap();
        assert!(
            response.status == status && text.contains(body),
            "{status} {body}: {text}"
        );
    }
}
