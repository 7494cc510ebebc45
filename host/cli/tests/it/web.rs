//! The template `web`, as its author and a client of it see it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::app::{answer, exuvia};
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

#[test]
fn a_page_is_edited_while_it_is_served() {
    let around = tempfile::tempdir().unwrap();
    let made = answer(exuvia(around.path()).args(["new", "page", "--template", "web"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let folder = around.path().join("page");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates");
    fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(&target, folder.join("target")).unwrap();
    let change = |file: &str, from: &str, to: &str| {
        let file = folder.join(file);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    };
    change(
        "exuvia.toml",
        "address = \"127.0.0.1:8080\"",
        "address = \"127.0.0.1:0\"",
    );
    let mut terminal = Terminal::start(exuvia(&folder).arg("dev"), 160, 40);
    terminal.shows("http://");
    let address = terminal.shows("\n").trim().to_owned();
    terminal.shows("started");
    let count = |number: u32| {
        let page = ask(&address, "GET /counter/one");
        assert!(
            page.contains(&format!("<output>{number}</output>")),
            "{page}"
        );
        page
    };
    assert!(ask(&address, "GET /").contains("location: /counter/one"));
    count(0);
    for _ in 0..2 {
        let counted = ask(&address, "POST /counter/one");
        assert!(counted.starts_with("HTTP/1.1 303 "), "{counted}");
    }
    assert!(count(2).contains(">count on<"));

    // New code keeps the count.
    change("src/lib.rs", ">count on<", ">one more<");
    terminal.shows("upgrade-completed");
    assert!(count(2).contains(">one more<"));

    // New routes, while the node listens.
    change("exuvia.toml", "path = \"/\"", "path = \"/home\"");
    terminal.shows("manifest");
    terminal.shows("\n");
    assert!(ask(&address, "GET /home").contains("location: /counter/one"));
    assert!(ask(&address, "GET /").starts_with("HTTP/1.1 404 "));

    // A handler that traps says where, to a browser. (In probation, the first three messages, old code would
    // handle the request instead.)
    change(
        "src/lib.rs",
        "self.count += 1;",
        "assert!(name == \"two\", \"only two\");",
    );
    terminal.shows("swap");
    for _ in 0..3 {
        count(2);
    }
    let failed = ask(&address, "POST /counter/one\naccept: text/html\r\n");
    assert!(failed.starts_with("HTTP/1.1 500 "), "{failed}");
    for part in ["only two", "src/lib.rs, line", "<mark>", "handle_http"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    count(0);
    terminal.types("\x03");
    assert_eq!(terminal.end().0, Some(0));
}
