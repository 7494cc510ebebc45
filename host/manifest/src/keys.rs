//! Every key of a manifest: what it may contain, its default and its meaning. The reader takes names,
//! ranges and words from here, and so does the JSON Schema.

use exuvia_abi::{Pid, Priority};

use crate::{
    Builtin, KEEP_AT_LEAST, Level, MAX_NORMAL_SHARE, MemoryLayout, Restart, Shutdown, Strategy,
};

/// A table: the keys that it may have.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Its name in the schema.
    pub(crate) name: &'static str,
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    /// The key.
    pub(crate) name: &'static str,
    /// What it may contain.
    pub(crate) kind: Kind,
    /// Whether the table must have it.
    pub(crate) required: bool,
    /// Its default in JSON, if that is a fixed value.
    pub(crate) default: Option<&'static str>,
    /// Its meaning, as an editor shows it.
    pub(crate) meaning: &'static str,
}

/// What a key may contain.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A string of any length.
    Text,
    /// A string of 1 to [`crate::MAX_NAME_BYTES`] bytes.
    Name,
    /// As [`Kind::Name`], of `a-z`, `0-9`, `_` and `-` only.
    AppName,
    /// A whole number within a range.
    Integer(u64, u64),
    /// A number of bytes within a range: an integer, or a string with a unit.
    Size(u64, u64),
    /// A duration within a range, in milliseconds.
    Duration(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A duration within a range in milliseconds, or one of these words.
    DurationOr(u64, u64, &'static [&'static str]),
    /// An array of strings that are not empty.
    Texts,
    /// A table with fixed keys.
    Table(&'static Shape),
    /// An array of tables.
    Tables(&'static Shape),
    /// A table of such tables by names that the user chooses.
    Named(&'static Shape),
    /// A table of strings by names that the user chooses.
    NamedTexts,
    /// A table of paths, or tables in place of a path, by names that the user chooses.
    NamedPathsOr(&'static Shape),
    /// A table with any contents.
    AnyTable,
    /// Anything.
    Any,
}

impl Shape {
    /// Returns what a key may contain; of an unknown key, anything.
    pub(crate) fn kind(&self, name: &str) -> &'static Kind {
        let key = self.keys.iter().find(|key| key.name == name);
        debug_assert!(key.is_some(), "`{name}` is not among the keys of {self:?}");
        key.map_or(&Kind::Any, |key| &key.kind)
    }
}

/// The maximum of counters whose real limit lies elsewhere.
pub(crate) const MILLION: u32 = 1_000_000;
/// The minimum for the maximum number of processes: the app, its supervisors and the processes of
/// callers outside the node.
const FEWEST_PROCESSES: u32 = 64;
/// The maximum of counts of processes, messages and bytes: far beyond what a node may have.
const COUNT: u64 = u32::MAX as u64;
const PAGE: u64 = 64 << 10;
const GIB: u64 = 1 << 30;
const HOUR_MS: u64 = 60 * 60 * 1_000;
/// Ten minutes, far beyond any useful time for a swap.
const MAX_VERIFY_MS: u64 = HOUR_MS / 6;
/// A day: a child that needs longer to stop should have "infinity".
const MAX_SHUTDOWN_MS: u64 = 24 * HOUR_MS;
/// A year.
const MAX_PERIOD_MS: u64 = 366 * 24 * HOUR_MS;

/// The words of `priority`.
pub(crate) const PRIORITIES: [(&str, Priority); 3] = [
    ("low", Priority::Low),
    ("normal", Priority::Normal),
    ("high", Priority::High),
];
const PRIORITIES_WORDS: [&str; 3] = words(&PRIORITIES);
/// The words of `level` and `log`.
pub(crate) const LEVELS: [(&str, Option<Level>); 5] = [
    ("off", None),
    ("error", Some(Level::Error)),
    ("warn", Some(Level::Warn)),
    ("info", Some(Level::Info)),
    ("debug", Some(Level::Debug)),
];
const LEVELS_WORDS: [&str; 5] = words(&LEVELS);
/// The words of `strategy`.
pub(crate) const STRATEGIES: [(&str, Strategy); 3] = [
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
];
const STRATEGIES_WORDS: [&str; 3] = words(&STRATEGIES);
/// The words of `restart`.
pub(crate) const RESTARTS: [(&str, Restart); 3] = [
    ("permanent", Restart::Permanent),
    ("transient", Restart::Transient),
    ("temporary", Restart::Temporary),
];
const RESTARTS_WORDS: [&str; 3] = words(&RESTARTS);
/// The words of `shutdown`.
pub(crate) const SHUTDOWNS: [(&str, Shutdown); 2] = [
    ("infinity", Shutdown::Infinity),
    ("brutal_kill", Shutdown::BrutalKill),
];
const SHUTDOWNS_WORDS: [&str; 2] = words(&SHUTDOWNS);
/// The words of `access`, and whether the folder may be written to.
pub(crate) const ACCESS: [(&str, bool); 2] = [("read", false), ("write", true)];
const ACCESS_WORDS: [&str; 2] = words(&ACCESS);
/// The words of `stdio`, and whether the output goes to the terminal.
pub(crate) const STDIO: [(&str, bool); 2] = [("log", false), ("terminal", true)];
const STDIO_WORDS: [&str; 2] = words(&STDIO);
/// What `protocol` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolWord {
    Http,
    Tcp,
    Udp,
}

/// What `per` of a route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PerWord {
    Request,
    Connection,
    Key,
}

