//! What messages a process understands, as far as its module describes them.

use exuvia_abi::Pid;
use exuvia_contract::{Function, functions};

use super::Inspector;
use crate::error::TargetError;

/// What messages a process understands, as far as its module describes them.
#[derive(Clone, Debug)]
pub struct Description {
    /// `<slot.generation>`.
    pub pid: String,
    /// `module@version`.
    pub module: String,
    /// The functions of its protocol; empty if the module does not describe any.
    pub functions: Vec<Function>,
    /// What is wrong with the module's section, if it cannot be read.
    pub unreadable: Option<String>,
}

impl Inspector<'_> {
    /// Returns what messages a process understands.
    ///
    /// # Errors
    ///
    /// If there is no such process, it is one of the host's, or it does not reach the end of a
    /// turn.
    pub(crate) fn description(&self, pid: Pid) -> Result<Description, TargetError> {
        let version = self.core.examine(pid, |process| {
            process.guest().map(|guest| guest.version.version().clone())
        })?;
        let version = version.ok_or_else(|| TargetError::Native(pid.to_string()))?;
        let (functions, unreadable) = match functions(version.artifact.protocol()) {
            Ok(functions) => (functions, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Ok(Description {
            pid: pid.to_string(),
            module: version.to_string(),
            functions,
            unreadable,
        })
    }
}
