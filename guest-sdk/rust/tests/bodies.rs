//! Bodies in parts and sockets to the outside, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use exuvia::http::{BodyError, Fetch, FetchError, Request, Responder, Response};
use exuvia::prelude::*;
use exuvia::socket::{Connect, Connecting, Event, Socket};
use exuvia::testing::{self, Effect, Process};
use exuvia::{Error, tag};

/// Counts the bytes of bodies.
#[derive(Serialize, Deserialize)]
struct Store {
    bytes: usize,
}

impl Store {
    async fn count(&mut self, request: &Request) -> Result<Response, Response> {
        let mut body = request.body_stream();
        while let Some(part) = body.next().await? {
            self.bytes += part.len();
        }
        let sum = body.trailer("X-Sum").unwrap_or("none");
        Ok(Response::text(format!("{} {sum}", self.bytes)))
    }
}

#[exuvia::actor(schema = 1)]
impl Actor for Store {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Store { bytes: 0 })
    }

    async fn handle_http(
        &mut self,
        request: Request,
        _: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        if request.path == "/small" {
            let body = request.body_stream().collect(5).await;
            return Some(body.map_or_else(Response::from, |_| Response::new(201)));
        }
        Some(self.count(&request).await.unwrap_or_else(|error| error))
    }
}

fn data(text: &str) -> Event {
    Event::Data(text.as_bytes().to_vec())
}

#[test]
fn a_body_is_read_part_by_part() {
    let mut process = Process::<Store>::start(&());
    let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
    process.run();
    testing::deliver_part(socket, data("hello"));
    testing::deliver_part(socket, data("you"));
    // One is asked for at a time.
    assert_eq!(testing::unread(socket), 1);
    process.run();
    assert_eq!(testing::response_to(reference), Err(Error::Timeout));
    testing::deliver_end(socket, &[("x-sum", "8")]);
    process.run();
    assert_eq!(testing::response_to(reference), Ok(Response::text("8 8")));
    // A body that is here as a whole is one part.
    let whole = testing::deliver_http(&Request::new("PUT", "/").with_body("four"));
    process.run();
    assert_eq!(testing::response_to(whole), Ok(Response::text("12 none")));
    let none = testing::deliver_http(&Request::new("GET", "/"));
    process.run();
    assert_eq!(testing::response_to(none), Ok(Response::text("12 none")));
}

#[test]
fn a_body_that_cannot_be_read_is_the_clients_error() {
    let mut process = Process::<Store>::start(&());
    let closed = |code| Event::Closed {
        code,
        reason: "reset".to_owned(),
    };
    for (path, end, status) in [
        ("/", closed(1006), 400),
        ("/", closed(1009), 413),
        ("/small", data("more"), 413),
    ] {
        let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", path));
        testing::deliver_part(socket, data("some"));
        testing::deliver_part(socket, end);
        process.run();
        assert_eq!(testing::response_to(reference).unwrap().status, status);
    }
}

/// Has bodies, and what arrives at sockets, come to `handle_socket`.
#[derive(Default, Serialize, Deserialize)]
struct Inbox {
    from: Option<Responder>,
    connecting: Option<Connecting>,
    seen: Vec<String>,
}

#[exuvia::actor(schema = 1)]
impl Actor for Inbox {
    type Message = String;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Inbox::default())
    }

    fn handle(&mut self, url: String, _: Pid, _: &mut Context) {
        self.connecting = Some(exuvia::socket::connect(&url).unwrap());
    }

    fn handle_info(&mut self, info: Info, _: &mut Context) {
        let answer = self
            .connecting
            .and_then(|connecting| connecting.answer(&info));
        match answer {
            Some(Ok(connected)) => connected.socket.send("hello").unwrap(),
            Some(Err(error)) => self.seen.push(error.to_string()),
            None => self.seen.push(format!("{info:?}")),
        }
    }

    fn handle_http(
        &mut self,
        request: Request,
        from: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        request.body_stream().socket()?.activate().unwrap();
        self.from = Some(from);
        None
    }

    fn handle_socket(&mut self, _: Socket, event: Event, _: &mut Context) {
        if event == Event::End
            && let Some(from) = self.from.take()
        {
            from.respond(&Response::text(self.seen.concat())).unwrap();
        }
        if let Event::Data(bytes) = event {
            self.seen.push(String::from_utf8(bytes).unwrap());
        }
    }
}

#[test]
fn a_body_may_come_by_itself() {
    let mut process = Process::<Inbox>::start(&());
    let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", "/"));
    testing::deliver_part(socket, data("one "));
    assert_eq!(testing::unread(socket), 1, "nobody wants it yet");
    process.run();
    testing::deliver_part(socket, data("two"));
    testing::deliver_part(socket, Event::End);
    process.run();
    assert_eq!(
        testing::response_to(reference),
        Ok(Response::text("one two"))
    );
}

