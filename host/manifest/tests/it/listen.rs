//! `[[listen]]`: what it says, and its mistakes.

use std::time::Duration;

use exuvia_manifest::{
    Builtin, Cors, Listen, ListenAddress, Owner, Per, Protocol, Receiver, Route, RouteTarget, Udp,
};

use crate::{parse, problems, with_children};

/// A manifest with one address and these lines after it.
fn with_routes(lines: &str) -> String {
    with_children(&format!(
        "[[listen]]\naddress = \"127.0.0.1:8080\"\n{lines}"
    ))
}

fn listen(lines: &str) -> Listen {
    let manifest = parse(&with_routes(lines)).unwrap_or_else(|error| panic!("{error}"));
    manifest.listen.into_iter().next().expect("an address")
}

fn tcp(address: &str) -> ListenAddress {
    ListenAddress::Network(address.parse().expect("an address"))
}

#[test]
fn the_full_form() {
    let found = listen(
        r#"socket = "web"
connections = 7
headers = "16KiB"
body = "2MiB"
timeout = "1s"
reading = "2s"
idle = "3s"
access_log = true
origins = ["https://example.com", "*"]
[[listen.routes]]
path = "/room/{id}"
host = "example.com"
methods = ["GET", "POST"]
body = "3GiB"
stream = true
module = "m"
per = "key"
key = "room:{id}"
idle = "1m"
"#,
    );
    assert_eq!(
        found,
        Listen {
            address: tcp("127.0.0.1:8080"),
            mode: 0o600,
            socket: Some("web".into()),
            connections: 7,
            headers: 16 << 10,
            body: 2 << 20,
            timeout: Duration::from_secs(1),
            reading: Duration::from_secs(2),
            idle: Some(Duration::from_secs(3)),
            access_log: true,
            origins: vec!["https://example.com".into(), "*".into()],
            cors: None,
            response_headers: Vec::new(),
            tls: None,
            protocol: Protocol::Http(vec![Route {
                host: Some("example.com".into()),
                path: "/room/{id}".into(),
                methods: vec!["GET".into(), "POST".into()],
                body: Some(3 << 30),
                stream: true,
                target: RouteTarget::Module {
                    module: "m".into(),
                    per: Per::Key {
                        key: "room:{id}".into(),
                        idle: Duration::from_secs(60),
                    },
                },
                response_headers: Vec::new(),
            }]),
        }
    );
}

#[test]
fn the_defaults() {
    let address = tcp("127.0.0.1:8080");
    let defaults = Listen {
        address,
        ..Listen::default()
    };
    assert_eq!(listen(""), defaults);
    let manifest = parse(&with_children("[[listen]]\naddress = \"localhost:1\"\n")).unwrap();
    assert_eq!(manifest.listen[0].address, tcp("127.0.0.1:1"));
    let manifest = parse(&with_children("[[listen]]\naddress = \"[::1]:0\"\n")).unwrap();
    assert_eq!(manifest.listen[0].address, tcp("[::1]:0"));
}

#[test]
fn the_targets() {
    let module = |per| RouteTarget::Module {
        module: "m".into(),
        per,
    };
    for (lines, target) in [
        ("name = \"front\"", RouteTarget::Name("front".into())),
        ("group = \"pool\"", RouteTarget::Group("pool".into())),
        ("module = \"m\"", module(Per::Request)),
        ("module = \"m\"\nper = \"request\"", module(Per::Request)),
        (
            "module = \"m\"\nper = \"connection\"",
            module(Per::Connection),
        ),
        (
            "redirect = \"/new/{id}\"",
            RouteTarget::Redirect("/new/{id}".into()),
        ),
        (
            "builtin = \"exuvia.js\"",
            RouteTarget::Builtin(Builtin::ChannelClient),
        ),
        (
            "files = \"public/a.html\"",
            RouteTarget::Files {
                path: "/app/public/a.html".into(),
                is_folder: false,
            },
        ),
        (
            "module = \"m\"\nper = \"key\"\nkey = \"{id}\"",
            module(Per::Key {
                key: "{id}".into(),
                idle: Duration::from_secs(300),
            }),
        ),
    ] {
        let text = format!("[[listen.routes]]\npath = \"/a/{{id}}\"\n{lines}\n");
        let Protocol::Http(routes) = listen(&text).protocol else {
            panic!("{lines}");
        };
        assert_eq!(routes[0].target, target, "{lines}");
    }
}

