//! The messages that a module understands: its section `exuvia.protocol`.

use serde::Deserialize;

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

/// Reads the section: one line of JSON for each function. Sorted by name, since the order in the
/// section depends on the compiler and the linker.
///
/// # Errors
///
/// Returns what is wrong, and in which line.
pub fn functions(section: &[u8]) -> Result<Vec<Function>, String> {
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
