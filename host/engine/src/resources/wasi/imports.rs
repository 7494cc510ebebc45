//! Which functions of WASI there are, and which of them a module imports.

use exuvia_abi::wasi::{MODULE, find};

use crate::module::info::Artifact;

/// Checks an import. Returns what is wrong with it, or `None` if it is not one of WASI.
pub(crate) fn check_import(
    module: &str,
    name: &str,
    is_function: bool,
) -> Option<Result<(), &'static str>> {
    if module != MODULE {
        return None;
    }
    Some(match find(name) {
        _ if !is_function => Err("as that kind of thing: it is a function"),
        Some(_) => Ok(()),
        None => Err("WASI preview 1 has no such function"),
    })
}

impl Artifact {
    /// Returns the names of the WASI functions that it imports.
    pub fn wasi(&self) -> impl Iterator<Item = &str> {
        let imports = self.plan.analysis.imports.iter();
        imports
            .filter(|import| import.module == MODULE)
            .map(|import| import.name.as_str())
    }
}
