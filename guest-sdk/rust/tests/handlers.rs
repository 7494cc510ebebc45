//! Handlers of `#[exuvia::http]`, tested against the in-memory host.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use exuvia::RunResult;
use exuvia::http::{
    BodyStream, Form, FromRequest, IntoResponse, Json, Query, Request, Responder, Response,
};
use exuvia::prelude::*;
use exuvia::socket::Event;
use exuvia::testing::{self, Process};

/// A shelf of things by number. No handler of it waits.
#[derive(Default, Serialize, Deserialize)]
struct Shelf {
    things: BTreeMap<u32, String>,
    later: Option<Responder>,
}

#[derive(Deserialize)]
struct Range {
    from: u32,
    #[serde(default)]
    most: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Thing {
    number: u32,
    name: String,
}

/// An extractor of the app: who asks.
struct User(String);

impl FromRequest for User {
    fn from_request(request: &Request) -> Result<User, Response> {
        let name = request.header("x-user");
        let name = name.ok_or_else(|| Response::error(401, "who are you?"))?;
        Ok(User(name.to_owned()))
    }
}

/// An error of the app.
enum Refused {
    Taken(u32),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused::Taken(number) = self;
        Response::error(409, format!("{number} is taken"))
    }
}

#[exuvia::actor(schema = 1, http)]
impl Actor for Shelf {
    type Message = String;

    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Shelf::default())
    }

    fn handle(&mut self, text: String, _: Pid, _: &mut Context) {
        self.later
            .take()
            .unwrap()
            .respond(&Response::text(text))
            .unwrap();
    }
}

#[exuvia::http]
impl Shelf {
    #[get("/things")]
    fn list(&self, Query(range): Query<Range>) -> Json<Vec<String>> {
        let from = self.things.range(range.from..);
        let most = range.most.unwrap_or(usize::MAX);
        Json(from.map(|(_, name)| name.clone()).take(most).collect())
    }

    #[post("/things")]
    fn put(&mut self, Json(thing): Json<Thing>) -> Result<(u16, Json<Thing>), Refused> {
        if self.things.contains_key(&thing.number) {
            return Err(Refused::Taken(thing.number));
        }
        self.things.insert(thing.number, thing.name.clone());
        Ok((201, Json(thing)))
    }

    #[get("/things/{number}")]
    fn thing(&self, number: u32) -> Option<String> {
        self.things.get(&number).cloned()
    }

    #[delete("/things/{number}")]
    fn remove(&mut self, number: u32) {
        self.things.remove(&number);
    }

    #[get("/things/first")]
    fn first(&self) -> Option<&'static str> {
        (!self.things.is_empty()).then_some("there is one")
    }

    #[get("/files/{folder}/{*path}")]
    #[get("/old/{folder}/{*path}")]
    fn file(folder: String, path: String) -> String {
        format!("{folder} {path}")
    }

    #[put("/form")]
    fn form(Form(form): Form<BTreeMap<String, u8>>, User(name): User) -> String {
        format!("{name} {form:?}")
    }

    #[get("/headers")]
    fn headers(
        #[header("x-count")] count: u8,
        #[header("If-Match")] tag: Option<String>,
        request: &Request,
    ) -> String {
        format!("{count} {tag:?} {}", request.peer)
    }

    #[get("/later")]
    fn later(&mut self, from: Responder) {
        self.later = Some(from);
    }

    #[patch("/end")]
    fn end(&mut self, cx: &mut Context) {
        cx.stop(Reason::NORMAL);
    }

    /// All that the manifest sends here beside these.
    #[get]
    fn other(&self, request: &Request) -> (u16, String) {
        (418, self.described(&request.path))
    }

    fn described(&self, path: &str) -> String {
        format!("{path} is none of {} things", self.things.len())
    }
}

fn ask(process: &mut Process<Shelf>, request: &Request) -> (u16, String) {
    let reference = testing::deliver_http(request);
    process.run();
    let response = testing::response_to(reference).unwrap();
    (response.status, String::from_utf8(response.body).unwrap())
}

fn json(method: &str, path: &str, body: &str) -> Request {
    let request = Request::new(method, path).with_header("content-type", "application/json");
    request.with_body(body)
}

