//! Why a component is refused.

use thiserror::Error;

/// Why a component could not be made a module.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// The bytes are no component of the supported features.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// The component lacks an export of the world.
    #[error(
        "the component does not export `{0}`: build it for the world `actor` of exuvia:actor (guest-sdk/component/wit)"
    )]
    NoExport(String),
    /// An export of the component has a type other than the world's.
    #[error(
        "the component's `{name}` is lowered to {found}, not to {expected}: build it for this host's version of exuvia:actor"
    )]
    ExportType {
        /// The export.
        name: String,
        /// Its core type.
        found: String,
        /// The core type of the world.
        expected: String,
    },
    /// The component imports what no actor has.
    #[error("the component imports `{0}`, which an actor does not have: {1}")]
    Import(String, &'static str),
    /// A function that is imported has a type other than the adapter's.
    #[error(
        "the component imports `{name}` as {found}, and this host has it as {expected}: build it for another version of the interface"
    )]
    ImportType {
        /// Interface and function.
        name: String,
        /// Its core type in the component.
        found: String,
        /// The core type here.
        expected: String,
    },
    /// The component uses a part of the Component Model that cannot be made a module.
    #[error("the component has {0}, which cannot become one module")]
    Unsupported(String),
}

impl From<wasmparser::BinaryReaderError> for ComponentError {
    fn from(error: wasmparser::BinaryReaderError) -> ComponentError {
        ComponentError::Invalid(error.to_string())
    }
}
