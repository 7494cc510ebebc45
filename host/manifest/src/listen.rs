//! `[[listen]]`: addresses, and where the requests that arrive there go.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address of TCP or UDP; port 0 is any free one.
    Network(SocketAddr),
    /// `unix:` and the path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Network(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One `[[listen]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `address`.
    pub address: ListenAddress,
    /// `mode`: the permissions of the file of a Unix socket.
    pub mode: u32,
    /// `socket`: the name of the socket that is passed to the node for it.
    pub socket: Option<String>,
    /// `connections`: how many at a time.
    pub connections: u64,
    /// `headers`: bytes of the head of a request.
    pub headers: u64,
    /// `body`: bytes of the body of a request, and of a message of a WebSocket.
    pub body: u64,
    /// `timeout`: how long a process may take for its reply.
    pub timeout: Duration,
    /// `reading`: how long a client may take for a head, and for a body.
    pub reading: Duration,
    /// `idle`: how long a connection may have no request under way, or nothing to read or write; `None`: for ever.
    pub idle: Option<Duration>,
    /// `access_log`: whether each request is logged.
    pub access_log: bool,
    /// `origins`: those whose pages may open a WebSocket, beside that of the host itself.
    pub origins: Vec<String>,
    /// `cors`: which pages of other origins may make requests.
    pub cors: Option<Cors>,
    /// `response_headers`: those of all responses that do not have them.
    pub response_headers: Vec<(String, String)>,
    /// `protocol`, and who is spoken with.
    pub protocol: Protocol,
    /// `tls`: with it, connections are encrypted.
    pub tls: Option<Tls>,
}

/// Which pages of other origins may make requests, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// `origins`; `*` is all.
    pub origins: Vec<String>,
    /// `methods`.
    pub methods: Vec<String>,
    /// `headers`: those that requests may have; `*` is all.
    pub headers: Vec<String>,
    /// `expose`: headers of responses that the pages may read.
    pub expose: Vec<String>,
    /// `credentials`: whether requests may have cookies.
    pub credentials: bool,
    /// `max_age`: how long a browser need not ask again.
    pub max_age: Duration,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `certificate`: the file of the certificate and those that it was signed with.
    pub certificate: PathBuf,
    /// `key`: the file of its private key.
    pub key: PathBuf,
}

/// What is spoken at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP: `[[listen.routes]]`.
    Http(Vec<Route>),
    /// Bytes, between each client and a process.
    Tcp(Owner),
    /// Datagrams.
    Udp(Udp),
}

/// What becomes of datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Which process gets them.
    pub to: Receiver,
    /// `datagram`: bytes of one.
    pub datagram: u64,
    /// `queue`: how many a process may have that it has not acknowledged.
    pub queue: u64,
}

/// Which process gets datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// `name`: the process that has it.
    Name(String),
    /// `group`: one of its members for each address that sends some.
    Group(String),
}

/// Which process owns the connections of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// `name`: the process that has it.
    Name(String),
    /// `group`: its members in turns.
    Group(String),
    /// `module`: a process of it for each connection.
    Module(String),
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            address: ListenAddress::Network(SocketAddr::from(([127, 0, 0, 1], 0))),
            mode: 0o600,
            socket: None,
            connections: 10_000,
            headers: 32 << 10,
            body: 1 << 20,
            timeout: Duration::from_secs(30),
            reading: Duration::from_secs(10),
            idle: Some(Duration::from_secs(75)),
            access_log: false,
            origins: Vec::new(),
            cors: None,
            response_headers: Vec::new(),
            protocol: Protocol::Http(Vec::new()),
            tls: None,
        }
    }
}

/// One `[[listen.routes]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `host`, without a port; `None`: any.
    pub host: Option<String>,
    /// `path`, a pattern: `{name}` is one segment, `{*name}` the rest.
    pub path: String,
    /// `methods`; none: any.
    pub methods: Vec<String>,
    /// `body`: bytes of the body of a request; `None`: as the address has it, or with `stream` any number.
    pub body: Option<u64>,
    /// `stream`: whether bodies arrive in parts.
    pub stream: bool,
    /// Which process gets the requests.
    pub target: RouteTarget,
    /// `response_headers`, with `files`.
    pub response_headers: Vec<(String, String)>,
}

/// Which process gets the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// `name`: the process that has it.
    Name(String),
    /// `group`: its members in turns.
    Group(String),
    /// `redirect`: none; the client is led to this address, with parameters of the path in it.
    Redirect(String),
    /// `files`: none; this file is served, or if the path ends with `{*name}` those below this folder.
    Files {
        /// The file or the folder.
        path: PathBuf,
        /// Whether it is a folder.
        is_folder: bool,
    },
    /// `builtin`: none; this file of the node itself is served.
    Builtin(Builtin),
    /// `module`: processes of it that the node starts.
    Module {
        /// A key of [`Manifest::modules`](crate::Manifest::modules).
        module: String,
        /// For what each of them is started.
        per: Per,
    },
}

/// A file that every node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `exuvia.js`: the client of channels for browsers.
    ChannelClient,
}

/// For what a process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Per {
    /// For each request.
    Request,
    /// For each connection.
    Connection,
    /// For each key.
    Key {
        /// The name of the process, with parameters of the path: `cart:{id}`.
        key: String,
        /// After how long without a request it is ended.
        idle: Duration,
    },
}