/// The words of `per`.
pub(crate) const PERS: [(&str, PerWord); 3] = [
    ("request", PerWord::Request),
    ("connection", PerWord::Connection),
    ("key", PerWord::Key),
];
const PERS_WORDS: [&str; 3] = words(&PERS);
/// The words of `builtin`.
pub(crate) const BUILTINS: [(&str, Builtin); 1] = [("exuvia.js", Builtin::ChannelClient)];
const BUILTINS_WORDS: [&str; 1] = words(&BUILTINS);
/// The words of `protocol`.
pub(crate) const PROTOCOLS: [(&str, ProtocolWord); 3] = [
    ("http", ProtocolWord::Http),
    ("tcp", ProtocolWord::Tcp),
    ("udp", ProtocolWord::Udp),
];
const PROTOCOLS_WORDS: [&str; 3] = words(&PROTOCOLS);
/// The words of `memory_layout`.
pub(crate) const LAYOUTS: [(&str, MemoryLayout); 2] = [
    ("packed", MemoryLayout::Packed),
    ("wide", MemoryLayout::Wide),
];
const LAYOUTS_WORDS: [&str; 2] = words(&LAYOUTS);

const fn words<T, const N: usize>(pairs: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = pairs[at].0;
        at += 1;
    }
    words
}

const fn key(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key {
        name,
        kind,
        required: false,
        default: None,
        meaning,
    }
}

impl Key {
    const fn required(mut self) -> Key {
        self.required = true;
        self
    }

    const fn or(mut self, default: &'static str) -> Key {
        self.default = Some(default);
        self
    }
}

/// The manifest.
pub(crate) static ROOT: Shape = Shape {
    name: "manifest",
    keys: &[
        key("app", Kind::Table(&APP), "The app.").required(),
        key("node", Kind::Table(&NODE), "Settings of the whole node."),
        key(
            "log",
            Kind::Table(&LOG),
            "Which lines of guests the node reports.",
        ),
        key(
            "releases",
            Kind::Table(&RELEASES),
            "Which releases are kept for a rollback.",
        ),
        key(
            "modules",
            Kind::Named(&MODULE),
            "The modules by name: `A-Z`, `a-z`, `0-9`, `_` and `-`.",
        ),
        key(
            "limits",
            Kind::Table(&LIMITS),
            "What each process may use, unless its module or child says otherwise.",
        ),
        key(
            "config",
            Kind::AnyTable,
            "Values that every guest can read by key, such as `chat.max_users`.",
        ),
        key(
            "supervisor",
            Kind::Table(&SUPERVISOR),
            "The root of the supervision tree.",
        ),
        key(
            "listen",
            Kind::Tables(&LISTEN),
            "Addresses at which the node serves HTTP.",
        ),
    ],
};

