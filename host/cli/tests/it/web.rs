//! The template `web`, as its author and a client of it see it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{Message, client};

use crate::app::exuvia;
use crate::templates::{change, made};
use crate::terminal::Terminal;

/// Makes one request on a connection of its own. Returns the response.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

fn socket(address: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let url = format!("ws://{address}/counter/one");
    client(url, stream).unwrap().0
}

#[test]
fn a_page_is_edited_while_it_is_served() {
    let around = tempfile::tempdir().unwrap();
    let folder = made(around.path(), "page", "web");
    let change = |file: &str, from: &str, to: &str| change(&folder.join(file), from, to);
    change(
        "exuvia.toml",
        "address = \"127.0.0.1:8080\"",
        "address = \"127.0.0.1:0\"",
    );
    let mut terminal = Terminal::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("http://");
    let address = terminal.shows("\n").trim().to_owned();
    terminal.shows("started");
    let page = || ask(&address, "GET /counter/one");
    assert!(ask(&address, "GET /").contains("location: /counter/one"));
    assert!(page().contains("<output>0</output> <button>count on<"));
    let mut one = socket(&address);
    let mut two = socket(&address);
    let click = |on: &mut WebSocket<TcpStream>| on.send("+".into()).unwrap();
    let shown = |on: &mut WebSocket<TcpStream>| on.read().unwrap().into_text().unwrap().to_string();
    for socket in [&mut one, &mut two] {
        assert_eq!(
            shown(socket),
            "<output>0</output> <button>count on</button>"
        );
    }
    for _ in 0..2 {
        click(&mut one);
    }
    for socket in [&mut one, &mut two] {
        shown(socket);
        assert_eq!(
            shown(socket),
            "<output>2</output> <button>count on</button>"
        );
    }

    // New code keeps the count and the sockets.
    change("src/lib.rs", ">count on<", ">one more<");
    terminal.shows("upgrade-completed");
    click(&mut two);
    for socket in [&mut one, &mut two] {
        assert_eq!(
            shown(socket),
            "<output>3</output> <button>one more</button>"
        );
    }

    // New routes, while the node listens.
    change("exuvia.toml", "path = \"/\"", "path = \"/home\"");
    terminal.shows("manifest");
    terminal.shows("\n");
    assert!(ask(&address, "GET /home").contains("location: /counter/one"));
    assert!(ask(&address, "GET /").starts_with("HTTP/1.1 404 "));

    // A handler that traps says where, to a browser. (In probation, the first three messages, old code would
    // handle the request instead.)
    let post = "POST /counter/one\naccept: text/html\r\n";
    let refused = ask(&address, post);
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    assert!(refused.contains("\r\nallow: GET, HEAD\r\n"), "{refused}");
    change(
        "src/lib.rs",
        "    #[get]\n",
        "    #[post]\n    fn add(&mut self) {\n        panic!(\"no POST yet\")\n    }\n\n    #[get]\n",
    );
    terminal.shows("swap");
    for _ in 0..3 {
        assert!(page().contains("<output>3<"));
    }
    let failed = ask(&address, post);
    assert!(failed.starts_with("HTTP/1.1 500 "), "{failed}");
    for part in ["no POST yet", "src/lib.rs, line", "<mark>", "handle_http"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    assert!(matches!(one.read(), Ok(Message::Close(Some(frame))) if frame.code == 1011.into()));
    assert!(page().contains("<output>0<"), "a new process");
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}
