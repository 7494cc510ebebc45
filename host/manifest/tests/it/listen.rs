//! `[[listen]]`: what it says, and its mistakes.

use std::time::Duration;

use exuvia_manifest::{Listen, Owner, Per, Protocol, Route, RouteTarget};

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

#[test]
fn the_full_form() {
    let found = listen(
        r#"connections = 7
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
module = "m"
per = "key"
key = "room:{id}"
idle = "1m"
"#,
    );
    assert_eq!(
        found,
        Listen {
            address: "127.0.0.1:8080".parse().unwrap(),
            connections: 7,
            headers: 16 << 10,
            body: 2 << 20,
            timeout: Duration::from_secs(1),
            reading: Duration::from_secs(2),
            idle: Some(Duration::from_secs(3)),
            access_log: true,
            origins: vec!["https://example.com".into(), "*".into()],
            tls: None,
            protocol: Protocol::Http(vec![Route {
                host: Some("example.com".into()),
                path: "/room/{id}".into(),
                methods: vec!["GET".into(), "POST".into()],
                target: RouteTarget::Module {
                    module: "m".into(),
                    per: Per::Key {
                        key: "room:{id}".into(),
                        idle: Duration::from_secs(60),
                    },
                },
            }]),
        }
    );
}

#[test]
fn the_defaults() {
    let address = "127.0.0.1:8080".parse().unwrap();
    let defaults = Listen {
        address,
        ..Listen::default()
    };
    assert_eq!(listen(""), defaults);
    let manifest = parse(&with_children("[[listen]]\naddress = \"localhost:1\"\n")).unwrap();
    assert_eq!(manifest.listen[0].address, "127.0.0.1:1".parse().unwrap());
    let manifest = parse(&with_children("[[listen]]\naddress = \"[::1]:0\"\n")).unwrap();
    assert_eq!(manifest.listen[0].address, "[::1]:0".parse().unwrap());
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
fn a_certificate_is_two_files_beside_the_manifest() {
    let found = listen("tls = { certificate = \"cert.pem\", key = \"/etc/key.pem\" }\n");
    let tls = found.tls.expect("a certificate");
    assert_eq!(tls.certificate, std::path::Path::new("/app/cert.pem"));
    assert_eq!(tls.key, std::path::Path::new("/etc/key.pem"));
    let half = problems(&with_routes("tls = { certificate = \"cert.pem\" }\n"));
    assert_eq!(half, ["7:7 `key` is missing in `tls`"]);
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
            "[[listen]]\naddress = \"127.0.0.1:1\"\nprotocol = \"udp\"\n",
            "7:12 `udp` is not a known `protocol`",
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