/// One address.
pub(crate) static LISTEN: Shape = Shape {
    name: "listen",
    keys: &[
        key(
            "address",
            Kind::Text,
            "The address and the port, where port 0 is any free one; or `unix:` and the path of a socket.",
        )
        .required(),
        key(
            "mode",
            Kind::Text,
            "With `unix:`: the permissions of the socket's file, in octal.",
        )
        .or("\"600\""),
        key(
            "socket",
            Kind::Name,
            "The name of the socket that `exuvia run --inherit-sockets` takes for it.",
        ),
        key(
            "protocol",
            Kind::Choice(&PROTOCOLS_WORDS),
            "What is spoken: HTTP, bytes over TCP with one process, or datagrams over UDP.",
        )
        .or("\"http\""),
        key(
            "name",
            Kind::Name,
            "With `tcp` and `udp`: the registered name of the process that gets the connections or datagrams.",
        ),
        key(
            "group",
            Kind::Name,
            "With `tcp`: the group whose members get the connections in turns. With `udp`: the group of which each sender has one member.",
        ),
        key(
            "module",
            Kind::Text,
            "With `tcp`: a name from `[modules]`; a process of it is started for each connection.",
        ),
        key(
            "datagram",
            Kind::Size(1, 64 << 10),
            "With `udp`: bytes of a datagram; larger ones are dropped.",
        )
        .or("\"64KiB\""),
        key(
            "queue",
            Kind::Integer(1, 4_096),
            "With `udp`: datagrams that a process may have which it has not acknowledged; more are dropped.",
        )
        .or("64"),
        key(
            "origins",
            Kind::Texts,
            "Origins whose pages may open a WebSocket, beside that of the host: `https://example.com`, or `*`.",
        ),
        key(
            "cors",
            Kind::Table(&CORS),
            "Which pages of other origins may make requests.",
        ),
        key(
            "response_headers",
            Kind::NamedTexts,
            "Headers of all responses that do not have them: `x-content-type-options = \"nosniff\"`.",
        ),
        key(
            "tls",
            Kind::Table(&TLS),
            "The certificate with which connections are encrypted.",
        ),
        key(
            "connections",
            Kind::Integer(1, MILLION as u64),
            "Connections at a time; more wait.",
        )
        .or("10000"),
        key(
            "headers",
            Kind::Size(8 << 10, 1 << 20),
            "Bytes of the head of a request.",
        )
        .or("\"32KiB\""),
        key(
            "body",
            Kind::Size(0, GIB / 4),
            "Bytes of the body of a request.",
        )
        .or("\"1MiB\""),
        key(
            "timeout",
            Kind::Duration(1, MAX_SHUTDOWN_MS),
            "How long a process may take for its reply.",
        )
        .or("\"30s\""),
        key(
            "reading",
            Kind::Duration(1, HOUR_MS),
            "How long a client may take for the head of a request, and for its body.",
        )
        .or("\"10s\""),
        key(
            "idle",
            Kind::Duration(1, MAX_SHUTDOWN_MS),
            "How long a connection may have no request under way.",
        )
        .or("\"75s\""),
        key(
            "access_log",
            Kind::Boolean,
            "Whether each request is logged.",
        )
        .or("false"),
        key(
            "routes",
            Kind::Tables(&ROUTE),
            "Where requests go: the most exact path wins.",
        ),
    ],
};

