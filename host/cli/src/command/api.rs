//! `exuvia api`: prints the OpenAPI document of the control API, without a node.

use exuvia_api::openapi;

use crate::error::CliError;
use crate::output::Output;

/// Print the OpenAPI document of the control API, from which generators make clients
///
/// The document describes the API of this version; a node serves its own at `/v1/openapi.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia api > openapi.json
  exuvia api | jq '.paths | keys'")]
pub(crate) struct Arguments {}

pub(crate) fn run(output: &Output) -> Result<(), CliError> {
    output.line(openapi::document().trim_end())
}
