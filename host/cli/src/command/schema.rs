//! `exuvia schema`: prints the JSON Schema of the manifest, for editors.

use crate::error::CliError;
use crate::output::Output;

/// Print the JSON Schema of exuvia.toml, with which editors complete and check it
///
/// `exuvia new` writes it into the app and names it in the first line of the manifest. Editors
/// with Taplo (in VS Code: Even Better TOML) find it there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia schema > .exuvia/schema.json")]
pub(crate) struct Arguments {}

pub(crate) fn run(output: &Output) -> Result<(), CliError> {
    output.line(exuvia_manifest::schema().trim_end())
}
