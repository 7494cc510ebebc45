//! `exuvia call`: calls a function of a process's protocol by its name.

use std::time::Duration;

use exuvia_api::{Description, Function, Payload, TYPED_TAG};
use exuvia_manifest::parse_duration;
use serde_json::{Map, Value, json};

use super::describe::{signature, silent};
use super::docs::nearest;
use super::send::{ask, tell};
use crate::error::CliError;
use crate::output::Output;
use crate::place::Place;
use crate::text::excerpt;

/// How many characters of a wrong argument are shown.
const SHOWN: usize = 60;

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
    /// How long to wait for the reply
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
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
                return Err(wrong(format!("{count} arguments given, it takes {most}")));
            }
        };
        let value = match argument_value(text, &parameter.ty) {
            Ok(value) => value,
            Err(wanted) => {
                return Err(wrong(format!(
                    "`{}` is {wanted}, which `{}` is not",
                    parameter.name,
                    excerpt(text, SHOWN)
                )));
            }
        };
        if values.insert(parameter.name.clone(), value).is_some() {
            return Err(wrong(format!("`{}` is given twice", parameter.name)));
        }
    }
    for parameter in &function.parameters {
        if !values.contains_key(&parameter.name) {
            // The process decides what an absent optional argument means.
            if optional(&without_spaces(&parameter.ty)).is_none() {
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

/// Returns an argument as a value of a type: parsed as JSON, or as text if it is not JSON.
/// Types that are not known here take any value, and the process judges it.
///
/// # Errors
///
/// The type in words, if it has no such value.
fn argument_value(text: &str, ty: &str) -> Result<Value, String> {
    let ty = &without_spaces(ty);
    let mut plain = ty.as_str();
    let mut may_be_null = false;
    while let Some(inner) = optional(plain) {
        (plain, may_be_null) = (inner, true);
    }
    // Text need not be quoted again within the shell's quotes.
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    if may_be_null && value.is_null() {
        return Ok(value);
    }
    if let "String" | "string" | "str" = plain {
        return Ok(match value {
            Value::String(_) => value,
            _ => Value::from(text),
        });
    }
    let integer = |least: i128, most: i128| {
        let number = (value.as_i64().map(i128::from)).or_else(|| value.as_u64().map(i128::from));
        match number.is_some_and(|number| (least..=most).contains(&number)) {
            true => Ok(()),
            false => Err(format!(
                "of the type {ty}, an integer from {least} to {most}"
            )),
        }
    };
    let other = |fits: bool, what: &str| match fits {
        true => Ok(()),
        false => Err(format!("of the type {ty}, {what}")),
    };
    match plain {
        "u8" => integer(0, u8::MAX.into()),
        "u16" => integer(0, u16::MAX.into()),
        // Guests have 32 bits.
        "u32" | "usize" => integer(0, u32::MAX.into()),
        "u64" => integer(0, u64::MAX.into()),
        "i8" => integer(i8::MIN.into(), i8::MAX.into()),
        "i16" => integer(i16::MIN.into(), i16::MAX.into()),
        "i32" | "isize" => integer(i32::MIN.into(), i32::MAX.into()),
        "i64" => integer(i64::MIN.into(), i64::MAX.into()),
        "bool" => other(value.is_boolean(), "`true` or `false`"),
        "f32" | "f64" => other(value.is_number(), "a number"),
        _ => Ok(()),
    }?;
    Ok(value)
}

/// Returns the `T` of an `Option<T>`.
fn optional(ty: &str) -> Option<&str> {
    ty.strip_prefix("Option<")?.strip_suffix('>')
}

fn without_spaces(ty: &str) -> String {
    ty.replace(' ', "")
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
    use exuvia_api::Function;
    use serde_json::json;

    use super::message;
    use crate::error::{CliError, Exit};

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

    fn one(ty: &str, argument: &str) -> Result<serde_json::Value, String> {
        let function = function(json!({
            "name": "f", "parameters": [{"name": "by", "type": ty}],
        }));
        match message(&function, &[argument.to_owned()]) {
            Ok(message) => Ok(message["f"]["by"].clone()),
            Err(CliError::Report(report)) => {
                assert_eq!(report.exit, Exit::Usage);
                Err(report.message)
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_argument_has_the_type_of_its_parameter() {
        for (ty, argument, value) in [
            ("u8", "by=255", json!(255)),
            ("i8", "by=-128", json!(-128)),
            ("u64", "by=18446744073709551615", json!(u64::MAX)),
            ("i64", "by=-9223372036854775808", json!(i64::MIN)),
            ("bool", "by=true", json!(true)),
            ("f64", "by=3", json!(3)),
            ("f32", "by=-0.5", json!(-0.5)),
            ("String", "by=12", json!("12")),
            ("Option<u8>", "by=7", json!(7)),
            ("Option < u8 >", "by=null", json!(null)),
            ("Option<String>", "by=12", json!("12")),
            ("Option<String>", "by=null", json!(null)),
            ("Option<Option<bool>>", "by=false", json!(false)),
            // What is not known here is for the process to judge.
            ("u128", "by=x", json!("x")),
            ("Vec<u8>", "by=x", json!("x")),
            ("Colour", "by=Red", json!("Red")),
            ("Option<Colour>", "by=3", json!(3)),
            ("", "by=3", json!(3)),
        ] {
            assert_eq!(one(ty, argument), Ok(value), "{ty} {argument}");
        }
        for (ty, argument, shown) in [
            ("u64", "by=hello", "`hello`"),
            ("u64", "by=-1", "`-1`"),
            (
                "u64",
                "by=18446744073709551616",
                "0 to 18446744073709551615",
            ),
            ("u64", "by=1.5", "`1.5`"),
            ("u64", "by=\"5\"", "`\"5\"`"),
            ("u64", "by=null", "`null`"),
            ("u8", "by=256", "0 to 255"),
            ("i8", "by=128", "-128 to 127"),
            ("usize", "by=4294967296", "0 to 4294967295"),
            ("i64", "by=9223372036854775808", "`9223372036854775808`"),
            ("bool", "by=yes", "`yes`"),
            ("f64", "by=much", "`much`"),
            ("Option<u8>", "by=-1", "`-1`"),
            ("Option < bool >", "by=[1]", "`[1]`"),
        ] {
            let refused = one(ty, argument).unwrap_err();
            let ty = ty.replace(' ', "");
            for part in ["`f`: `by`", &ty, shown] {
                assert!(refused.contains(part), "`{part}` is not in: {refused}");
            }
        }
        let long = one("u8", &format!("by={}", "ä".repeat(1000))).unwrap_err();
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn invalid_arguments_are_reported_before_anything_is_sent() {
        let add = function(json!({
            "name": "add", "parameters": [{"name": "by", "type": "i64"}],
        }));
        for (words, part) in [
            (&[][..], "`by` is missing"),
            (&["to=3"], "no parameter `to`"),
            (&["3", "4"], "2 arguments given, it takes 1"),
            (&["by=3", "by=4"], "`by` is given twice"),
        ] {
            let fault = format!("{:?}", message(&add, &strings(words)).unwrap_err());
            assert!(fault.contains(part), "{fault}");
            assert!(fault.contains("it is add(by: i64)"), "{fault}");
        }
    }
}
