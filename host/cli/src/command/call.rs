//! `exuvia call`: calls a function of a process's protocol by its name.

use exuvia_control::{Description, Function, Payload, TYPED_TAG};
use serde_json::{Map, Value, json};

use super::describe::{signature, silent};
use super::docs::nearest;
use super::send::{ask, tell};
use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;

/// Call a function of a process by the names of its protocol
///
/// `exuvia describe TARGET` lists the functions. Arguments are NAME=VALUE, or values in order.
/// A value is JSON; a value that is not JSON is taken as text. If the function has a reply, the
/// command waits for it; otherwise it only sends the message. Instead of a function you can
/// give a whole request in JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia call counter add by=3
  exuvia call counter get
  exuvia call clerk transfer from=1 to=2 'amount=12.5'
  exuvia call counter '\"Get\"'")]
pub(crate) struct Arguments {
    /// A registered name or a pid
    target: String,
    /// The function, or a request in JSON; if omitted, the request is empty
    function: Option<String>,
    /// Its arguments: NAME=VALUE, or values in order
    #[arg(allow_negative_numbers = true)]
    arguments: Vec<String>,
    /// How long to wait for the reply, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    timeout: u64,
}

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let client = place.client()?;
    let target = arguments.target;
    let Some(name) = arguments.function else {
        let payload = Payload::Empty;
        return ask(
            &client,
            target,
            TYPED_TAG,
            payload,
            arguments.timeout,
            output,
        )
        .await;
    };
    let whole = name.trim_start().starts_with(['{', '[', '"']);
    if whole && arguments.arguments.is_empty() {
        let value: Value = serde_json::from_str(&name)
            .map_err(|error| CliError::usage(format!("the request is not JSON: {error}")))?;
        let payload = Payload::Msgpack(value);
        return ask(
            &client,
            target,
            TYPED_TAG,
            payload,
            arguments.timeout,
            output,
        )
        .await;
    }
    let described = client.describe(&target).await?.value;
    let function = find(&described, &target, &name)?;
    let payload = Payload::Msgpack(message(function, &arguments.arguments)?);
    match function.reply {
        Some(_) => {
            ask(
                &client,
                target,
                TYPED_TAG,
                payload,
                arguments.timeout,
                output,
            )
            .await
        }
        None => tell(&client, target, TYPED_TAG, payload, output).await,
    }
}

fn find<'a>(
    described: &'a Description,
    target: &str,
    name: &str,
) -> Result<&'a Function, CliError> {
    if let Some(why) = silent(described) {
        return Err(CliError::usage(format!("{target} cannot be called by name: {why}")).help(
            "write the request in JSON, as in `exuvia call TARGET '\"Get\"'`, or `exuvia send` a message",
        ));
    }
    let functions = &described.functions;
    let found = functions.iter().find(|function| function.name == name);
    found.ok_or_else(|| {
        let names = functions.iter().map(|function| function.name.as_str());
        let all: Vec<String> = functions.iter().map(signature).collect();
        let fault = CliError::usage(format!("{target} has no function `{name}`"));
        match nearest(name, names) {
            Some(near) => fault.help(format!("did you mean `{near}`? It has {}", all.join(", "))),
            None => fault.help(format!("it has {}", all.join(", "))),
        }
    })
}

/// Builds the message that calls a function: its name alone, or a map with its arguments.
fn message(function: &Function, given: &[String]) -> Result<Value, CliError> {
    let wrong = |why: String| {
        CliError::usage(format!("`{}`: {why}", function.name))
            .help(format!("it is {}", signature(function)))
    };
    let mut values = Map::new();
    for (position, argument) in given.iter().enumerate() {
        let named = argument.split_once('=').and_then(|(name, value)| {
            let known = (function.parameters.iter()).find(|parameter| parameter.name == name)?;
            Some((known, value))
        });
        let (parameter, text) = match (named, function.parameters.get(position)) {
            (Some((parameter, value)), _) => (parameter, value),
            (None, _) if looks_named(argument) => {
                let name = argument.split('=').next().unwrap_or_default();
                return Err(wrong(format!("it has no parameter `{name}`")));
            }
            (None, Some(parameter)) => (parameter, argument.as_str()),
            (None, None) => {
                let (most, count) = (function.parameters.len(), given.len());
                return Err(wrong(format!("{count} arguments, it takes {most}")));
            }
        };
        // Text need not be quoted again within the shell's quotes.
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let value = match (&value, parameter.ty.as_str()) {
            (Value::String(_), _) => value,
            (_, "String" | "string" | "str") => Value::from(text),
            _ => value,
        };
        if values.insert(parameter.name.clone(), value).is_some() {
            return Err(wrong(format!("`{}` is given twice", parameter.name)));
        }
    }
    // The process decides what an absent optional argument means.
    let optional = |ty: &str| ty.replace(' ', "").starts_with("Option<");
    for parameter in &function.parameters {
        if !values.contains_key(&parameter.name) {
            if !optional(&parameter.ty) {
                return Err(wrong(format!("`{}` is missing", parameter.name)));
            }
            values.insert(parameter.name.clone(), Value::Null);
        }
    }
    let name = function.message.as_ref().unwrap_or(&function.name);
    Ok(match values.is_empty() {
        true => json!(name),
        false => json!({ name: values }),
    })
}

/// Returns whether an argument starts like `name=`.
fn looks_named(argument: &str) -> bool {
    argument.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use exuvia_control::Function;
    use serde_json::json;

    use super::message;

    fn function(value: serde_json::Value) -> Function {
        serde_json::from_value(value).unwrap()
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn arguments_become_the_message() {
        let add = function(json!({
            "name": "add", "message": "Add",
            "parameters": [{"name": "by", "type": "i64"}, {"name": "why", "type": "String"}],
        }));
        let made = |words: &[&str]| message(&add, &strings(words));
        let expected = json!({"Add": {"by": -3, "why": "it is 5"}});
        assert_eq!(made(&["by=-3", "why=it is 5"]).unwrap(), expected);
        assert_eq!(made(&["-3", "it is 5"]).unwrap(), expected);
        assert_eq!(made(&["why=it is 5", "by=-3"]).unwrap(), expected);
        // Text that looks like a number stays text.
        assert_eq!(
            made(&["by=1", "why=7"]).unwrap(),
            json!({"Add": {"by": 1, "why": "7"}})
        );
        let get = function(json!({"name": "get", "message": "Get", "reply": "i64"}));
        assert_eq!(message(&get, &[]).unwrap(), json!("Get"));
        let find = function(json!({
            "name": "find", "parameters": [{"name": "by", "type": "Option < u8 >"}],
        }));
        assert_eq!(message(&find, &[]).unwrap(), json!({"find": {"by": null}}));
    }

    #[test]
    fn what_is_wrong_with_them_is_told_before_anything_is_sent() {
        let add = function(json!({
            "name": "add", "parameters": [{"name": "by", "type": "i64"}],
        }));
        for (words, part) in [
            (&[][..], "`by` is missing"),
            (&["to=3"], "no parameter `to`"),
            (&["3", "4"], "2 arguments, it takes 1"),
            (&["by=3", "by=4"], "`by` is given twice"),
        ] {
            let fault = format!("{:?}", message(&add, &strings(words)).unwrap_err());
            assert!(fault.contains(part), "{fault}");
            assert!(fault.contains("it is add(by: i64)"), "{fault}");
        }
    }
}