fn asked(wanted: u32) -> (u64, Vec<u8>) {
    let found = testing::effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Request {
                to: testing::HTTP_CLIENT,
                tag,
                payload,
                reference,
            } if tag == wanted => Some((reference, payload)),
            _ => None,
        });
    found.unwrap()
}

#[test]
fn a_socket_to_the_outside_is_like_any_other() {
    let mut process = Process::<Inbox>::start(&());
    testing::deliver_message(Pid::NONE, "tcp://10.0.0.7:1");
    process.run();
    let (reference, payload) = asked(tag::SOCKET_OPEN);
    #[derive(Deserialize, PartialEq, Debug)]
    struct Asked {
        url: String,
    }
    let url = "tcp://10.0.0.7:1".to_owned();
    assert_eq!(exuvia::decode(&payload), Ok(Asked { url }));
    let socket = testing::deliver_connected(reference, Ok("tcp")).unwrap();
    process.run();
    assert!(testing::effects().contains(&Effect::Send {
        to: socket.pid(),
        tag: tag::SOCKET_TEXT,
        payload: b"hello".to_vec(),
    }));
    testing::deliver_part(socket, data("you"));
    process.run();
    assert_eq!(process.state().as_ref().unwrap().seen, ["you"]);
    testing::deliver_message(Pid::NONE, "tcp://10.0.0.7:2");
    process.run();
    let (reference, _) = asked(tag::SOCKET_OPEN);
    assert!(testing::deliver_connected(reference, Err("denied: not granted")).is_none());
    process.run();
    assert_eq!(
        process.state().as_ref().unwrap().seen,
        ["you", "not granted"]
    );
}

#[test]
fn what_arrives_may_be_read_on_the_stack() {
    let connecting = Connect::to("ws://a.example.com/")
        .protocol("json")
        .passive()
        .send()
        .unwrap();
    let (reference, _) = asked(tag::SOCKET_OPEN);
    let socket = testing::deliver_connected(reference, Ok("websocket")).unwrap();
    let connected = connecting.wait(exuvia::Wait::No).unwrap();
    assert_eq!(connected.socket, socket);
    let read = socket.read().unwrap();
    testing::deliver_part(socket, Event::Text("hello".into()));
    assert_eq!(read.wait(exuvia::Wait::No), Ok(Event::Text("hello".into())));
    let fetching = Fetch::get("https://a.example.com/").stream().unwrap();
    let (reference, _) = asked(tag::HTTP_REQUEST);
    let socket =
        testing::deliver_fetched_in_parts(reference, &Response::new(200).header("x-one", "yes"));
    let mut response = fetching.wait(exuvia::Wait::No).unwrap();
    assert_eq!(
        (response.status, response.header("X-One")),
        (200, Some("yes"))
    );
    testing::deliver_part(socket, data("body"));
    assert_eq!(
        response.body.wait(exuvia::Wait::No),
        Ok(Some(b"body".to_vec()))
    );
    testing::deliver_part(socket, Event::End);
    assert_eq!(response.body.wait(exuvia::Wait::No), Ok(None));
    assert_eq!(response.body.wait(exuvia::Wait::No), Ok(None));
    let late = Fetch::get("https://a.example.com/").stream().unwrap();
    let (reference, _) = asked(tag::HTTP_REQUEST);
    testing::deliver_fetched(reference, Err("denied: not granted"));
    let error = late.wait(exuvia::Wait::No).unwrap_err();
    assert_eq!(error, FetchError::Denied("not granted".into()));
    assert_eq!(BodyError::from(Error::Timeout), BodyError::Timeout);
}

#[test]
fn a_part_that_is_given_up_leaves_a_body_incomplete() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let response = Fetch::get("https://a.example.com/").stream().unwrap();
    let (reference, _) = asked(tag::HTTP_REQUEST);
    let socket =
        testing::deliver_fetched_in_parts(reference, &Response::new(200).with_body("first"));
    let mut body = response.wait(exuvia::Wait::No).unwrap().body;
    let poll = |body: &mut exuvia::http::BodyStream| {
        let mut context = Context::from_waker(Waker::noop());
        pin!(body.next()).poll(&mut context)
    };
    assert_eq!(poll(&mut body), Poll::Ready(Ok(Some(b"first".to_vec()))));
    assert_eq!(poll(&mut body), Poll::Pending, "and then it is dropped");
    testing::deliver_part(socket, data("lost"));
    testing::deliver_part(socket, Event::End);
    let error = BodyError::Incomplete("a part was not awaited".to_owned());
    let mut same = body.clone();
    assert_eq!(same.wait(exuvia::Wait::No), Err(error.clone()));
    assert_eq!(poll(&mut body), Poll::Ready(Err(error.clone())));
    assert_eq!(poll(&mut body), Poll::Ready(Err(error.clone())));
    assert_eq!(body.wait(exuvia::Wait::No), Err(error), "it stays so");
}

