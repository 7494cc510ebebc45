//! The state that a module saves, and what its `load` takes: its section `exuvia.state`.

use std::fmt;

use exuvia_abi::exports::STATE_SECTION;
use serde::Deserialize;
use serde_json::Value;

use crate::section::{SECTION_BYTES, section};
use crate::types::{Field, Type};

/// What a module says of its saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateContract {
    /// The number of its schema.
    pub schema: i32,
    /// The schemas that `load` takes.
    pub loads: Loads,
    /// What `save` writes: usually a record.
    pub ty: Type,
}

/// The schemas that `load` takes. A module's own is always among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loads {
    /// These, first and last of each range. State of another schema than its own is converted.
    Listed(Vec<(i32, i32)>),
    /// State of every schema is read by the names of its fields; nothing is converted.
    ByName,
    /// `load` decides when it runs.
    Any,
}

/// A line of the section: what is the same for all fields.
#[derive(Deserialize)]
struct HeadLine {
    schema: i32,
    #[serde(default)]
    loads: Option<Value>,
    #[serde(rename = "type")]
    ty: Option<String>,
}

/// A line of the section for a field.
#[derive(Deserialize)]
struct FieldLine {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    aliases: Vec<String>,
}

impl StateContract {
    /// Reads what a module says of its state; `None` if it does not.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and in which line.
    pub fn of(wasm: &[u8]) -> Result<Option<StateContract>, String> {
        let section = section(wasm, STATE_SECTION);
        if section.len() == SECTION_BYTES {
            return Err(format!("it has more than {SECTION_BYTES} bytes"));
        }
        StateContract::parse(&section)
    }

    /// Reads the section; `None` if it is empty, which is as if there were none.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and in which line.
    pub fn parse(section: &[u8]) -> Result<Option<StateContract>, String> {
        let text = std::str::from_utf8(section).map_err(|error| error.to_string())?;
        let mut head: Option<HeadLine> = None;
        let mut fields: Vec<Field> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let at = |error: &dyn fmt::Display| format!("line {}: {error}", index + 1);
            let line: Value = serde_json::from_str(line).map_err(|error| at(&error))?;
            if !line.is_object() {
                return Err(at(&"expected an object, as in {\"schema\": 1}"));
            }
            if line.get("name").is_some() {
                let line: FieldLine = serde_json::from_value(line).map_err(|error| at(&error))?;
                let field = line.field().map_err(|error| at(&error))?;
                if fields.iter().any(|other| other.name == field.name) {
                    return Err(at(&format!("the field `{}` is there twice", field.name)));
                }
                fields.push(field);
            } else if head.is_some() {
                return Err(at(&"a second line without a name: there is one `schema`"));
            } else {
                head = Some(serde_json::from_value(line).map_err(|error| at(&error))?);
            }
        }
        let Some(head) = head else {
            return match fields.is_empty() {
                true => Ok(None),
                false => Err("the line with the `schema` is missing".to_owned()),
            };
        };
        let ty = match head.ty {
            None => Type::Record(fields),
            Some(_) if !fields.is_empty() => {
                return Err("it has a `type` and fields: one of the two".to_owned());
            }
            Some(text) => Type::parse(&text).map_err(|error| format!("`type`: {error}"))?,
        };
        let loads = head.loads.map_or(Ok(Loads::Listed(Vec::new())), |loads| {
            read_loads(&loads).ok_or_else(|| {
                format!("`loads` is {loads}: expected a list of schemas and of pairs (the first and the last of a range), \"fields\" or \"any\"")
            })
        })?;
        Ok(Some(StateContract {
            schema: head.schema,
            loads,
            ty,
        }))
    }

    /// Returns whether `load` takes state of a schema; `None` if it decides when it runs.
    pub fn takes(&self, schema: i32) -> Option<bool> {
        match &self.loads {
            _ if schema == self.schema => Some(true),
            Loads::Listed(ranges) => {
                let mut ranges = ranges.iter();
                Some(ranges.any(|(first, last)| (*first..=*last).contains(&schema)))
            }
            Loads::ByName => Some(true),
            Loads::Any => None,
        }
    }

    /// Returns whether state of a schema is read by the names of its fields, so that they must fit.
    pub fn reads_by_name(&self, schema: i32) -> bool {
        schema == self.schema || self.loads == Loads::ByName
    }

    /// Describes the schemas that `load` takes, as in `schemas 1 to 3 and 5`.
    pub fn taken(&self) -> String {
        let Loads::Listed(ranges) = &self.loads else {
            return "every schema".to_owned();
        };
        let mut ranges = ranges.clone();
        if !(ranges.iter()).any(|(first, last)| (*first..=*last).contains(&self.schema)) {
            ranges.push((self.schema, self.schema));
        }
        ranges.sort_unstable();
        let word = match ranges[..] {
            [(first, last)] if first == last => "schema",
            _ => "schemas",
        };
        let ranges: Vec<String> = (ranges.iter())
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first} to {last}"),
            })
            .collect();
        match ranges.split_last() {
            Some((last, [])) => format!("{word} {last}"),
            Some((last, others)) => format!("{word} {} and {last}", others.join(", ")),
            None => word.to_owned(),
        }
    }
}

