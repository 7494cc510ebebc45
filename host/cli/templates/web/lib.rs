//! A page that counts, for all who look at it. `exuvia dev` builds and serves it; change something here while it runs:
//! the next click shows it in every browser, and the count goes on.

use std::collections::BTreeSet;

use exuvia::http::{Request, Response};
use exuvia::prelude::*;
use exuvia::socket::{Event, Socket};

/// What a process remembers: there is one for each name in the path. New code takes it over by the fields' names:
/// give a new field `#[serde(default)]`, and raise `schema` below.
#[derive(Serialize, Deserialize, Layout, Saved)]
struct Counter {
    count: u64,
    /// The browsers that look at it.
    sockets: BTreeSet<Socket>,
}

#[exuvia::actor(schema = 1, layout, http)]
impl Actor for Counter {
    type Args = String;

    fn init(_key: String, _: &mut Context) -> Result<Self, String> {
        Ok(Counter {
            count: 0,
            sockets: BTreeSet::new(),
        })
    }

    /// What a browser says.
    fn handle_socket(&mut self, socket: Socket, event: Event, _: &mut Context) {
        match event {
            Event::Open(_) => {
                self.sockets.insert(socket);
                let _ = socket.send(&self.content());
            }
            Event::Text(_) => {
                self.count += 1;
                exuvia::info!("the count is {}", self.count);
                let content = self.content();
                // Who is too slow for it misses this one, and sees the next.
                for socket in &self.sockets {
                    let _ = socket.send(&content);
                }
            }
            Event::Closed { .. } => {
                self.sockets.remove(&socket);
            }
            Event::Data(_) | Event::Datagram { .. } | Event::End => {}
        }
    }
}

/// What browsers ask for, at all paths that `exuvia.toml` sends here. Others are added as `#[get("/counter/{name}/more")]`
/// or `#[post]`, with arguments such as `name: String` or `Json(order): Json<Order>`.
#[exuvia::http]
impl Counter {
    /// The page, and then its WebSocket.
    #[get]
    fn page(&self, request: &Request) -> Response {
        match request.wants_websocket() {
            true => Response::websocket(),
            false => Response::html(PAGE.replace("CONTENT", &self.content())),
        }
    }

    /// What changes: browsers put it in place.
    fn content(&self) -> String {
        format!("<output>{}</output> <button>count on</button>", self.count)
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Counter</title>
<style>
  body { font: 1.5rem system-ui; display: grid; place-items: center; min-height: 90vh }
  output { font-size: 6rem; display: block; text-align: center }
  button { font: inherit; padding: .5rem 1.5rem }
</style>
<main>CONTENT</main>
<script type="module">
  const main = document.querySelector("main");
  let socket;
  function connect() {
    socket = new WebSocket(location.href.replace(/^http/, "ws"));
    socket.onmessage = (message) => main.innerHTML = message.data;
    socket.onclose = () => setTimeout(connect, 500);
  }
  connect();
  main.onclick = (click) => click.target.tagName === "BUTTON" && socket.send("+");
</script>
</html>
"#;

#[cfg(test)]
mod tests {
    use exuvia::Pid;
    use exuvia::http::{Request, Response};
    use exuvia::socket::{Event, Opened, Socket};
    use exuvia::testing::{Process, deliver_event, deliver_http, response_to};

    use super::Counter;

    #[test]
    fn it_counts() {
        let mut process = Process::<Counter>::start(&"counter:one".to_owned());
        let page = deliver_http(&Request::new("GET", "/counter/one"));
        let websocket = Request::new("GET", "/counter/one").with_header("upgrade", "websocket");
        let socket = deliver_http(&websocket);
        process.run();
        let page = response_to(page).expect("a page");
        assert!(String::from_utf8_lossy(&page.body).contains("<output>0</output>"));
        assert_eq!(response_to(socket), Ok(Response::websocket()));

        let socket = Socket::from_pid(Pid::from_parts(1, 90));
        let opened = Opened {
            kind: "websocket".into(),
            peer: "127.0.0.1:9".into(),
            reference: None,
        };
        deliver_event(socket, Event::Open(opened));
        deliver_event(socket, Event::Text("+".into()));
        process.run();
        assert_eq!(
            process.state().as_ref().map(|counter| counter.count),
            Some(1)
        );
    }
}
