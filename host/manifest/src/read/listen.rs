//! `[[listen]]` and `[[listen.routes]]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::DeValue;

use super::browser;
use super::table::{At, Table, Value, as_table, wrong_type};
use crate::error::{Found, Problems, nearest};
use crate::keys::{BUILTINS, LISTEN, PERS, PROTOCOLS, PerWord, ProtocolWord, ROUTE};
use crate::listen::{
    Listen, ListenAddress, Owner, Per, Protocol, Receiver, Route, RouteTarget, Tls, Udp,
};
use crate::module::Module;

/// After how long without a request a process with a key is ended, unless the route says otherwise.
const IDLE: std::time::Duration = std::time::Duration::from_secs(300);

/// The maximum number of bytes of the path of a Unix socket, without the end that the system wants (unix(7)).
const LONGEST_PATH: usize = 107;
/// Bytes that a body may have which arrives as a whole.
const WHOLE: u64 = 256 << 20;
/// Bytes of a datagram, and how many may wait for a process, unless the address says otherwise.
const DATAGRAM: u64 = 64 << 10;
const QUEUE: u64 = 64;
/// What only HTTP has.
const OF_HTTP: [&str; 8] = [
    "routes",
    "origins",
    "cors",
    "response_headers",
    "headers",
    "body",
    "reading",
    "access_log",
];
/// What only streams have.
const OF_STREAMS: [&str; 4] = ["tls", "connections", "timeout", "idle"];
/// Who may own what arrives.
const OWNERS: [&str; 3] = ["name", "group", "module"];
/// What only UDP has.
const OF_UDP: [&str; 2] = ["datagram", "queue"];