#[test]
fn files_below_a_folder_have_the_rest_of_the_path() {
    let found = listen("[[listen.routes]]\npath = \"/static/{*path}\"\nfiles = \"public\"\n");
    let Protocol::Http(routes) = found.protocol else {
        panic!("{found:?}");
    };
    let folder = RouteTarget::Files {
        path: "/app/public".into(),
        is_folder: true,
    };
    assert_eq!(routes[0].target, folder);
    let found = listen(
        "[[listen.routes]]\npath = \"/a\"\nfiles = \"a\"\nresponse_headers = { Cache-Control = \"no-cache\" }\n",
    );
    let Protocol::Http(routes) = found.protocol else {
        panic!("{found:?}");
    };
    let header = ("cache-control".to_owned(), "no-cache".to_owned());
    assert_eq!(routes[0].response_headers, [header]);
}

#[test]
fn tcp_has_one_target_and_no_end_of_idleness() {
    for (line, target) in [
        ("name = \"front\"", Owner::Name("front".into())),
        ("group = \"pool\"", Owner::Group("pool".into())),
        ("module = \"m\"", Owner::Module("m".into())),
    ] {
        let found = listen(&format!("protocol = \"tcp\"\n{line}\n"));
        assert_eq!(found.protocol, Protocol::Tcp(target), "{line}");
        assert_eq!(found.idle, None);
    }
    let found = listen("protocol = \"tcp\"\nname = \"n\"\nidle = \"1m\"\n");
    assert_eq!(found.idle, Some(Duration::from_secs(60)));
}

#[test]
fn udp_has_one_receiver_and_limits_of_datagrams() {
    let udp = |lines: &str| match listen(&format!("protocol = \"udp\"\n{lines}\n")).protocol {
        Protocol::Udp(udp) => udp,
        other => panic!("{other:?}"),
    };
    let all = Udp {
        to: Receiver::Name("front".into()),
        datagram: 64 << 10,
        queue: 64,
    };
    assert_eq!(udp("name = \"front\""), all);
    let shared = Udp {
        to: Receiver::Group("pool".into()),
        datagram: 512,
        queue: 1_000,
    };
    let found = udp("group = \"pool\"\ndatagram = \"512B\"\nqueue = 1000");
    assert_eq!(found, shared);
    // TCP and UDP have ports of their own.
    let both = "[[listen]]\naddress = \"127.0.0.1:53\"\nprotocol = \"tcp\"\nname = \"n\"\n\
                [[listen]]\naddress = \"127.0.0.1:53\"\nprotocol = \"udp\"\nname = \"n\"\n";
    assert_eq!(parse(&with_children(both)).unwrap().listen.len(), 2);
    let twice = both.replace("tcp", "udp");
    let found = problems(&with_children(&twice));
    assert_eq!(found, ["10:1 127.0.0.1:53 is listened to twice"]);
}

#[test]
fn a_certificate_is_two_files_beside_the_manifest() {
    let found = listen("tls = { certificate = \"cert.pem\", key = \"/etc/key.pem\" }\n");
    let tls = found.tls.expect("a certificate");
    assert_eq!(tls.certificate, std::path::Path::new("/app/cert.pem"));
    assert_eq!(tls.key, std::path::Path::new("/etc/key.pem"));
    let half = problems(&with_routes("tls = { certificate = \"cert.pem\" }\n"));
    assert_eq!(half, ["7:7 `key` is missing in `tls`"]);
}

#[test]
fn a_socket_has_a_path_and_a_mode() {
    let one = |lines: &str| {
        let manifest = parse(&with_children(&format!("[[listen]]\n{lines}")));
        let listen = manifest.unwrap().listen.remove(0);
        (listen.address, listen.mode)
    };
    let unix = |path: &str| ListenAddress::Unix(path.into());
    assert_eq!(
        one("address = \"unix:/run/a.sock\"\n"),
        (unix("/run/a.sock"), 0o600)
    );
    assert_eq!(
        one("address = \"unix:a.sock\"\nmode = \"0660\"\n"),
        (unix("/app/a.sock"), 0o660)
    );
}

