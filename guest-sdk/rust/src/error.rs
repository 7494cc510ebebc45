//! The errors of host calls, as one type.

use std::fmt;

use exuvia_abi::{Code, Reason};

/// Why a host call failed.
///
/// ```
/// use exuvia::{Error, Pid};
/// match exuvia::whereis("registry") {
///     Ok(pid) => exuvia::info!("the registry is {pid}"),
///     Err(Error::NoProc(_)) => exuvia::warn!("no registry"),
///     Err(error) => exuvia::error!("{error}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The timeout passed. A late reply is dropped.
    Timeout,
    /// There is no such process, or it terminated before it replied, with its exit reason.
    NoProc(Reason),
    /// A limit of this process or of the node has been reached.
    Limit,
    /// An argument is invalid.
    BadArgument,
    /// The payload is larger than this process may send.
    MessageTooLarge,
    /// The receiver's mailbox is full; the message was not accepted.
    MailboxFull,
    /// The name belongs to another process.
    NameTaken,
    /// The current release has no module of that name.
    NoModule,
    /// The child terminated before it acknowledged its start.
    StartFailed,
    /// This process lacks the capability.
    Denied,
    /// The receiver rejected the request, with its text.
    Refused(String),
    /// The value cannot be encoded as MessagePack, with the reason.
    Encode(String),
    /// The bytes cannot be decoded as the requested type, with the reason.
    Decode(String),
    /// The host returned a code that this SDK does not know.
    Unknown(i32),
}

impl Error {
    /// Returns the error for a negative code of a host call.
    pub(crate) fn from_code(code: i32) -> Error {
        const TABLE: [(Code, Error); 10] = [
            (Code::Timeout, Error::Timeout),
            (Code::NoProc, Error::NoProc(Reason::NOPROC)),
            (Code::Limit, Error::Limit),
            (Code::BadArgument, Error::BadArgument),
            (Code::MessageTooLarge, Error::MessageTooLarge),
            (Code::MailboxFull, Error::MailboxFull),
            (Code::NameTaken, Error::NameTaken),
            (Code::NoModule, Error::NoModule),
            (Code::StartFailed, Error::StartFailed),
            (Code::Denied, Error::Denied),
        ];
        TABLE
            .into_iter()
            .find(|(known, _)| *known as i32 == code)
            .map_or(Error::Unknown(code), |(_, error)| error)
    }

    /// Converts the code of a host call to a result.
    pub(crate) fn check(code: i32) -> Result<(), Error> {
        if code >= 0 {
            Ok(())
        } else {
            Err(Error::from_code(code))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Timeout => f.write_str("the timeout passed"),
            Error::NoProc(reason) if *reason == Reason::NOPROC => f.write_str("no such process"),
            Error::NoProc(reason) => write!(
                f,
                "the process exited before it replied: {} ({})",
                reason.name(),
                reason.0
            ),
            Error::Limit => f.write_str("a limit is reached"),
            Error::BadArgument => f.write_str("an argument is invalid"),
            Error::MessageTooLarge => f.write_str("the message is too large"),
            Error::MailboxFull => f.write_str("the receiver's mailbox is full"),
            Error::NameTaken => f.write_str("the name is taken"),
            Error::NoModule => f.write_str("the release has no such module"),
            Error::StartFailed => f.write_str("the child failed to start"),
            Error::Denied => f.write_str("this process lacks the capability"),
            Error::Refused(why) => write!(f, "the receiver refused the request: {why}"),
            Error::Encode(why) => write!(f, "cannot encode: {why}"),
            Error::Decode(why) => write!(f, "cannot decode: {why}"),
            Error::Unknown(code) => write!(f, "unexpected result of the host: {code}"),
        }
    }
}

impl std::error::Error for Error {}

/// Lets `?` convert errors in [`Actor::init`](crate::Actor::init), whose error is text for
/// people.
///
/// ```
/// fn init() -> Result<exuvia::Pid, String> {
///     Ok(exuvia::whereis("registry")?)
/// }
/// assert_eq!(init(), Err("no such process".to_owned()));
/// ```
impl From<Error> for String {
    fn from(error: Error) -> String {
        error.to_string()
    }
}