/// Takes the parts that were sent to a socket, and says that they are taken.
fn parts(socket: Socket) -> Vec<String> {
    let mut parts = Vec::new();
    for effect in testing::effects() {
        match effect {
            Effect::Request {
                to,
                tag: tag::SOCKET_DATA,
                payload,
                reference,
            } => {
                assert_eq!(to, socket.pid());
                parts.push(String::from_utf8(payload).unwrap());
                testing::deliver_reply(reference, Ok(&()));
            }
            Effect::Send {
                to,
                tag: tag @ (tag::SOCKET_END | tag::SOCKET_CLOSE),
                ..
            } => {
                assert_eq!(to, socket.pid());
                let is_end = tag == tag::SOCKET_END;
                parts.push(if is_end { "end" } else { "close" }.to_owned());
            }
            _ => {}
        }
    }
    parts
}

#[test]
fn a_body_is_sent_part_by_part() {
    use exuvia::Wait;
    let put = Fetch::new("PUT", "https://a.example.com/").with_body("first");
    let uploading = put.upload(Some(12)).unwrap();
    let (reference, head) = asked(tag::HTTP_REQUEST);
    assert!(head.ends_with(b"first"), "the body begins with the request");
    let socket = testing::deliver_upload(reference, Ok(())).unwrap();
    let upload = uploading.wait(Wait::No).unwrap();
    assert_eq!(upload.socket(), socket);
    let written = upload.write(b"hello").unwrap();
    assert_eq!(parts(socket), ["hello"]);
    written.wait(Wait::No).unwrap();
    let given_up = upload.clone();
    let finished = upload.finish().unwrap();
    assert_eq!(parts(socket), ["end"]);
    testing::deliver_uploaded(socket, Ok(&Response::new(201)));
    testing::deliver_part(socket, data("thanks"));
    testing::deliver_part(socket, Event::End);
    let mut response = finished.wait(Wait::No).unwrap();
    assert_eq!(response.status, 201);
    assert_eq!(response.body.wait(Wait::No), Ok(Some(b"thanks".to_vec())));
    assert_eq!(response.body.wait(Wait::No), Ok(None));
    given_up.abort().unwrap();
    assert_eq!(parts(socket), ["close"]);

    // It may be refused at once, or later.
    let post = Fetch::post("https://a.example.com/");
    let denied = post.upload(None).unwrap();
    let (reference, _) = asked(tag::HTTP_REQUEST);
    testing::deliver_upload(reference, Err("denied: not granted"));
    let error = denied.wait(Wait::No).unwrap_err();
    assert_eq!(error, FetchError::Denied("not granted".into()));
    let uploading = post.upload(None).unwrap();
    let (reference, _) = asked(tag::HTTP_REQUEST);
    let socket = testing::deliver_upload(reference, Ok(())).unwrap();
    let finished = uploading.wait(Wait::No).unwrap().finish().unwrap();
    testing::deliver_uploaded(socket, Err("timeout: there was no response in time"));
    assert_eq!(finished.wait(Wait::No), Err(FetchError::Timeout));
}

/// Counts datagrams, and answers each with its number.
#[derive(Default, Serialize, Deserialize)]
struct Meter {
    count: u64,
}

#[exuvia::actor(schema = 1)]
impl Actor for Meter {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Meter::default())
    }

    async fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
        if let Event::Datagram { peer, bytes } = event {
            self.count += 1;
            let answer = format!("{} {}", self.count, bytes.len());
            match bytes.is_empty() {
                true => socket.send_to(peer, answer.as_bytes()).unwrap(),
                false => (socket.write_to(peer, answer.as_bytes()).unwrap())
                    .await
                    .unwrap(),
            }
        }
    }
}

#[test]
fn a_datagram_is_answered() {
    let mut process = Process::<Meter>::start(&());
    let socket = Socket::from_pid(Pid::from_parts(1, 90));
    let one = "127.0.0.1:7".parse().unwrap();
    let two = "[2001:db8::1]:8".parse().unwrap();
    for (peer, bytes, answer) in [(one, &b"hello"[..], "1 5"), (two, b"", "2 0")] {
        let bytes = bytes.to_vec();
        let reference = testing::deliver_event(socket, Event::Datagram { peer, bytes });
        process.run();
        let sent = testing::datagrams(socket);
        assert_eq!(sent, [(peer, answer.as_bytes().to_vec())]);
        process.run();
        // It was handled: the credit for another one.
        let is_acknowledged = testing::effects().iter().any(
            |effect| matches!(effect, Effect::Reply { reference: of, .. } if *of == reference),
        );
        assert!(is_acknowledged);
    }
}
