//! `exuvia send`: sends a message to a process, or a request whose reply it prints.

use std::io::Read as _;

use std::time::Duration;

use exuvia_api::{
    CallRequest, Client, MAX_REQUEST_BYTES, MessageRequest, Payload, REFUSED_TAG, Rendered,
    TYPED_TAG,
};
use exuvia_manifest::parse_duration;

use crate::error::{CliError, Exit};
use crate::output::{Output, clean, clean_lines};
use crate::place::Place;

/// Send a message to a process
///
/// The payload is JSON and is converted to MessagePack, which is what the SDKs read. Without a
/// payload the message is empty; with `-` the payload is read from stdin, where it may be
/// larger than an argument. A message that was sent has not necessarily been understood:
/// warnings that the receiver logs within a moment are printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia send counter '{\"Add\": {\"by\": 5}}'
  exuvia send counter '\"Get\"' --call
  exuvia send counter-0 '{\"seq\": 1}' --call
  exuvia send '<3.1>' --tag 7 --hex '0a ff'
  exuvia send greeter --text 'hello'
  jq '.order' orders.json | exuvia send shop - --call")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
    /// The payload, as JSON; `-` reads it from stdin
    #[arg(allow_negative_numbers = true)]
    payload: Option<String>,
    /// The message's tag; typed messages of the SDKs have tag 0
    #[arg(long, value_name = "N", default_value_t = TYPED_TAG)]
    tag: u32,
    /// Wait for the reply and print it
    #[arg(long)]
    call: bool,
    /// How long to wait for the reply
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration, requires = "call")]
    timeout: Duration,
    /// Send the payload as plain text
    #[arg(long, conflicts_with = "hex", requires = "payload")]
    text: bool,
    /// Read the payload as hex, two digits for each byte
    #[arg(long, requires = "payload")]
    hex: bool,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let payload = payload(&arguments)?;
    let client = place.client()?;
    let (to, tag) = (arguments.target, arguments.tag);
    match arguments.call {
        true => ask(&client, to, tag, payload, arguments.timeout, output).await,
        false => tell(&client, to, tag, payload, output).await,
    }
}

/// Sends a message and reports it, together with warnings that the receiver logs.
pub(super) async fn tell(
    client: &Client,
    to: String,
    tag: u32,
    payload: Payload,
    output: &Output,
) -> Result<(), CliError> {
    let message = MessageRequest {
        tag,
        payload,
        observe: true,
    };
    let sent = client.send(&to, &message).await?;
    if output.is_json() {
        return output.value(&sent.json);
    }
    output.line("sent")?;
    let to = clean(&to);
    for warning in &sent.value.warnings {
        output.warn(&format!("{to}: {}", clean(warning)));
    }
    Ok(())
}

/// Sends a request and prints the reply.
pub(super) async fn ask(
    client: &Client,
    to: String,
    tag: u32,
    payload: Payload,
    timeout: Duration,
    output: &Output,
) -> Result<(), CliError> {
    let request = CallRequest {
        tag,
        payload,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let reply = client.call(&to, &request).await?;
    if reply.value.tag == REFUSED_TAG {
        let why = format!("the process rejected the request: {}", reply.value.payload);
        return Err(CliError::new(Exit::Failed, "refused", why));
    }
    if output.is_json() {
        return output.value(&reply.json);
    }
    match &reply.value.payload {
        Rendered::Empty => Ok(()),
        Rendered::Msgpack(value) => output.value(value),
        shown => output.line(&clean_lines(&shown.to_string())),
    }
}

fn payload(arguments: &Arguments) -> Result<Payload, CliError> {
    let Some(given) = &arguments.payload else {
        return Ok(Payload::Empty);
    };
    let given = &match given.as_str() {
        "-" => from_stdin()?,
        _ => given.clone(),
    };
    if arguments.text {
        return Ok(Payload::Text(given.clone()));
    }
    if arguments.hex {
        let payload = Payload::Hex(given.clone());
        return match payload.clone().into_bytes() {
            Ok(_) => Ok(payload),
            Err(problem) => {
                let fault = CliError::usage(problem.to_string());
                Err(problem.help.iter().cloned().fold(fault, CliError::help))
            }
        };
    }
    serde_json::from_str(given)
        .map(Payload::Msgpack)
        .map_err(|error| {
            let fault = CliError::usage(format!("the payload is not JSON: {error}"));
            if given.len() > SHORT || given.contains(['{', '[', '"']) {
                return fault
                    .help("JSON needs quotes around keys and texts, inside the shell's quotes");
            }
            let quoted = serde_json::Value::from(given.as_str());
            fault.help(format!(
                "quote JSON text inside the shell's quotes, '{quoted}'; for raw text use --text"
            ))
        })
}

/// The maximum length of a payload that is repeated in an error message.
const SHORT: usize = 60;

fn from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let limit = MAX_REQUEST_BYTES as u64;
    std::io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|error| {
            CliError::failed(format!("could not read the payload from stdin: {error}"))
        })?;
    if text.len() > MAX_REQUEST_BYTES {
        return Err(CliError::failed(format!(
            "the payload on stdin has more than {limit} bytes, which is the limit"
        )));
    }
    Ok(text)
}