/// Which pages of other origins may make requests.
static CORS: Shape = Shape {
    name: "cors",
    keys: &[
        key(
            "origins",
            Kind::Texts,
            "The origins of the pages: `https://example.com`, or `*`.",
        )
        .required(),
        key("methods", Kind::Texts, "The methods that they may use.")
            .or("[\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]"),
        key(
            "headers",
            Kind::Texts,
            "The headers that their requests may have, or `*`.",
        )
        .or("[\"content-type\"]"),
        key(
            "expose",
            Kind::Texts,
            "The headers of responses that they may read.",
        ),
        key(
            "credentials",
            Kind::Boolean,
            "Whether requests may have cookies and other credentials.",
        )
        .or("false"),
        key(
            "max_age",
            Kind::Duration(0, MAX_SHUTDOWN_MS),
            "How long a browser need not ask again.",
        )
        .or("\"10m\""),
    ],
};

/// A certificate.
static TLS: Shape = Shape {
    name: "tls",
    keys: &[
        key(
            "certificate",
            Kind::Text,
            "The file of the certificate and those that it was signed with, in PEM.",
        )
        .required(),
        key("key", Kind::Text, "The file of its private key, in PEM.").required(),
    ],
};

/// Where some requests go.
pub(crate) static ROUTE: Shape = Shape {
    name: "route",
    keys: &[
        key(
            "path",
            Kind::Text,
            "The path: `{name}` is one segment, `{*name}` the rest.",
        )
        .required(),
        key(
            "methods",
            Kind::Texts,
            "The methods, such as `GET`; any by default.",
        ),
        key(
            "host",
            Kind::Name,
            "The host, without a port; any by default.",
        ),
        key(
            "body",
            Kind::Size(0, 1 << 50),
            "Bytes of the body of a request; as the address has it by default, and with `stream` without a limit.",
        ),
        key(
            "stream",
            Kind::Boolean,
            "Whether the body of a request arrives in parts, when the process asks for them.",
        )
        .or("false"),
        key(
            "name",
            Kind::Name,
            "The registered name of the process that gets the requests.",
        ),
        key(
            "group",
            Kind::Name,
            "The group whose members get the requests in turns.",
        ),
        key(
            "module",
            Kind::Text,
            "A name from `[modules]`: processes of it are started.",
        ),
        key(
            "redirect",
            Kind::Text,
            "The address to which clients are led, with parameters of the path.",
        ),
        key(
            "files",
            Kind::Text,
            "The file that is served, or the folder, if the path ends with `{*name}`.",
        ),
        key(
            "response_headers",
            Kind::NamedTexts,
            "With `files`: headers of what is served, such as `cache-control`.",
        ),
        key(
            "builtin",
            Kind::Choice(&BUILTINS_WORDS),
            "The file of the node itself that is served: the client of channels for browsers.",
        ),
        key(
            "per",
            Kind::Choice(&PERS_WORDS),
            "For what a process is started: each request, each connection, or each key.",
        )
        .or("\"request\""),
        key(
            "key",
            Kind::Name,
            "The name of the process for a request, with parameters of the path: `cart:{id}`.",
        ),
        key(
            "idle",
            Kind::Duration(1, MAX_SHUTDOWN_MS),
            "After how long without a request the process of a key is ended.",
        )
        .or("\"5m\""),
    ],
};

static APP: Shape = Shape {
    name: "app",
    keys: &[key(
        "name",
        Kind::AppName,
        "The app's name: `a-z`, `0-9`, `_`, `-`.",
    )
    .required()],
};

static NODE: Shape = Shape {
    name: "node",
    keys: &[
        key(
            "schedulers",
            Kind::Integer(1, 1_024),
            "Scheduler threads; one per core by default.",
        ),
        key(
            "frames",
            Kind::Integer(0, MILLION as u64),
            "Maximum number of processes resident at a time; 0 and the default are automatic.",
        ),
        key(
            "frame_memory",
            Kind::Size(1 << 20, 1 << 50),
            "How much memory the frames of resident processes may hold; a quarter of the machine's by default.",
        ),
        key(
            "normal_share",
            Kind::Integer(0, MAX_NORMAL_SHARE as u64),
            "How many turns in a hundred the other processes get while processes of high priority have work.",
        )
        .or("10"),
        key(
            "processes",
            Kind::Integer(FEWEST_PROCESSES as u64, Pid::SLOTS as u64),
            "Maximum number of processes; one for each 2 KiB of memory by default.",
        ),
        key(
            "probation",
            Kind::Integer(0, MILLION as u64),
            "After a swap, how many of each process's first messages are transactions.",
        )
        .or("3"),
        key(
            "verify",
            Kind::Duration(1, MAX_VERIFY_MS),
            "How long a swap is verified on copies of processes before its commit.",
        )
        .or("\"100ms\""),
        key(
            "release_threshold",
            Kind::Integer(1, MILLION as u64),
            "Failures that a release may cause before it is rolled back.",
        )
        .or("3"),
        key(
            "drain_per_s",
            Kind::Integer(1, MILLION as u64),
            "How many sockets are closed in a second when the node stops.",
        )
        .or("1000"),
    ],
};

