//! Calls about registered names.

use exuvia_abi::io::NAMES_OF_THE_HOST;
use exuvia_abi::{Code, Pid, limits};

use super::{CallResult, CallServices, Caller, Runner};

/// Checks a registered name, or the name of a group or a table: UTF-8, 1 to 255 bytes.
/// [`Code::BadArgument`] otherwise.
pub fn valid_name(name: &[u8]) -> Result<&str, Code> {
    if name.is_empty() || name.len() > limits::NAME as usize {
        return Err(Code::BadArgument);
    }
    std::str::from_utf8(name).map_err(|_| Code::BadArgument)
}

/// Checks a name that a guest wants to give or to release. Those of the host are not: others trust whom they find there.
fn own_name(name: &[u8]) -> Result<&str, Code> {
    let name = valid_name(name)?;
    match name.starts_with(NAMES_OF_THE_HOST) {
        true => Err(Code::Denied),
        false => Ok(name),
    }
}

impl<G: Runner, S: CallServices<G>> Caller<'_, G, S> {
    /// Gives a name to a process. Returns [`Code::NameTaken`], [`Code::NoProc`] if the process has
    /// ended, [`Code::Limit`] if it has too many names, [`Code::Denied`] for a name of the host, or
    /// [`Code::BadArgument`].
    pub fn register(&mut self, name: &[u8], pid: Pid) -> CallResult<()> {
        self.known(pid)?;
        let name = own_name(name)?;
        if let Some(registration) = self.system.register_undoably(name, pid)? {
            let name = name.to_owned();
            self.on_rollback(move |_, system| system.names.undo(&name, registration));
        }
        Ok(())
    }

    /// Releases a name. Returns [`Code::NoProc`] if no process has it.
    pub fn unregister(&mut self, name: &[u8]) -> CallResult<()> {
        let name = own_name(name)?;
        let registration = self.system.names.take(name).ok_or(Code::NoProc)?;
        let name = name.to_owned();
        self.on_rollback(move |_, system| system.undo_unregister(&name, registration));
        Ok(())
    }

    /// Returns the process that has a name, or [`Code::NoProc`].
    pub fn whereis(&mut self, name: &[u8]) -> CallResult<Pid> {
        let found = self.system.names.find(valid_name(name)?);
        Ok(found.ok_or(Code::NoProc)?)
    }
}