#[test]
fn pages_of_other_origins_and_headers_of_all_responses() {
    let found = listen("cors = { origins = [\"*\"] }\n").cors.unwrap();
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    let defaults = Cors {
        origins: texts(&["*"]),
        methods: texts(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        headers: texts(&["content-type"]),
        expose: texts(&[]),
        credentials: false,
        max_age: Duration::from_secs(600),
    };
    assert_eq!(found, defaults);
    let found = listen(
        r#"
[listen.cors]
origins = ["https://Example.com:443", "http://localhost:3000", "http://[::1]:80", "capacitor://localhost"]
methods = ["GET"]
headers = ["Authorization", "*"]
expose = ["X-Total"]
credentials = true
max_age = "1h"
[listen.response_headers]
X-Content-Type-Options = "nosniff"
content-security-policy = "default-src 'self'"
"#,
    );
    let cors = Cors {
        origins: texts(&[
            "https://example.com",
            "http://localhost:3000",
            "http://[::1]",
            "capacitor://localhost",
        ]),
        methods: texts(&["GET"]),
        headers: texts(&["authorization", "*"]),
        expose: texts(&["x-total"]),
        credentials: true,
        max_age: Duration::from_secs(3600),
    };
    assert_eq!(found.cors, Some(cors));
    let mut headers = found.response_headers;
    headers.sort();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        pair("content-security-policy", "default-src 'self'"),
        pair("x-content-type-options", "nosniff"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn mistakes_in_what_browsers_are_told() {
    for (lines, problem) in [
        ("cors = { }", "7:8 `origins` is missing in `cors`"),
        (
            "cors = { origins = [\"example.com\"] }",
            "7:21 `example.com` is not an origin",
        ),
        (
            "cors = { origins = [\"*\"], credentials = true }",
            "7:27 `credentials` are not for all origins",
        ),
        (
            "cors = { origins = [\"http://a.b\"], credentials = true, expose = [\"*\"] }",
            "7:56 `expose = [\"*\"]` has no effect with `credentials`",
        ),
        (
            "cors = { origins = [\"https://*.a.b\"] }",
            "7:21 `https://*.a.b` is not an origin",
        ),
        (
            "origins = [\"https://bücher.de\"]",
            "7:12 `https://bücher.de` is not an origin",
        ),
        (
            "origins = [\"https://me@a.b\"]",
            "7:12 `https://me@a.b` is not an origin",
        ),
        (
            "origins = [\"https://a.b?q\"]",
            "7:12 `https://a.b?q` is not an origin",
        ),
        (
            "origins = [\"https://a.b:x\"]",
            "7:12 `https://a.b:x` is not an origin",
        ),
        (
            "response_headers = { sec-websocket-protocol = \"x\" }",
            "7:22 the node sets `sec-websocket-protocol` itself",
        ),
        (
            "cors = { origins = [\"*\"], headers = [\"a b\"] }",
            "7:38 `a b` is not the name of a header",
        ),
        (
            "cors = { origins = [\"*\"], methods = [\"get\"] }",
            "7:38 `get` is not a method",
        ),
        (
            "cors = { origins = [\"*\"], age = \"1s\" }",
            "7:27 unknown key `age` in `cors`",
        ),
        (
            "response_headers = { \"x y\" = \"1\" }",
            "7:22 `x y` is not the name of a header",
        ),
        (
            "response_headers = { x-y = \"1\\r\\nset-cookie: a\" }",
            "7:28 the value of `x-y` is not one of a header",
        ),
        (
            "response_headers = { x-y = 1 }",
            "7:28 `x-y` must be a string",
        ),
        (
            "response_headers = { x-y = \"1\", X-Y = \"2\" }",
            "`x-y` is there twice",
        ),
        (
            "response_headers = { Content-Length = \"1\" }",
            "7:22 the node sets `content-length` itself",
        ),
        (
            "protocol = \"tcp\"\nname = \"n\"\nresponse_headers = { x = \"1\" }",
            "9:1 `response_headers` is for HTTP",
        ),
    ] {
        let found = problems(&with_routes(&format!("{lines}\n")));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].contains(problem), "{lines}: {found:?}");
    }
}

#[test]
fn mistakes_in_addresses() {
    for (lines, problem) in [
        (
            "[[listen]]\n",
            "5:1 `address` is missing in `[[listen]]` number 1",
        ),
        (
            "[[listen]]\naddress = \"8080\"\n",
            "6:11 `8080` is not an address with a port",
        ),
        (
            "[[listen]]\naddress = \"example.com:80\"\n",
            "6:11 `example.com:80` is not an address with a port",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\n",
            "8:1 127.0.0.1:1 is listened to twice",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"sctp\"\n",
            "7:12 `sctp` is not a known `protocol`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\n",
            "5:1 `[[listen]]` number 1 needs one of `name` and `group`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\nmodule = \"m\"\n",
            "8:1 `module` is for connections, and a datagram has none",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\nname = \"n\"\nidle = \"1s\"\n",
            "9:1 `idle` is for connections",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\nname = \"n\"\ndatagram = \"65KiB\"\n",
            "9:12 `datagram` must be",
        ),
        (
            "[[listen]]\naddress = \"unix:a\"\nprotocol = \"udp\"\nname = \"n\"\n",
            "6:1 a Unix socket has no UDP",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\nname = \"n\"\nqueue = 7\n",
            "9:1 `queue` is for `protocol = \"udp\"`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\n",
            "5:1 `[[listen]]` number 1 needs one of `name`, `group` and `module`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"tcp\"\nname = \"n\"\nbody = 1\n",
            "9:1 `body` is for HTTP",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nname = \"n\"\n",
            "7:1 `name` is for `protocol = \"tcp\"`",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\norigins = [\"example.com\"]\n",
            "7:12 `example.com` is not an origin",
        ),
        (
            "[[listen]]\naddress = \"unix:\"\n",
            "6:11 `unix:` has no path behind it",
        ),
        (
            format!("[[listen]]\naddress = \"unix:/{}\"\n", "a".repeat(107)).as_str(),
            "6:11 the path of a socket has 107 bytes at most, and this one 108",
        ),
        (
            "[[listen]]\naddress = \"unix:a\"\n[[listen]]\naddress = \"unix:/app/a\"\n",
            "8:1 unix:/app/a is listened to twice",
        ),
        (
            "[[listen]]\naddress = \"unix:a\"\nmode = \"rw\"\n",
            "7:8 `rw` is not a mode of a file",
        ),
        (
            "[[listen]]\naddress = \"unix:a\"\nmode = \"1777\"\n",
            "7:8 `1777` is not a mode of a file",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"600\"\n",
            "7:8 `mode` is for an address of the form `unix:/path`",
        ),
        (
            "[[listen]]\naddress = \"unix:a\"\ntls = { certificate = \"c\", key = \"k\" }\n",
            "7:1 a Unix socket has no TLS",
        ),
        ("listen = 1\n", "5:1 unknown key `listen` in `[modules.m]`"),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nconnections = 0\n",
            "7:15 `connections` must be from 1 to 1000000",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\nbody = \"1GiB\"\n",
            "7:8 `body` must be",
        ),
    ] {
        let found = problems(&with_children(lines));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(problem), "{lines}: {found:?}");
    }
}

