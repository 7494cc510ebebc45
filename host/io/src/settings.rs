//! What a node listens to, and where requests go.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use foldhash::fast::FixedState;
use hyper::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::browser::CorsHeaders;
use crate::listener::ListenAddress;
use crate::tls::Certificate;

/// An address with the routes of the requests that arrive there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is any free one.
    pub address: ListenAddress,
    /// The permissions of the file of a Unix socket.
    pub mode: u32,
    /// The name of the socket that is passed to this program for it.
    pub socket: Option<String>,
    /// What is spoken there, and with whom.
    pub protocol: Protocol,
    /// With it, connections are encrypted, and none that is not is accepted.
    pub tls: Option<Certificate>,
    /// Origins whose pages may open a WebSocket, beside that of the host itself: `https://example.com`, or `*`.
    pub origins: Vec<String>,
    /// Which pages of other origins may make requests.
    pub cors: Option<CorsHeaders>,
    /// The headers of all responses that do not have them.
    pub response_headers: HeaderMap,
    /// The limits of its connections.
    pub limits: ConnectionLimits,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// What is spoken at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP. The most exact path wins, whatever the order of the routes.
    Http(Vec<Route>),
    /// Bytes, between each client and a process.
    Tcp(Owner),
    /// Datagrams, each for one process. Only of [`ListenAddress::Udp`].
    Udp(Datagrams),
}

/// What becomes of datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagrams {
    /// Who gets them; of a group, those of one address go to one member.
    pub to: Existing,
    /// Bytes of a datagram. Larger ones are dropped.
    pub datagram: usize,
    /// Datagrams that a process may have which it has not acknowledged. More are dropped.
    pub queue: usize,
}

/// Which process owns the connections of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// One that exists.
    Existing(Existing),
    /// A new process of this module for each.
    Module(String),
}

/// The limits of the connections of one address. A client that reaches one gets a response that says so, or
/// is disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections at a time. More wait until one ends.
    pub connections: usize,
    /// Bytes of the head of a request.
    pub headers: usize,
    /// Bytes of the body of a request, and of a message of a WebSocket.
    pub body: usize,
    /// How long a process may take for its reply, and a client until it takes what is written to it.
    pub timeout: Duration,
    /// How long a client may take for the head of a request, and for its body.
    pub reading: Duration,
    /// How long a connection may have no request under way, or nothing to read or write. After this time the client of
    /// a WebSocket is asked whether it is still there. `None`: for ever.
    pub idle: Option<Duration>,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            connections: 10_000,
            headers: 32 << 10,
            body: 1 << 20,
            timeout: Duration::from_secs(30),
            reading: Duration::from_secs(10),
            idle: Some(Duration::from_secs(75)),
        }
    }
}

/// Where some requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The host of the requests, without a port; `None`: any.
    pub host: Option<String>,
    /// The path; `{name}` matches one segment and `{*name}` the rest.
    pub path: String,
    /// The methods; none: any. A route for `GET` also gets `HEAD`.
    pub methods: Vec<String>,
    /// Bytes of the body of a request; `None`: as many as the address allows, or without a limit if they arrive in parts.
    pub body: Option<u64>,
    /// Whether bodies arrive in parts.
    pub streams: bool,
    /// What becomes of them.
    pub target: Target,
    /// Headers of a file that is served. A process sets its own.
    pub response_headers: HeaderMap,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process gets it.
    Process(Recipient),
    /// The client is led to another address.
    Redirect(Pattern),
    /// This file is served.
    File(PathBuf),
    /// This file of the node itself is served.
    Builtin(BuiltinFile),
    /// The files below this folder are served; their path is what the last parameter has matched.
    Folder(PathBuf),
}

/// A file that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltinFile {
    /// Its `Content-Type`.
    pub(crate) kind: &'static str,
    /// What is in it.
    pub(crate) text: &'static str,
}

impl BuiltinFile {
    /// The client of channels: an ES module.
    pub const CHANNEL_CLIENT: BuiltinFile = BuiltinFile {
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../../guest-sdk/js/exuvia.js"),
    };

    /// Returns its entity tag (RFC 9110, section 8.8.3).
    pub(crate) fn tag(&self) -> &'static str {
        static CHANNEL_CLIENT: LazyLock<String> = LazyLock::new(|| {
            let text = BuiltinFile::CHANNEL_CLIENT.text;
            format!("\"{:x}\"", FixedState::default().hash_one(text))
        });
        // There is no other file yet.
        &CHANNEL_CLIENT
    }
}

/// Which process gets a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// One that exists.
    Existing(Existing),
    /// A new process of this module, which ends when it has replied.
    Request(String),
    /// One process of this module for each connection.
    Connection(String),
    /// The process with the name that the key makes of the request. If there is none, it is started.
    Key {
        /// The module of processes that are started.
        module: String,
        /// Makes the name.
        key: Pattern,
        /// A process that was started, and has had no request for so long, is ended.
        idle: Duration,
    },
}

/// A process that was started by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The process with this name.
    Name(String),
    /// The members of this group, in turns.
    Group(String),
}

/// A text with parameters of the path in it: `cart:{id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Parameter(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err("a `{` has no `}`".to_owned());
            };
            if name.is_empty() {
                return Err("a parameter has no name".to_owned());
            }
            parts.push(Part::Parameter(name.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err("a `}` has no `{`".to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Pattern(parts))
    }

    /// Returns the names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Parameter(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// Returns the text that these parameters make. A parameter that is missing is empty.
    pub(crate) fn fill(&self, parameters: &[(String, String)]) -> String {
        self.fill_with(parameters, Cow::Borrowed)
    }

    /// The same for a URL: parameters are percent-encoded, but for their slashes.
    pub(crate) fn fill_url(&self, parameters: &[(String, String)]) -> String {
        self.fill_with(parameters, url_path)
    }

    fn fill_with<'a>(
        &'a self,
        parameters: &'a [(String, String)],
        encode: impl Fn(&'a str) -> Cow<'a, str>,
    ) -> String {
        let value = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => Cow::Borrowed(text.as_str()),
            Part::Parameter(name) => encode(value(name)),
        });
        parts.collect()
    }
}

/// Encodes a path for a URL.
pub(crate) fn url_path(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, ENCODED).into()
}

/// What parameters of a path are encoded in: all but the unreserved characters (RFC 3986, section 2.3) and slashes.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_parameters_in_it() {
        let key = Pattern::parse("cart:{shop}/{id}").unwrap();
        assert_eq!(key.parameters().collect::<Vec<_>>(), ["shop", "id"]);
        let parameters =
            [("id", "7"), ("shop", "books")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(key.fill(&parameters), "cart:books/7");
        let parameters = [("id", "a b\r\n/é"), ("shop", "-._~")];
        let parameters = parameters.map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(key.fill_url(&parameters), "cart:-._~/a%20b%0D%0A/%C3%A9");
        for (text, error) in [
            ("{id", "a `{` has no `}`"),
            ("id}", "a `}` has no `{`"),
            ("a{}", "a parameter has no name"),
        ] {
            let found = Pattern::parse(text).unwrap_err();
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}
