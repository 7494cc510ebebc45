//! What an address may be set to: a Unix socket, what browsers are told, and clients that are too slow.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::{App, BootError};

use crate::guests::{boot_options, eventually};
use crate::http::{Client, guest};
use crate::sockets::echo;

const PATIENCE: Duration = Duration::from_secs(20);

/// A manifest with the module `m`, which answers HTTP, and `echo`, which returns what a socket gets.
fn manifest(folder: &Path, listen: &str) -> Manifest {
    for (name, text) in [("m", guest("one")), ("echo", echo(""))] {
        let wasm = wat::parse_str(text).unwrap();
        std::fs::write(folder.join(name).with_extension("wasm"), wasm).unwrap();
    }
    let text = format!(
        "[app]\nname = \"test\"\n[modules.m]\npath = \"m.wasm\"\n[modules.echo]\npath = \"echo.wasm\"\n{listen}"
    );
    std::fs::write(folder.join("exuvia.toml"), text).unwrap();
    Manifest::load(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn try_boot(folder: &Path, listen: &str) -> Result<App, BootError> {
    let manifest = manifest(folder, listen);
    let options = boot_options(&manifest);
    App::boot(manifest, options)
}

fn boot(folder: &Path, listen: &str) -> App {
    try_boot(folder, listen).unwrap_or_else(|error| panic!("{error}"))
}

/// Makes one request over a Unix socket. Returns the response.
fn asked(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

const UNIX: &str = r#"
[[listen]]
address = "unix:web.sock"
mode = "660"
[[listen.routes]]
path = "/each"
module = "m"
[[listen]]
address = "unix:line.sock"
protocol = "tcp"
module = "echo"
"#;

#[test]
fn http_and_lines_over_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (web, line) = (
        folder.path().join("web.sock"),
        folder.path().join("line.sock"),
    );
    // What a node has left that was killed.
    drop(UnixListener::bind(&web).unwrap());
    let app = boot(folder.path(), UNIX);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&web), mode(&line)), (0o660, 0o600));
    assert_eq!(app.node().addresses(), [], "none of TCP");
    let response = asked(&web, "/each");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    // Who connects is a user.
    let me = std::fs::metadata(folder.path()).unwrap().uid();
    assert!(response.contains(&format!("unix:{me}")), "{response}");
    assert!(asked(&web, "/none").starts_with("HTTP/1.1 404 "));
    let mut stream = UnixStream::connect(&line).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");

    // The mode is edited, an address is added and one removed; connections stay.
    let edited = UNIX
        .replace("660", "606")
        .replace("unix:line.sock", "unix:other.sock");
    let edited = manifest(folder.path(), &edited);
    app.node().listen(&edited.listen).unwrap();
    assert_eq!(mode(&web), 0o606);
    assert!(!line.exists());
    assert!(folder.path().join("other.sock").exists());
    stream.write_all(b"again").unwrap();
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"again");
    assert!(asked(&web, "/each").starts_with("HTTP/1.1 200 "));
    app.stop(PATIENCE);
    assert!(!web.exists() && !folder.path().join("other.sock").exists());
}

#[test]
fn a_socket_in_use_and_a_file_that_is_none_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let web = folder.path().join("web.sock");
    let other = UnixListener::bind(&web).unwrap();
    let why = |error: BootError| {
        let help = error.help().unwrap_or_default();
        format!("{error}; {help}")
    };
    let error = why(try_boot(folder.path(), UNIX).unwrap_err());
    assert!(
        error.contains("web.sock cannot be listened to: another program listens there"),
        "{error}"
    );
    assert!(error.contains("choose another path"), "{error}");
    // It still listens there.
    UnixStream::connect(&web).unwrap();
    drop(other);
    std::fs::remove_file(&web).unwrap();
    std::fs::write(&web, "a text").unwrap();
    let error = why(try_boot(folder.path(), UNIX).unwrap_err());
    assert!(error.contains("a file that is not a socket"), "{error}");
    assert!(!std::fs::metadata(&web).unwrap().file_type().is_socket());
    let nowhere = UNIX.replace("unix:web.sock", "unix:none/web.sock");
    let error = why(try_boot(folder.path(), &nowhere).unwrap_err());
    assert!(error.contains("mkdir -p"), "{error}");
}