#[test]
fn mistakes_in_routes() {
    for (lines, problem) in [
        (
            "name = \"n\"",
            "`path` is missing in `[[listen.routes]]` number 1",
        ),
        (
            "path = \"a\"\nname = \"n\"",
            "the path `a` does not begin with `/`",
        ),
        ("path = \"/\"", "`[[listen.routes]]` number 1 needs one of"),
        (
            "path = \"/\"\nname = \"n\"\ngroup = \"g\"",
            "`[[listen.routes]]` number 1 needs one of",
        ),
        (
            "path = \"/\"\nname = \"n\"\nper = \"key\"",
            "`per` is for routes with `module`",
        ),
        ("path = \"/\"\nmodule = \"x\"", "there is no module `x`"),
        (
            "path = \"/\"\nmodule = \"m\"\nper = \"day\"",
            "`day` is not a known `per`",
        ),
        (
            "path = \"/\"\nmodule = \"m\"\nkey = \"{a}\"",
            "`key` is for routes with `per = \"key\"`",
        ),
        (
            "path = \"/{a}\"\nmodule = \"m\"\nper = \"key\"",
            "`key` is missing",
        ),
        (
            "path = \"/{a}\"\nmodule = \"m\"\nper = \"key\"\nkey = \"c:{b}\"",
            "the path has no parameter `{b}`",
        ),
        (
            "path = \"/{a}\"\nmodule = \"m\"\nper = \"key\"\nkey = \"c:{a\"",
            "a `{` and its `}` do not match",
        ),
        (
            "path = \"/{a}\"\nmodule = \"m\"\nper = \"key\"\nkey = \"c\"",
            "the key has no parameter",
        ),
        (
            "path = \"/{a}\"\nredirect = \"/{b}\"",
            "the path has no parameter `{b}`",
        ),
        (
            "path = \"/\"\nname = \"n\"\nresponse_headers = { x = \"1\" }",
            "`response_headers` is for routes with `files`",
        ),
        (
            "path = \"/c.js\"\nbuiltin = \"exuvia.js\"\nstream = true",
            "`stream` is for routes to a process",
        ),
        (
            "path = \"/\"\nname = \"n\"\nmethods = [\"get\"]",
            "`get` is not a method",
        ),
    ] {
        let found = problems(&with_routes(&format!("[[listen.routes]]\n{lines}\n")));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        let (_, message) = found[0].split_once(' ').expect("a place");
        assert!(message.starts_with(problem), "{lines}: {found:?}");
    }
}
