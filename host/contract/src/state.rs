//! The state that a module saves, and what its `load` takes: its section `exuvia.state`.

use exuvia_abi::exports::SECTION_BYTES;
use serde::Deserialize;
use serde_json::Value;

use crate::types::Type;

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

/// The section.
#[derive(Deserialize)]
struct Written {
    schema: i32,
    #[serde(rename = "type")]
    ty: String,
    #[serde(default)]
    loads: Option<Value>,
}

impl StateContract {
    /// Reads the section of a module with this `exuvia_schema`; `None` if it is empty, which is as if
    /// there were none.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and where.
    pub fn of(section: &[u8], schema: i32) -> Result<Option<StateContract>, String> {
        if section.len() >= SECTION_BYTES {
            return Err(format!("it has {SECTION_BYTES} bytes or more"));
        }
        match StateContract::parse(section)? {
            Some(state) if state.schema != schema => Err(format!(
                "it says schema {}, and `exuvia_schema` is {schema}",
                state.schema
            )),
            state => Ok(state),
        }
    }

    /// Reads the section; `None` if it is empty, which is as if there were none.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and where.
    pub fn parse(section: &[u8]) -> Result<Option<StateContract>, String> {
        let text = std::str::from_utf8(section).map_err(|error| error.to_string())?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        if !text.trim_start().starts_with('{') {
            return Err(
                "expected an object, as in {\"schema\": 1, \"type\": \"{count: int}\"}".to_owned(),
            );
        }
        let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let ty = Type::parse(&written.ty).map_err(|error| format!("`type`: {error}"))?;
        let loads = written.loads.map_or(Ok(Loads::Listed(Vec::new())), |loads| {
            read_loads(&loads).ok_or_else(|| {
                format!("`loads` is {loads}: expected a list of schemas and of pairs (the first and the last of a range), \"fields\" or \"any\"")
            })
        })?;
        Ok(Some(StateContract {
            schema: written.schema,
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
            [first, last] => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some((first, last))
            }
            _ => None,
        },
        one => number(one).map(|schema| (schema, schema)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Loads, SECTION_BYTES, StateContract};
    use crate::types::Type;

    fn parsed(text: &str) -> StateContract {
        StateContract::parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_state_has_a_schema_a_type_and_what_load_takes() {
        let state = parsed(
            "{\"schema\": 2, \"loads\": [1, [4, 6]], \"later\": 1,\n\"type\": \"{count: int, step|by?: int}\"}\n",
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
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../../guest-sdk/abi.md");
        let example = page
            .split("```json\n")
            .find(|it| it.starts_with("{\"schema\""));
        let state = parsed(example.unwrap().split("```").next().unwrap());
        assert_eq!(state.taken(), "schemas 1 and 2");
        let ty = "{count: int, notes: List<text>, step?: int}";
        assert_eq!(state.ty.to_string(), ty);
    }

    #[test]
    fn what_load_takes_may_be_a_word_or_left_out() {
        let own = parsed("{\"schema\":3,\"type\":\"{}\"}");
        assert_eq!((own.takes(3), own.takes(2)), (Some(true), Some(false)));
        assert_eq!(own.taken(), "schema 3");
        assert_eq!(own.ty, Type::Record(Vec::new()));
        let fields = parsed("{\"schema\":3,\"loads\":\"fields\",\"type\":\"Tuple<int>\"}");
        assert!(fields.reads_by_name(2));
        let any = parsed("{\"schema\":3,\"loads\":\"any\",\"type\":\"{}\"}");
        assert_eq!((any.takes(2), any.reads_by_name(2)), (None, false));
        assert_eq!(any.taken(), "every schema");
    }

    #[test]
    fn a_module_speaks_of_its_own_schema_within_the_limit() {
        let text = "{\"schema\":2,\"type\":\"int\"}";
        let of = |text: &str, schema| StateContract::of(text.as_bytes(), schema);
        assert_eq!(of(text, 2), Ok(Some(parsed(text))));
        let error = of(text, 1).unwrap_err();
        assert_eq!(error, "it says schema 2, and `exuvia_schema` is 1");
        assert_eq!(of("", 1), Ok(None));
        let filled = |bytes: usize| text.to_owned() + &" ".repeat(bytes - text.len());
        assert!(of(&filled(SECTION_BYTES - 1), 2).is_ok());
        let error = of(&filled(SECTION_BYTES), 2).unwrap_err();
        assert_eq!(error, "it has 65536 bytes or more");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("nothing", "expected an object"),
            ("[1, \"int\"]", "expected an object"),
            ("{\"schema\":1}", "missing field `type`"),
            ("{\"type\":\"int\"}", "missing field `schema`"),
            ("{\"schema\":\"one\",\"type\":\"int\"}", "line 1 column 15"),
            (
                "{\"schema\":1,\"type\":\"{a: i64}\"}",
                "`type`: there is no type `i64`",
            ),
            ("{\"schema\":1,\"type\":\"int\"} {}", "trailing characters"),
            (
                "{\"schema\":1,\"type\":\"int\",\"loads\":\"all\"}",
                "`loads` is \"all\": expected",
            ),
            (
                "{\"schema\":1,\"type\":\"int\",\"loads\":[[1]]}",
                "`loads` is [[1]]: expected",
            ),
            (
                "{\"schema\":1,\"type\":\"int\",\"loads\":[[5, 3]]}",
                "`loads` is [[5,3]]: expected",
            ),
            (
                "{\"schema\":1,\"type\":\"int\",\"loads\":[1.5]}",
                "`loads` is [1.5]: expected",
            ),
        ] {
            let error = StateContract::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(StateContract::parse(b"\xff").is_err());
        assert_eq!(StateContract::parse(b"\n"), Ok(None));
    }
}
