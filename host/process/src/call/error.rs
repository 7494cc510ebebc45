//! How a call fails: with a code that its caller gets, or with the end of the process.

use exuvia_abi::Code;

use crate::ExitReason;
use crate::names::NameError;
use crate::system::SendError;
use crate::tables::TableError;

/// The result of a call.
pub type CallResult<T> = Result<T, CallError>;

/// Why a call has no result. The type says what follows, so that no decoder decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The process made a mistake, or asked for something that cannot be had: it gets this code
    /// and continues. The call has had no effect, unless its documentation states one, but that it may
    /// have committed the transaction.
    Code(Code),
    /// The call does not return: the process ends.
    Ends(Ending),
}

/// Why a process does not continue after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It called `exit`: what it did so far counts.
    Itself(ExitReason),
    /// A signal ended it in the middle of what it did.
    Signal(ExitReason),
    /// Its own fault, treated as a trap.
    Fault(ExitReason),
}

impl From<Code> for CallError {
    #[inline]
    fn from(code: Code) -> CallError {
        CallError::Code(code)
    }
}

impl From<NameError> for Code {
    fn from(error: NameError) -> Code {
        match error {
            NameError::Taken => Code::NameTaken,
            NameError::Invalid => Code::BadArgument,
            NameError::Dead => Code::NoProc,
            NameError::TooMany => Code::Limit,
        }
    }
}

impl From<NameError> for CallError {
    fn from(error: NameError) -> CallError {
        Code::from(error).into()
    }
}

impl From<TableError> for Code {
    fn from(error: TableError) -> Code {
        match error {
            TableError::Unknown | TableError::Dead => Code::NoProc,
            TableError::Denied => Code::Denied,
            TableError::Taken => Code::NameTaken,
            TableError::Invalid => Code::BadArgument,
            TableError::Full => Code::Limit,
        }
    }
}

impl From<TableError> for CallError {
    fn from(error: TableError) -> CallError {
        Code::from(error).into()
    }
}

/// Returns the result of a send. As in Erlang, a message to a process that has ended is discarded.
#[inline]
pub(super) fn accepted(sent: Result<(), SendError>) -> Result<(), Code> {
    match sent {
        Ok(()) | Err(SendError::Dead) => Ok(()),
        Err(SendError::Full) => Err(Code::MailboxFull),
        Err(SendError::Unknown) => Err(Code::BadArgument),
    }
}
