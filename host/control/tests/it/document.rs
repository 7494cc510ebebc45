//! The server against its OpenAPI document: the routes are the same, and so is what is sent, by a
//! host of the tests that responds in every way, and by a real node.

use std::collections::BTreeSet;
use std::time::Duration;

use exuvia_api::{EventLine, StopReport, openapi};
use exuvia_control::{Claim, Health, NodeHost, Sentences, serve};
use exuvia_manifest::Manifest;
use exuvia_node::{App, BootOptions, NodeConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::fake::{Fake, Note, Running, running};
use crate::schema::Document;
use crate::wait::until;

type Routes = BTreeSet<(String, String)>;

/// The methods and paths of the document.
fn described(document: &Document) -> Routes {
    let paths = document.0["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    routes.collect()
}

#[test]
fn the_document_and_the_server_have_the_same_routes() {
    let routes = exuvia_control::routes::<Fake>();
    let named = routes
        .iter()
        .map(|(method, path)| (method.to_string(), (*path).to_owned()));
    let served: Routes = named.collect();
    assert_eq!(served.len(), routes.len(), "a route is there twice");
    assert_eq!(described(&Document::new()), served);
}

/// A request, as a line: the method, the path in the document with its query, what its parameters
/// are, the expected status, and the body.
struct Request<'a> {
    method: &'a str,
    /// The path in the document.
    path: &'a str,
    query: &'a str,
    parameter: &'a str,
    status: u16,
    body: &'a str,
}

impl<'a> Request<'a> {
    fn parse(line: &'a str) -> Self {
        let (method, rest) = line.split_once(' ').unwrap();
        let (target, rest) = rest.trim_start().split_once(' ').unwrap();
        let (parameter, rest) = rest.trim_start().split_once(' ').unwrap();
        let (status, body) = rest.trim_start().split_at(3);
        let query = target.find('?').unwrap_or(target.len());
        Self {
            method,
            path: &target[..query],
            query: &target[query..],
            parameter,
            status: status.parse().unwrap(),
            body: body.trim(),
        }
    }

    fn target(&self) -> String {
        let mut path = self.path.to_owned();
        for parameter in self.parameter.split(',') {
            if let Some((start, rest)) = path.clone().split_once('{') {
                let (_, end) = rest.split_once('}').unwrap();
                path = format!("{start}{parameter}{end}");
            }
        }
        path + self.query
    }

    /// Returns the media type and the text of the body. `form X` is a form with a module of the
    /// bytes `X`.
    fn body(&self) -> (&'static str, String) {
        match self.body.strip_prefix("form ") {
            None => ("application/json", self.body.to_owned()),
            Some(module) => (
                "multipart/form-data; boundary=cut",
                format!(
                    "--cut\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n{module}\r\n--cut--\r\n"
                ),
            ),
        }
    }
}

/// A response: its status, its media type and its body.
struct Response {
    status: u16,
    media: String,
    body: String,
}

async fn ask(socket: &std::path::Path, request: &Request<'_>) -> Response {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let (media, body) = request.body();
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {media}\r\n\
         content-length: {}\r\n\r\n",
        request.method,
        request.target(),
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let mut response = String::new();
    // A stream of events does not end: its first event is enough.
    loop {
        let mut bytes = [0; 64 * 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        response += std::str::from_utf8(&bytes[..read]).unwrap();
        if read == 0 || (response.contains("text/event-stream") && response.contains("\ndata: ")) {
            break;
        }
    }
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let media = lines.find_map(|line| line.strip_prefix("content-type: "));
    Response {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        media: media.unwrap().split(';').next().unwrap().to_owned(),
        body: body.to_owned(),
    }
}

/// Fails if the document does not describe the response.
fn check(document: &Document, request: &Request<'_>, response: &Response) {
    let Request {
        method,
        path,
        status,
        ..
    } = request;
    let body = &response.body;
    assert_eq!(response.status, *status, "{method} {path}: {body}");
    let responses = &document.0["paths"][path][method.to_lowercase()]["responses"];
    let described = &responses[status.to_string()];
    assert!(described.is_object(), "{method} {path} {status}");
    let content = &described["content"][&response.media];
    let media = &response.media;
    assert!(content.is_object(), "{method} {path} {status}: {media}");
    let value = match response.media.as_str() {
        "text/event-stream" => {
            let data = body.lines().find_map(|line| line.strip_prefix("data: "));
            serde_json::from_str(data.unwrap()).unwrap()
        }
        // The document describes itself as text: OpenAPI has a schema of its own.
        _ if *path == openapi::PATH => {
            assert_eq!(*body, openapi::document());
            json!(body)
        }
        media if media.ends_with("json") => serde_json::from_str(body).unwrap(),
        _ => json!(body),
    };
    let found = document.differences(&content["schema"], &value, "response");
    assert!(found.is_empty(), "{method} {path}: {found:#?}\n{body}");
}

/// Each route and most ways to fail, but for the streams and the stop.
const REQUESTS: &str = r#"
    GET    /healthz                            -       200
    GET    /readyz                             -       200
    GET    /metrics                            -       200
    GET    /v1/openapi.json                    -       200
    GET    /v1/node                            -       200
    GET    /v1/modules                         -       200
    GET    /v1/modules/{module}                counter 200
    GET    /v1/modules/{module}                nobody  404
    GET    /v1/top?limit=2                     -       200
    GET    /v1/top?limit=x                     -       400
    GET    /v1/top?limit=100000                -       413
    GET    /v1/supervision-tree                -       200
    GET    /v1/processes?limit=2               -       200
    GET    /v1/processes?after=2               -       200
    GET    /v1/processes?limit=200000          -       413
    GET    /v1/processes/{process}             a       200
    GET    /v1/processes/{process}             nobody  404
    DELETE /v1/processes/{process}?reason=old  a       200
    DELETE /v1/processes/{process}             nobody  404
    POST   /v1/processes/{process}/messages    a       202 {"observe":true}
    POST   /v1/processes/{process}/messages    a       400 {"odd":true}
    POST   /v1/processes/{process}/messages    nobody  404 {}
    POST   /v1/processes/{process}/calls       a       200 {"payload":{"text":"hi"}}
    POST   /v1/processes/{process}/calls       a       200 {"payload":{"msgpack":{"a":1}}}
    POST   /v1/processes/{process}/calls       a       200 {"payload":{"hex":"c1"}}
    POST   /v1/processes/{process}/calls       a       200 {}
    POST   /v1/processes/{process}/calls       late    504 {}
    POST   /v1/processes/{process}/calls       panic   500 {}
    GET    /v1/processes/{process}/functions   a       200
    POST   /v1/processes/{process}/suspend     a       200
    POST   /v1/processes/{process}/resume      a       200
    POST   /v1/processes/{process}/restart     a       200
    POST   /v1/processes/{process}/restart     nobody  409
    GET    /v1/processes/{process}/trace?limit=1 a     200
    GET    /v1/releases                        -       200
    GET    /v1/releases/{release}              current 200
    GET    /v1/releases/{release}              7       404
    POST   /v1/releases                        -       201 form new
    POST   /v1/releases                        -       200 form same
    POST   /v1/releases                        -       422 form broken
    POST   /v1/releases                        -       415 {}
    POST   /v1/releases/rollback               -       409
    POST   /v1/releases/rollback?to=1&message=m -      201
    POST   /v1/releases/rollback?to=x          -       400
    GET    /v1/releases/{release}/modules/{module} current,counter 200
    GET    /v1/releases/{release}/modules/{module} 2,nobody 404
    GET    /v1/releases/{release}/modules/{module} 9,counter 404
    GET    /v1/tokens                          -       200
    POST   /v1/tokens                          -       201 {"name":"ci","role":"deploy"}
    POST   /v1/tokens                          -       400 {"name":"","role":"deploy"}
    POST   /v1/tokens                          -       400 {"name":"ci","role":"boss"}
    DELETE /v1/tokens/{token}                  nobody  404
    PUT    /v1/releases/{release}/pin          1       200
    PUT    /v1/releases/{release}/pin          9       404
    DELETE /v1/releases/{release}/pin          1       200
"#;

/// Sends each request of a table; returns their routes.
async fn check_all(document: &Document, socket: &std::path::Path, table: &str) -> Routes {
    let mut asked = BTreeSet::new();
    for line in table.trim().lines() {
        let request = Request::parse(line.trim_start());
        let response = ask(socket, &request).await;
        check(document, &request, &response);
        asked.insert((request.method.to_owned(), request.path.to_owned()));
    }
    asked
}

#[tokio::test]
async fn every_response_is_as_the_document_describes_it() {
    let document = Document::new();
    let mut running = running();
    let socket = running.client.socket().unwrap().to_owned();
    let mut asked = check_all(&document, &socket, REQUESTS).await;

    let request = Request::parse("GET /v1/events - 200");
    let response = first_event(&running, &request).await;
    check(&document, &request, &response);
    asked.insert(("GET".to_owned(), "/v1/events".to_owned()));

    let request = Request::parse("POST /v1/node/stop - 200 {}");
    let stop = async {
        let asked = running.server.stop_requested().await;
        asked.answer(StopReport {
            orderly: true,
            left: 0,
        });
    };
    let (response, ()) = tokio::join!(ask(&socket, &request), stop);
    check(&document, &request, &response);
    asked.insert(("POST".to_owned(), "/v1/node/stop".to_owned()));

    assert_eq!(asked, described(&document), "a route was not asked");
}

/// Follows events until there is one. Whether the client follows already is not seen from here,
/// so that events go on until it has one.
async fn first_event(running: &Running, request: &Request<'_>) -> Response {
    let mut followed = std::pin::pin!(ask(running.client.socket().unwrap(), request));
    let mut first = None;
    until("an event arrives", async || {
        let text = "x".to_owned();
        running.fake.events.send(Note { text }).unwrap();
        tokio::select! {
            response = &mut followed => first = Some(response),
            () = tokio::task::yield_now() => {}
        }
        first.is_some()
    })
    .await;
    first.unwrap()
}

/// Requests to an app with one process, the counter of the manual.
const REAL: &str = r#"
    GET    /healthz                            -       200
    GET    /readyz                             -       200
    GET    /metrics                            -       200
    GET    /v1/node                            -       200
    GET    /v1/modules                         -       200
    GET    /v1/modules/{module}                counter 200
    GET    /v1/top                             -       200
    GET    /v1/top?sort=memory&limit=1         -       200
    GET    /v1/supervision-tree                -       200
    GET    /v1/processes                       -       200
    GET    /v1/processes?module=counter        -       200
    GET    /v1/processes/{process}             counter 200
    GET    /v1/processes/{process}             %3C9.9%3E 404
    POST   /v1/processes/{process}/messages    counter 202 {"payload":{"hex":"0300000000000000"}}
    POST   /v1/processes/{process}/calls       counter 200 {}
    GET    /v1/processes/{process}/functions   counter 200
    POST   /v1/processes/{process}/suspend     counter 200
    POST   /v1/processes/{process}/messages    counter 202 {"tag":7}
    GET    /v1/processes/{process}             counter 200
    POST   /v1/processes/{process}/resume      counter 200
    POST   /v1/processes/{process}/restart     counter 200
    DELETE /v1/processes/{process}             counter 200
    GET    /v1/releases                        -       200
    GET    /v1/releases/{release}              current 200
    POST   /v1/releases                        -       422 form broken
    POST   /v1/releases/rollback               -       409
"#;

/// The document says that these are texts, and no more.
const SENTENCES: Sentences = Sentences {
    event: |event| EventLine::at(event.at, "an event", serde_json::json!(event)),
    swap: |_| "a swap".to_owned(),
    message: |_, _| "a message".to_owned(),
};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_node_responds_as_the_document_describes() {
    let folder = tempfile::tempdir().unwrap();
    let code = include_str!("../../../../guest-sdk/wat/counter.wat");
    std::fs::write(folder.path().join("counter.wat"), code).unwrap();
    let text = "[app]\nname = \"documented\"\n[modules.counter]\npath = \"counter.wat\"\n\
        [[supervisor.children]]\nid = \"counter\"\nname = \"counter\"\nmodule = \"counter\"\n";
    let manifest = Manifest::parse(text, "exuvia.toml", folder.path()).unwrap();
    let options = BootOptions {
        config: Some(NodeConfig {
            schedulers: 2,
            frames: 16,
            cache: None,
            ..NodeConfig::of(&manifest)
        }),
        ..BootOptions::default()
    };
    let app = tokio::task::spawn_blocking(|| App::boot(manifest, options));
    let app = app.await.unwrap().unwrap();
    let socket = folder.path().join("node.sock");
    let health = Health::new();
    let host = NodeHost::new(app.node().clone(), SENTENCES);
    let server = serve(host, Claim::new(&socket).unwrap(), &health).unwrap();

    check_all(&Document::new(), &socket, REAL).await;

    server.close().await;
    let stopped = tokio::task::spawn_blocking(move || app.stop(Duration::from_secs(10)));
    assert!(stopped.await.unwrap().orderly);
}
