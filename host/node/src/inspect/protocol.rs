//! What messages a process understands, as far as its module describes them.

use exuvia_abi::Pid;
use serde::Deserialize;

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

/// A function of a protocol, as a module describes it in its section `exuvia.protocol`
/// (`guest-sdk/abi.md`, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its parameters, in order.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// The type of its reply; `None`: it is a message, which has no reply.
    #[serde(default)]
    pub reply: Option<String>,
    /// Its name in the message; by default that of the function.
    #[serde(default)]
    pub message: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub docs: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type, as the module's language writes it.
    #[serde(rename = "type", default)]
    pub ty: String,
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

/// Reads the section: one line of JSON for each function. Sorted by name, since the order in the
/// section depends on the compiler and the linker.
fn functions(section: &[u8]) -> Result<Vec<Function>, String> {
    let text = std::str::from_utf8(section).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate();
    let functions: Result<Vec<Function>, String> = lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
        })
        .collect();
    let mut functions = functions?;
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn a_protocol_has_one_line_per_function() {
        // The order in the section does not matter.
        let text = b"{\"name\":\"get\",\"reply\":\"i64\"}\n\n{\"name\":\"add\",\"parameters\":[{\"name\":\"by\",\"type\":\"i64\"}],\"message\":\"Add\"}";
        let functions = functions(text).unwrap();
        assert_eq!(functions.len(), 2);
        assert_eq!(functions[0].parameters[0].ty, "i64");
        assert_eq!(functions[0].message.as_deref(), Some("Add"));
        assert_eq!(functions[1].reply.as_deref(), Some("i64"));
    }

    #[test]
    fn an_unreadable_section_is_reported_with_its_offset() {
        let error = functions(b"{\"name\":\"a\"}\nnothing").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(functions(b"\xff").is_err());
        assert!(functions(b"").unwrap().is_empty());
    }
}