fn read_loads(value: &Value) -> Option<Loads> {
    match value {
        Value::String(word) if word == "fields" => Some(Loads::ByName),
        Value::String(word) if word == "any" => Some(Loads::Any),
        Value::Array(ranges) => {
            let ranges: Option<Vec<_>> = ranges.iter().map(read_range).collect();
            ranges.map(Loads::Listed)
        }
        _ => None,
    }
}

fn read_range(value: &Value) -> Option<(i32, i32)> {
    let number = |value: &Value| i32::try_from(value.as_i64()?).ok();
    match value {
        Value::Array(pair) => match &pair[..] {
            [first, last] => Some((number(first)?, number(last)?)),
            _ => None,
        },
        one => number(one).map(|schema| (schema, schema)),
    }
}

impl FieldLine {
    fn field(self) -> Result<Field, String> {
        let ty = Type::parse(&self.ty).map_err(|error| format!("`{}`: {error}", self.name))?;
        Ok(Field {
            name: self.name,
            aliases: self.aliases,
            ty,
            default: self.default,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Loads, StateContract};
    use crate::types::Type;

    fn parsed(text: &str) -> StateContract {
        StateContract::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn lines_come_in_any_order() {
        let state = parsed(
            "{\"name\":\"count\",\"type\":\"int\",\"later\":1}\n\n{\"schema\":2,\"loads\":[1,[4,6]]}\n{\"name\":\"step\",\"type\":\"int\",\"default\":true,\"aliases\":[\"by\"]}",
        );
        assert_eq!(state.ty.to_string(), "{count: int, step|by?: int}");
        assert_eq!(state.loads, Loads::Listed(vec![(1, 1), (4, 6)]));
        for (schema, taken) in [(1, true), (2, true), (3, false), (5, true), (7, false)] {
            assert_eq!(state.takes(schema), Some(taken), "{schema}");
        }
        assert!(state.reads_by_name(2) && !state.reads_by_name(1));
        assert_eq!(state.taken(), "schemas 1, 2 and 4 to 6");
    }

    #[test]
    fn what_load_takes_may_be_a_word_or_left_out() {
        let own = parsed("{\"schema\":3}");
        assert_eq!((own.takes(3), own.takes(2)), (Some(true), Some(false)));
        assert_eq!(own.taken(), "schema 3");
        assert_eq!(own.ty, Type::Record(Vec::new()));
        let fields = parsed("{\"schema\":3,\"loads\":\"fields\",\"type\":\"Tuple<int>\"}");
        assert!(fields.reads_by_name(2));
        assert_eq!(fields.ty.to_string(), "Tuple<int>");
        let any = parsed("{\"schema\":3,\"loads\":\"any\"}");
        assert_eq!((any.takes(2), any.reads_by_name(2)), (None, false));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, part) in [
            ("{\"schema\":1}\nnothing", "line 2: "),
            (
                "{\"schema\":1}\n{\"name\":\"a\"}",
                "line 2: missing field `type`",
            ),
            (
                "{\"schema\":1}\n{\"name\":\"a\",\"type\":\"i64\"}",
                "line 2: `a`: there is no type `i64`",
            ),
            ("{\"schema\":1}\n{\"schema\":2}", "line 2: a second line"),
            ("{\"schema\":\"one\"}", "line 1: invalid type"),
            ("[1]", "line 1: expected an object"),
            (
                "{\"schema\":1,\"loads\":[[1]]}",
                "`loads` is [[1]]: expected",
            ),
            (
                "{\"schema\":1,\"loads\":[1.5]}",
                "`loads` is [1.5]: expected",
            ),
            ("{\"name\":\"a\",\"type\":\"int\"}", "`schema` is missing"),
            ("{\"schema\":1,\"loads\":\"all\"}", "`loads` is \"all\""),
            (
                "{\"schema\":1,\"type\":\"int\"}\n{\"name\":\"a\",\"type\":\"int\"}",
                "one of the two",
            ),
            (
                "{\"schema\":1}\n{\"name\":\"a\",\"type\":\"int\"}\n{\"name\":\"a\",\"type\":\"int\"}",
                "line 3: the field `a` is there twice",
            ),
        ] {
            let error = StateContract::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(StateContract::parse(b"\xff").is_err());
        assert_eq!(StateContract::parse(b"\n"), Ok(None));
    }
}