static LOG: Shape = Shape {
    name: "log",
    keys: &[
        key(
            "level",
            Kind::Choice(&LEVELS_WORDS),
            "Lines up to this level are reported.",
        )
        .or("\"debug\""),
        key(
            "lines_per_s",
            Kind::Integer(1, MILLION as u64),
            "Maximum number of lines of one module reported in a second.",
        )
        .or("1000"),
    ],
};

static RELEASES: Shape = Shape {
    name: "releases",
    keys: &[
        key(
            "keep",
            Kind::Integer(KEEP_AT_LEAST, 1_000),
            "The number of releases that the release store keeps, besides pinned ones.",
        )
        .or("20"),
        key(
            "keep_bytes",
            Kind::Size(0, 1 << 40),
            "Bytes of their modules, above which older ones go first; the last 8 releases stay.",
        )
        .or("\"1GiB\""),
    ],
};

/// One module.
pub(crate) static MODULE: Shape = Shape {
    name: "module",
    keys: &[
        key(
            "path",
            Kind::Text,
            "Its file, relative to the manifest's folder.",
        )
        .required(),
        key(
            "build",
            Kind::Text,
            "A shell command that makes the file, run in the manifest's folder.",
        ),
        key(
            "sources",
            Kind::Texts,
            "Files and folders that the build reads; the manifest's folder by default.",
        ),
        key(
            "dev",
            Kind::Table(&DEV),
            "What `exuvia dev` builds and runs instead.",
        ),
        key(
            "log",
            Kind::Choice(&LEVELS_WORDS),
            "The level of this module's lines, instead of `[log] level`.",
        ),
        key(
            "memory_layout",
            Kind::Choice(&LAYOUTS_WORDS),
            "How the memories of its processes lie: side by side, or far apart for a module that computes much.",
        )
        .or("packed"),
        key(
            "limits",
            Kind::Table(&LIMITS),
            "What each process of it may use.",
        ),
        key(
            "wasi",
            Kind::Table(&WASI),
            "What each process of it may use through WASI.",
        ),
        key(
            "net",
            Kind::Table(&NET),
            "What each process of it may use of the network.",
        ),
    ],
};

static DEV: Shape = Shape {
    name: "dev",
    keys: &[
        key(
            "path",
            Kind::Text,
            "The file; that of the module by default.",
        ),
        key("build", Kind::Text, "A shell command that makes the file.").required(),
    ],
};

static LIMITS: Shape = Shape {
    name: "limits",
    keys: &[
        key("memory", Kind::Size(PAGE, 4 * GIB), "Linear memory.").or("\"16MiB\""),
        key(
            "mailbox_messages",
            Kind::Integer(1, COUNT),
            "Messages in the mailbox.",
        )
        .or("100000"),
        key(
            "mailbox_bytes",
            Kind::Size(1, 1_024 * GIB),
            "Bytes of the messages in the mailbox.",
        )
        .or("\"64MiB\""),
        key("message_bytes", Kind::Size(1, GIB), "Bytes of one message.").or("\"16MiB\""),
        key(
            "children",
            Kind::Integer(0, COUNT),
            "Living processes that it has started; for a supervisor, its children.",
        )
        .or("1000000"),
        key(
            "descendants",
            Kind::Integer(0, COUNT),
            "Living processes below it; as many as the node may have by default.",
        ),
        key("tables", Kind::Size(0, 1_024 * GIB), "Bytes in its tables.").or("\"64MiB\""),
        key(
            "priority",
            Kind::Choice(&PRIORITIES_WORDS),
            "The highest priority that it may have.",
        )
        .or("\"normal\""),
        key(
            "files",
            Kind::Integer(0, MILLION as u64),
            "Files that it may have open through WASI.",
        )
        .or("64"),
    ],
};