#[test]
fn arguments_are_made_of_the_request() {
    let mut shelf = Process::<Shelf>::start(&());
    let put = json("POST", "/things", r#"{"number":7,"name":"nut"}"#);
    let form = Request::new("PUT", "/form")
        .with_header("content-type", "application/x-www-form-urlencoded")
        .with_body("a=1&b=2");
    let headers = Request::new("GET", "/headers").with_header("x-count", "3");
    for (request, status, text) in [
        (put.clone(), 201, r#"{"number":7,"name":"nut"}"#),
        (put, 409, "409 Conflict: 7 is taken\n"),
        (
            json("POST", "/things", r#"{"number":9,"name":"oil"}"#),
            201,
            r#"{"number":9,"name":"oil"}"#,
        ),
        (
            Request::new("GET", "/things?from=0"),
            200,
            r#"["nut","oil"]"#,
        ),
        (
            Request::new("GET", "/things?from=0&most=1"),
            200,
            r#"["nut"]"#,
        ),
        (Request::new("GET", "/things/7"), 200, "nut"),
        (Request::new("HEAD", "/things/7"), 200, "nut"),
        (
            Request::new("GET", "/things/8"),
            404,
            "404 Not Found: there is no such thing\n",
        ),
        (Request::new("GET", "/things/first"), 200, "there is one"),
        (Request::new("DELETE", "/things/7"), 204, ""),
        (
            Request::new("GET", "/files/a%20b/c/d%2Fe"),
            200,
            "a b c/d/e",
        ),
        (Request::new("GET", "/old/a/b"), 200, "a b"),
        (
            form.clone().with_header("x-user", "Anna"),
            200,
            r#"Anna {"a": 1, "b": 2}"#,
        ),
        (form, 401, "401 Unauthorized: who are you?\n"),
        (headers.clone(), 200, "3 None 127.0.0.1:1"),
        (
            headers.with_header("if-match", "x"),
            200,
            r#"3 Some("x") 127.0.0.1:1"#,
        ),
        (
            Request::new("GET", "/nowhere"),
            418,
            "/nowhere is none of 1 things",
        ),
        (
            Request::new("GET", "/things/"),
            418,
            "/things/ is none of 1 things",
        ),
    ] {
        let what = format!("{} {}?{}", request.method, request.path, request.query);
        assert_eq!(
            ask(&mut shelf, &request),
            (status, text.to_owned()),
            "{what}"
        );
    }
}

/// A request with these headers, in MessagePack.
fn raw(headers: &[u8]) -> Request {
    let head = b"\x83\xa6method\xa3GET\xa4path\xa8/headers\xa7headers";
    Request::decode(Pid::NONE, &[head, headers].concat()).unwrap()
}

#[test]
fn what_cannot_be_taken_is_the_clients_error_and_says_why() {
    let mut shelf = Process::<Shelf>::start(&());
    for (request, status, text) in [
        (
            Request::new("GET", "/things"),
            400,
            "the query: missing field `from`",
        ),
        (
            Request::new("GET", "/things?from=x"),
            400,
            "the query: invalid digit",
        ),
        (
            Request::new("GET", "/things/x"),
            404,
            "`number` of the path: invalid digit",
        ),
        (
            Request::new("GET", "/files/a/%ff"),
            400,
            "`path` of the path is not UTF-8",
        ),
        (
            Request::new("POST", "/things").with_body("{}"),
            415,
            "the body has no `content-type`",
        ),
        (
            json("POST", "/things", "{"),
            400,
            "the body is not JSON: EOF",
        ),
        (
            json("POST", "/things", "{}"),
            422,
            "the body: missing field `number`",
        ),
        (
            json("PUT", "/form", "{}"),
            415,
            "the body is `application/json`",
        ),
        (
            Request::new("PUT", "/form")
                .with_header("content-type", "application/x-www-form-urlencoded")
                .with_body("a=256"),
            422,
            "the form: number too large",
        ),
        (
            Request::new("GET", "/headers"),
            400,
            "there is no header `x-count`",
        ),
        (
            raw(b"\x91\x92\xa7x-count\xc4\x01\xff"),
            400,
            "the header `x-count` is no text",
        ),
        // One that need not be there either.
        (
            raw(b"\x92\x92\xa7x-count\xa13\x92\xa8if-match\xc4\x01\xff"),
            400,
            "the header `If-Match` is no text",
        ),
        (
            Request::new("GET", "/headers").with_header("x-count", "many"),
            400,
            "the header `x-count`: invalid digit",
        ),
    ] {
        let what = format!("{} {}", request.method, request.path);
        let (got, body) = ask(&mut shelf, &request);
        assert_eq!(got, status, "{what}: {body}");
        assert!(body.contains(text), "{what}: {body}");
    }
    assert!(shelf.state().as_ref().unwrap().things.is_empty());
}

#[test]
fn a_method_that_a_path_has_not_is_refused_with_those_that_it_has() {
    let mut shelf = Process::<Shelf>::start(&());
    for (method, path, allowed) in [
        ("PUT", "/things", "GET, HEAD, POST"),
        ("POST", "/things/7", "DELETE, GET, HEAD"),
        // The most exact path counts, although another one has the method.
        ("DELETE", "/things/first", "GET, HEAD"),
        ("GET", "/end", "PATCH"),
        ("POST", "/nowhere", "GET, HEAD"),
    ] {
        let reference = testing::deliver_http(&Request::new(method, path));
        shelf.run();
        let response = testing::response_to(reference).unwrap();
        assert_eq!(response.status, 405, "{method} {path}");
        let allow = ("allow".to_owned(), allowed.to_owned());
        assert!(response.headers.contains(&allow), "{:?}", response.headers);
    }
}

#[test]
fn a_handler_may_respond_later_and_stop_the_actor() {
    let mut shelf = Process::<Shelf>::start(&());
    let reference = testing::deliver_http(&Request::new("GET", "/later"));
    shelf.run();
    assert_eq!(testing::response_to(reference), Err(Error::Timeout));
    testing::deliver_message(Pid::NONE, "now");
    shelf.run();
    assert_eq!(testing::response_to(reference), Ok(Response::text("now")));
    let end = testing::deliver_http(&Request::new("PATCH", "/end"));
    assert_eq!(shelf.run(), RunResult::Done);
    assert_eq!(testing::response_to(end), Ok(Response::new(204)));
}

/// Some handlers of it wait.
#[derive(Serialize, Deserialize)]
struct Files {
    bytes: usize,
}

#[exuvia::actor(schema = 1, http)]
impl Actor for Files {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Files { bytes: 0 })
    }
}

#[exuvia::http]
impl Files {
    #[put("/{name}")]
    async fn store(&mut self, name: String, mut body: BodyStream) -> Result<String, Response> {
        while let Some(part) = body.next().await? {
            self.bytes += part.len();
        }
        Ok(format!("{name} {}", self.bytes))
    }

    #[post("/{name}")]
    fn whole(&mut self, Json(all): Json<Vec<u8>>) -> Json<usize> {
        Json(all.len())
    }
}

#[test]
fn a_handler_may_wait_for_the_parts_of_a_body() {
    let mut files = Process::<Files>::start(&());
    let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", "/a"));
    assert_eq!(files.run(), RunResult::Waiting);
    testing::deliver_part(socket, Event::Data(b"hello".to_vec()));
    assert_eq!(files.run(), RunResult::Waiting);
    testing::deliver_part(socket, Event::End);
    files.run();
    assert_eq!(testing::response_to(reference), Ok(Response::text("a 5")));
    // One that is cut off is the client's error.
    let (socket, reference) = testing::deliver_http_in_parts(&Request::new("PUT", "/a"));
    let (code, reason) = (1006, "reset".to_owned());
    testing::deliver_part(socket, Event::Closed { code, reason });
    files.run();
    assert_eq!(testing::response_to(reference).unwrap().status, 400);
    // The others do not wait.
    let whole = testing::deliver_http(&json("POST", "/a", "[1,2]"));
    files.run();
    assert_eq!(testing::response_to(whole), Ok(Response::json(&2)));
}

#[test]
fn a_body_in_parts_is_not_taken_for_an_empty_one() {
    let mut files = Process::<Files>::start(&());
    let request = Request::new("POST", "/a").with_header("content-type", "application/json");
    let (_, reference) = testing::deliver_http_in_parts(&request);
    files.run();
    assert_eq!(testing::response_to(reference).unwrap().status, 500);
    let logged = testing::effects().into_iter().any(|effect| {
        matches!(effect, testing::Effect::Log { line, .. } if line.contains("stream = true"))
    });
    assert!(logged);
}