/// Reads all `[[listen]]`.
pub(super) fn listen(
    root: &Table<'_, '_>,
    base_dir: &Path,
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> Vec<Listen> {
    let mut all: Vec<Listen> = Vec::new();
    for (n, value) in tables("listen", root, problems).into_iter().enumerate() {
        let title = || format!("`[[listen]]` number {}", n + 1);
        let Some(table) = as_table("listen", value, &LISTEN, title, problems) else {
            continue;
        };
        let span = table.key_span("address").unwrap_or(table.span.clone());
        let Some(listen) = one(table, base_dir, modules, problems) else {
            continue;
        };
        let is_any =
            matches!(listen.address, ListenAddress::Network(address) if address.port() == 0);
        let is_udp = |listen: &Listen| matches!(listen.protocol, Protocol::Udp(_));
        let twice = |known: &Listen| {
            known.address == listen.address && is_udp(known) == is_udp(&listen) && !is_any
        };
        if all.iter().any(twice) {
            let message = format!("{} is listened to twice", listen.address);
            let help = "put the routes of both into one `[[listen]]`".to_owned();
            problems.add(Found::at(span, message).help(help));
        }
        all.push(listen);
    }
    all
}

/// Returns the values of an array of tables.
fn tables<'a, 'i>(
    key: &'static str,
    table: &Table<'a, 'i>,
    problems: &mut Problems,
) -> Vec<&'a Value<'i>> {
    let Some(value) = table.get(key) else {
        return Vec::new();
    };
    let DeValue::Array(array) = value.get_ref() else {
        problems.add(wrong_type(key, "an array of tables", value));
        return Vec::new();
    };
    array.iter().collect()
}

fn one(
    table: Table<'_, '_>,
    base_dir: &Path,
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> Option<Listen> {
    let defaults = Listen::default();
    let address = address(&table, base_dir, problems);
    let is_unix = matches!(address, Some(ListenAddress::Unix(_)));
    if is_unix && let Some(span) = table.key_span("tls") {
        let message = "a Unix socket has no TLS".to_owned();
        let help = "what is sent there does not leave the machine: remove `tls`".to_owned();
        problems.add(Found::at(span, message).help(help));
    }
    let protocol = protocol(&table, base_dir, modules, problems);
    let is_tcp = matches!(protocol, None | Some(Protocol::Tcp(_)));
    if is_unix && let Some(Protocol::Udp(_)) = &protocol {
        let span = table.key_span("address").unwrap_or(table.span.clone());
        let message = "a Unix socket has no UDP".to_owned();
        let help = "write an address and a port:  address = \"127.0.0.1:8125\"".to_owned();
        problems.add(Found::at(span, message).help(help));
    }
    let listen = Listen {
        address: address.clone().unwrap_or(defaults.address),
        mode: mode(&table, is_unix, problems).unwrap_or(defaults.mode),
        socket: table.name("socket", problems).map(|at| at.value.to_owned()),
        connections: (table.integer("connections", problems)).unwrap_or(defaults.connections),
        headers: table.size("headers", problems).unwrap_or(defaults.headers),
        body: table.size("body", problems).unwrap_or(defaults.body),
        timeout: (table.duration("timeout", problems)).unwrap_or(defaults.timeout),
        reading: (table.duration("reading", problems)).unwrap_or(defaults.reading),
        idle: match table.duration("idle", problems) {
            None if is_tcp => None,
            None => defaults.idle,
            given => given,
        },
        access_log: table.boolean("access_log", problems).unwrap_or_default(),
        origins: origins(&table, problems),
        cors: browser::cors(&table, problems),
        response_headers: browser::response_headers(&table, problems),
        protocol: protocol.unwrap_or(defaults.protocol),
        tls: tls(&table, base_dir, problems),
    };
    table.finish(problems);
    address.map(|_| listen)
}

/// Reads the files of a certificate.
fn tls(table: &Table<'_, '_>, base_dir: &Path, problems: &mut Problems) -> Option<Tls> {
    let tls = table.table("tls", || "`tls`".to_owned(), problems)?;
    let mut file = |key: &'static str| match tls.string(key, problems) {
        Some(at) => Some(base_dir.join(at.value)),
        None if tls.key_span(key).is_none() => {
            let message = format!("`{key}` is missing in `tls`");
            let help = "write both:  tls = { certificate = \"cert.pem\", key = \"key.pem\" }";
            problems.add(Found::at(tls.span.clone(), message).help(help.to_owned()));
            None
        }
        None => None,
    };
    let (certificate, key) = (file("certificate"), file("key"));
    tls.finish(problems);
    Some(Tls {
        certificate: certificate?,
        key: key?,
    })
}

/// Reads what is spoken, and with whom.
fn protocol(
    table: &Table<'_, '_>,
    base_dir: &Path,
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> Option<Protocol> {
    let word = table.choice("protocol", &PROTOCOLS, problems);
    if table.key_span("protocol").is_some() && word.is_none() {
        return None;
    }
    let of_other = |keys: &[&'static str], of: &str, problems: &mut Problems| {
        for key in keys {
            if let Some(span) = table.key_span(key) {
                problems.add(Found::at(span, format!("`{key}` is for {of}")));
            }
        }
    };
    if word == Some(ProtocolWord::Udp) {
        of_other(&OF_HTTP, "HTTP", problems);
        of_other(&OF_STREAMS, "connections", problems);
        return udp(table, problems).map(Protocol::Udp);
    }
    of_other(&OF_UDP, "`protocol = \"udp\"`", problems);
    if word == Some(ProtocolWord::Tcp) {
        of_other(&OF_HTTP, "HTTP", problems);
        let name = table.name("name", problems);
        let group = table.name("group", problems);
        let module = table.string("module", problems);
        if named(table, &OWNERS) != 1 {
            let message = format!("{} needs one of `name`, `group` and `module`", table.title);
            let help = "`module` starts a process for each connection; the others get them";
            problems.add(Found::at(table.span.clone(), message).help(help.to_owned()));
            return None;
        }
        return Some(Protocol::Tcp(match (name, group) {
            (Some(name), _) => Owner::Name(name.value.to_owned()),
            (_, Some(group)) => Owner::Group(group.value.to_owned()),
            _ => Owner::Module(known_module(module?, modules, problems)),
        }));
    }
    for key in OWNERS {
        if let Some(span) = table.key_span(key) {
            let found = Found::at(
                span,
                format!("`{key}` is for `protocol = \"tcp\"` and `\"udp\"`"),
            );
            problems.add(found.help("HTTP has it in `[[listen.routes]]`".to_owned()));
        }
    }
    let mut routes = Vec::new();
    for (n, value) in tables("routes", table, problems).into_iter().enumerate() {
        let title = || format!("`[[listen.routes]]` number {}", n + 1);
        if let Some(table) = as_table("routes", value, &ROUTE, title, problems) {
            routes.extend(route(table, base_dir, modules, problems));
        }
    }
    Some(Protocol::Http(routes))
}

/// Returns how many of these keys a table has.
fn named(table: &Table<'_, '_>, keys: &[&'static str]) -> usize {
    let there = keys.iter().filter(|key| table.key_span(key).is_some());
    there.count()
}

/// Reads what becomes of datagrams.
fn udp(table: &Table<'_, '_>, problems: &mut Problems) -> Option<Udp> {
    if let Some(span) = table.key_span("module") {
        let message = "`module` is for connections, and a datagram has none".to_owned();
        let help = "anybody can forge the address of a sender, so no process is started for one: `name` has one process get all, and `group` shares them out";
        problems.add(Found::at(span, message).help(help.to_owned()));
        return None;
    }
    let name = table.name("name", problems);
    let group = table.name("group", problems);
    if named(table, &OWNERS) != 1 {
        let message = format!("{} needs one of `name` and `group`", table.title);
        let help = "one process gets all datagrams, or each sender has one of a group";
        problems.add(Found::at(table.span.clone(), message).help(help.to_owned()));
        return None;
    }
    Some(Udp {
        to: match (name, group) {
            (Some(name), _) => Receiver::Name(name.value.to_owned()),
            (_, group) => Receiver::Group(group?.value.to_owned()),
        },
        datagram: table.size("datagram", problems).unwrap_or(DATAGRAM),
        queue: table.integer("queue", problems).unwrap_or(QUEUE),
    })
}

pub(super) fn origins(table: &Table<'_, '_>, problems: &mut Problems) -> Vec<String> {
    let mut origins = Vec::new();
    for at in table.strings("origins", problems).unwrap_or_default() {
        match origin(at.value) {
            Some(origin) => origins.push(origin),
            None => {
                let message = format!("`{}` is not an origin", at.value);
                let help = "write each as browsers send it, a scheme and a host in ASCII without a path:  \"https://example.com\"; `*` stands for all origins and not for a part of one";
                problems.add(Found::at(at.span, message).help(help.to_owned()));
            }
        }
    }
    origins
}

/// Returns an origin as browsers send it (RFC 6454, section 6.2): in lower case, and without the usual port of its scheme.
fn origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let begins = scheme.starts_with(|first: char| first.is_ascii_lowercase());
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    if !begins || !scheme.bytes().all(is_of_scheme) || !is_host {
        return None;
    }
    let port: Option<u16> = match port {
        Some(port) if port.starts_with('+') => return None,
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    Some(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

/// Returns the name of a module, which is reported if there is none.
fn known_module(
    module: At<&str>,
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> String {
    if !modules.contains_key(module.value) {
        let message = format!("there is no module `{}`", module.value);
        let found = Found::at(module.span, message);
        let near = nearest(module.value, modules.keys().map(String::as_str));
        problems.add(match near {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found.help("declare it in `[modules]`".to_owned()),
        });
    }
    module.value.to_owned()
}

/// Reads the permissions of a socket's file.
fn mode(table: &Table<'_, '_>, is_unix: bool, problems: &mut Problems) -> Option<u32> {
    let at = table.string("mode", problems)?;
    let is_octal = !at.value.is_empty() && at.value.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(at.value, 8).ok();
    let mode = mode.filter(|mode| is_octal && *mode <= 0o777);
    if mode.is_none() {
        let message = format!("`{}` is not a mode of a file", at.value);
        let help = "write it in octal, as for `chmod`:  mode = \"660\"".to_owned();
        problems.add(Found::at(at.span.clone(), message).help(help));
    }
    if !is_unix {
        let message = "`mode` is for an address of the form `unix:/path`".to_owned();
        problems.add(Found::at(at.span, message));
    }
    mode
}

fn address(
    table: &Table<'_, '_>,
    base_dir: &Path,
    problems: &mut Problems,
) -> Option<ListenAddress> {
    const FORM: &str = "write an address and a port:  address = \"127.0.0.1:8080\", or the path of a socket:  address = \"unix:/run/app.sock\"";
    if table.key_span("address").is_none() {
        let message = format!("`address` is missing in {}", table.title);
        problems.add(Found::at(table.span.clone(), message).help(FORM.to_owned()));
        return None;
    }
    let at = table.string("address", problems)?;
    if let Some(path) = at.value.strip_prefix("unix:") {
        let socket = base_dir.join(path);
        let socket = std::path::absolute(&socket).unwrap_or(socket);
        let length = socket.as_os_str().len();
        let wrong = match (path, length) {
            ("", _) => "`unix:` has no path behind it".to_owned(),
            (_, length) if length > LONGEST_PATH => {
                format!(
                    "the path of a socket has {LONGEST_PATH} bytes at most, and this one {length}"
                )
            }
            _ => return Some(ListenAddress::Unix(socket)),
        };
        let help = "write the path of a socket:  address = \"unix:/run/app.sock\"".to_owned();
        problems.add(Found::at(at.span, wrong).help(help));
        return None;
    }
    // The name that everybody knows; others would have to be resolved.
    let text = at.value.replacen("localhost:", "127.0.0.1:", 1);
    let parsed = text.parse().ok().map(ListenAddress::Network);
    if parsed.is_none() {
        let message = format!("`{}` is not an address with a port", at.value);
        problems.add(Found::at(at.span, message).help(FORM.to_owned()));
    }
    parsed
}

fn route(
    table: Table<'_, '_>,
    base_dir: &Path,
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> Option<Route> {
    let path = path(&table, problems);
    let methods = methods(&table, problems);
    let host = table.name("host", problems).map(|at| at.value.to_owned());
    let target = target(&table, (path.as_deref(), base_dir), modules, problems);
    let response_headers = browser::response_headers(&table, problems);
    if let Some(span) = table.key_span("response_headers")
        && !matches!(target, None | Some(RouteTarget::Files { .. }))
    {
        let message = "`response_headers` is for routes with `files`".to_owned();
        let help = "a process sets the headers of its responses; `[[listen]]` has those of all";
        problems.add(Found::at(span, message).help(help.to_owned()));
    }
    let stream = table.boolean("stream", problems).unwrap_or_default();
    let body = body(&table, stream, problems);
    if matches!(
        target,
        Some(RouteTarget::Files { .. } | RouteTarget::Redirect(_) | RouteTarget::Builtin(_))
    ) {
        for key in ["body", "stream"] {
            if let Some(span) = table.key_span(key) {
                let message = format!("`{key}` is for routes to a process");
                problems.add(Found::at(span, message));
            }
        }
    }
    table.finish(problems);
    Some(Route {
        host,
        path: path?,
        methods,
        body,
        stream,
        target: target?,
        response_headers,
    })
}

/// Reads how large a body may be. One that arrives as a whole is held in memory.
fn body(table: &Table<'_, '_>, stream: bool, problems: &mut Problems) -> Option<u64> {
    let body = table.size("body", problems)?;
    if !stream && body > WHOLE {
        let span = table.key_span("body").unwrap_or(table.span.clone());
        let message = "a body that arrives as a whole has 256 MiB at most".to_owned();
        let help = "have it arrive in parts:  stream = true".to_owned();
        problems.add(Found::at(span, message).help(help));
        return None;
    }
    Some(body)
}

fn path(table: &Table<'_, '_>, problems: &mut Problems) -> Option<String> {
    if table.key_span("path").is_none() {
        let message = format!("`path` is missing in {}", table.title);
        let help = "write a pattern:  path = \"/room/{id}\"".to_owned();
        problems.add(Found::at(table.span.clone(), message).help(help));
        return None;
    }
    let at = table.string("path", problems)?;
    if !at.value.starts_with('/') {
        let message = format!("the path `{}` does not begin with `/`", at.value);
        problems.add(Found::at(at.span, message));
        return None;
    }
    Some(at.value.to_owned())
}

pub(super) fn methods(table: &Table<'_, '_>, problems: &mut Problems) -> Vec<String> {
    let mut methods = Vec::new();
    for at in table.strings("methods", problems).unwrap_or_default() {
        if !at
            .value
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            let message = format!("`{}` is not a method", at.value);
            let found = Found::at(at.span, message);
            problems.add(found.help(format!(
                "methods are capitals: {:?}",
                at.value.to_uppercase()
            )));
            continue;
        }
        methods.push(at.value.to_owned());
    }
    methods
}

fn target(
    table: &Table<'_, '_>,
    (path, base_dir): (Option<&str>, &Path),
    modules: &BTreeMap<String, Module>,
    problems: &mut Problems,
) -> Option<RouteTarget> {
    let name = table.name("name", problems);
    let group = table.name("group", problems);
    let module = table.string("module", problems);
    let redirect = table.string("redirect", problems);
    let files = table.string("files", problems);
    let builtin = table.choice("builtin", &BUILTINS, problems);
    let given = ["name", "group", "module", "redirect", "files", "builtin"]
        .map(|key| table.key_span(key).is_some());
    if given.iter().filter(|given| **given).count() != 1 {
        let message = format!(
            "{} needs one of `name`, `group`, `module`, `redirect`, `files` and `builtin`",
            table.title
        );
        let help = "`name` is a process, `group` a group, `module` what is started, `redirect` another address, `files` a file or a folder, `builtin` a file of the node itself".to_owned();
        problems.add(Found::at(table.span.clone(), message).help(help));
        return None;
    }
    if module.is_none() {
        for key in ["per", "key", "idle"] {
            if let Some(span) = table.key_span(key) {
                let message = format!("`{key}` is for routes with `module`");
                problems.add(Found::at(span, message));
            }
        }
    }
    if let Some(name) = name {
        return Some(RouteTarget::Name(name.value.to_owned()));
    }
    if let Some(group) = group {
        return Some(RouteTarget::Group(group.value.to_owned()));
    }
    if let Some(files) = files {
        return Some(RouteTarget::Files {
            path: base_dir.join(files.value),
            is_folder: path.is_some_and(|path| path.contains("{*")),
        });
    }
    if let Some(builtin) = builtin {
        return Some(RouteTarget::Builtin(builtin));
    }
    if let Some(to) = redirect {
        known_parameters(to.value, to.span, path, problems);
        return Some(RouteTarget::Redirect(to.value.to_owned()));
    }
    let module = module?;
    let module = known_module(module, modules, problems);
    let per = per(table, path, problems)?;
    Some(RouteTarget::Module { module, per })
}

fn per(table: &Table<'_, '_>, path: Option<&str>, problems: &mut Problems) -> Option<Per> {
    let word = table.choice("per", &PERS, problems);
    if table.key_span("per").is_some() && word.is_none() {
        return None;
    }
    let key = table.name("key", problems);
    let idle = table.duration("idle", problems);
    match word.unwrap_or(PerWord::Request) {
        PerWord::Key => {
            let Some(key) = key else {
                let message = "`key` is missing: it makes the name of the process".to_owned();
                let help =
                    "write a name with parameters of the path:  key = \"cart:{id}\"".to_owned();
                problems.add(Found::at(table.span.clone(), message).help(help));
                return None;
            };
            let is_known = known_parameters(key.value, key.span.clone(), path, problems);
            if is_known && parameters(key.value).next().is_none() {
                let message = "the key has no parameter, so all requests would have one process";
                let help = "use `name` for one process, or write:  key = \"cart:{id}\"";
                problems.add(Found::at(key.span, message.to_owned()).help(help.to_owned()));
            }
            Some(Per::Key {
                key: key.value.to_owned(),
                idle: idle.unwrap_or(IDLE),
            })
        }
        other => {
            for key in ["key", "idle"] {
                if let Some(span) = table.key_span(key) {
                    let message = format!("`{key}` is for routes with `per = \"key\"`");
                    problems.add(Found::at(span, message));
                }
            }
            Some(match other {
                PerWord::Connection => Per::Connection,
                _ => Per::Request,
            })
        }
    }
}

/// Reports braces that do not match, and a parameter that the path does not have. Returns whether there is neither.
fn known_parameters(
    text: &str,
    span: Range<usize>,
    path: Option<&str>,
    problems: &mut Problems,
) -> bool {
    let braces: String = text.chars().filter(|c| "{}".contains(*c)).collect();
    let mut unknown =
        parameters(text).filter(|name| path.is_some_and(|path| !has_parameter(path, name)));
    if braces.as_bytes().chunks(2).any(|pair| pair != b"{}") {
        let message = "a `{` and its `}` do not match".to_owned();
        problems.add(Found::at(span, message));
        return false;
    }
    if let Some(name) = unknown.next() {
        let message = format!("the path has no parameter `{{{name}}}`");
        problems.add(Found::at(span, message));
        return false;
    }
    true
}

/// Returns the names between `{` and `}`.
fn parameters(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

fn has_parameter(path: &str, name: &str) -> bool {
    parameters(path).any(|known| known.trim_start_matches('*') == name)
}