static WASI: Shape = Shape {
    name: "wasi",
    keys: &[
        key(
            "dirs",
            Kind::NamedPathsOr(&DIR),
            "Folders: the path in the guest, and the path on the host.",
        ),
        key("env", Kind::NamedTexts, "Variables of its environment."),
        key(
            "inherit_env",
            Kind::Texts,
            "Variables of the node's environment that it gets as well.",
        ),
        key(
            "args",
            Kind::Texts,
            "Its arguments, without the program's name.",
        ),
        key(
            "stdio",
            Kind::Choice(&STDIO_WORDS),
            "Where its output goes.",
        )
        .or("\"log\""),
    ],
};

static NET: Shape = Shape {
    name: "net",
    keys: &[key(
        "connect",
        Kind::Texts,
        "Where it may connect to: `api.example.com:443`, `*.example.com:443`, `10.0.0.0/8:*`.",
    )],
};

/// A folder that is given as more than a path.
pub(crate) static DIR: Shape = Shape {
    name: "dir",
    keys: &[
        key(
            "path",
            Kind::Text,
            "The path on the host, relative to the manifest's folder.",
        )
        .required(),
        key(
            "access",
            Kind::Choice(&ACCESS_WORDS),
            "Whether it may be written to.",
        )
        .or("\"read\""),
    ],
};

static SUPERVISOR: Shape = Shape {
    name: "supervisor",
    keys: &[
        key(
            "strategy",
            Kind::Choice(&STRATEGIES_WORDS),
            "Which children restart when a child ends.",
        )
        .or("\"one_for_one\""),
        key(
            "intensity",
            Kind::Integer(0, MILLION as u64),
            "Restarts allowed within the period; one more terminates the supervisor.",
        )
        .or("3"),
        key(
            "period",
            Kind::Duration(1, MAX_PERIOD_MS),
            "The period of `intensity`.",
        )
        .or("\"5s\""),
        key(
            "children",
            Kind::Tables(&CHILD),
            "The children. They start in this order and stop in reverse order.",
        ),
    ],
};

/// A child of a supervisor.
pub(crate) static CHILD: Shape = Shape {
    name: "child",
    keys: &[
        key("id", Kind::Name, "Unique within its supervisor.").required(),
        key("module", Kind::Text, "A name from `[modules]`: the child is a process."),
        key("supervisor", Kind::Table(&SUPERVISOR), "The child is a supervisor."),
        key("restart", Kind::Choice(&RESTARTS_WORDS), "When it is restarted.")
            .or("\"permanent\""),
        key(
            "shutdown",
            Kind::DurationOr(0, MAX_SHUTDOWN_MS, &SHUTDOWNS_WORDS),
            "How long it may take to stop before it is killed; \"5s\" by default, \"infinity\" for a supervisor.",
        ),
        key("count", Kind::Integer(1, MILLION as u64), "This many children."),
        key(
            "name",
            Kind::Name,
            "Its registered name, unique in the node; with `count`, `{n}` stands for the number.",
        ),
        key("args", Kind::Any, "Its arguments: any value."),
        key("limits", Kind::Table(&LIMITS), "What it may use."),
        key("wasi", Kind::Table(&WASI), "What it may use through WASI, instead of its module's."),
        key("net", Kind::Table(&NET), "What it may use of the network, instead of its module's."),
        key(
            "manages",
            Kind::Boolean,
            "Whether it may ask its supervisor, and those below that one, to start and stop children.",
        )
        .or("false"),
    ],
};