const BROWSERS: &str = r#"
[[listen]]
address = "127.0.0.1:0"
timeout = "300ms"
reading = "300ms"
cors = { origins = ["https://shop.example"], methods = ["GET", "DELETE"], credentials = true, expose = ["x-test"] }
response_headers = { x-content-type-options = "nosniff", x-test = "of the node" }
[[listen.routes]]
path = "/each"
module = "m"
[[listen.routes]]
path = "/nobody"
name = "nobody"
"#;

#[test]
fn pages_of_other_origins_are_told_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let app = boot(folder.path(), BROWSERS);
    let address = app.node().addresses()[0];
    let mut client = Client::new(address);
    let from = |origin: &str, more: &str| format!("origin: {origin}\r\n{more}");
    let asks =
        "access-control-request-method: DELETE\r\naccess-control-request-headers: content-type\r\n";
    let preflight = client.ask_saying("OPTIONS", "/each", &from("https://shop.example", asks));
    assert_eq!((preflight.status, preflight.text().as_str()), (204, ""));
    for line in [
        "access-control-allow-origin: https://shop.example",
        "access-control-allow-methods: get, delete",
        "access-control-allow-headers: content-type",
        "access-control-allow-credentials: true",
        "access-control-max-age: 600",
        "vary: origin",
        "x-content-type-options: nosniff",
    ] {
        assert!(
            preflight.head.contains(&format!("{line}\r\n")),
            "{line}: {}",
            preflight.head
        );
    }
    let other = client.ask_saying("OPTIONS", "/each", &from("https://evil.example", asks));
    assert_eq!(other.status, 204);
    assert!(
        !other.head.contains("access-control-allow"),
        "{}",
        other.head
    );
    // Then the request. What a process has set stays as it is; what fails is readable too.
    let (allowed, nosniff) = (
        "access-control-allow-origin: https://shop.example\r\n",
        "x-content-type-options: nosniff\r\n",
    );
    for (method, path, status, test) in [
        ("GET", "/each", 200, "x-test: yes\r\n"),
        ("GET", "/none", 404, "x-test: of the node\r\n"),
        ("DELETE", "/each", 500, "x-test: of the node\r\n"),
        ("GET", "/nobody", 503, "x-test: of the node\r\n"),
        // No preflight, so it is the process's, which does not reply to it.
        ("OPTIONS", "/each", 504, "x-test: of the node\r\n"),
    ] {
        let response = client.ask_saying(method, path, &from("https://shop.example", ""));
        assert_eq!(response.status, status, "{method} {path}");
        for line in [
            allowed,
            nosniff,
            test,
            "access-control-expose-headers: x-test\r\n",
        ] {
            assert!(
                response.head.contains(line),
                "{method} {path}: {}",
                response.head
            );
        }
        let response = client.ask_saying(method, path, &from("https://evil.example", ""));
        assert!(
            !response.head.contains("access-control-allow"),
            "{}",
            response.head
        );
        assert!(
            response.head.contains("vary: origin\r\n"),
            "{}",
            response.head
        );
    }
    // An edit holds for the next request of the same connection.
    let edited = manifest(folder.path(), &BROWSERS.replace("nosniff", "sniff"));
    app.node().listen(&edited.listen).unwrap();
    assert!(
        client
            .ask("GET", "/none")
            .head
            .contains("x-content-type-options: sniff\r\n")
    );
    app.stop(PATIENCE);
}

#[test]
fn a_client_that_is_too_slow_with_a_head_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let app = boot(folder.path(), BROWSERS);
    let address = app.node().addresses()[0];
    let before = app.node().system().table.alive();
    let mut slow = Client::new(address);
    assert_eq!(slow.ask("GET", "/each").status, 200);
    for head in ["GET /each HTTP/1.1\r\nhost: ", "GET"] {
        let mut client = Client::new(address);
        client.send(head.as_bytes());
        let response = client.response(false);
        assert_eq!(response.status, 408, "{head}");
        assert!(
            response.head.contains("connection: close\r\n"),
            "{}",
            response.head
        );
        assert!(client.is_closed());
    }
    // Also behind a request.
    slow.send(b"GET /ea");
    assert_eq!(slow.response(false).status, 408);
    assert!(slow.is_closed());
    drop(slow);
    eventually("nothing is left", || {
        app.node().system().table.alive() == before
    });
    app.stop(PATIENCE);
}
