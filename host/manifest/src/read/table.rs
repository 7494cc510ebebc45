//! Access to one TOML table by the keys that it may have (`keys`): values are checked against them,
//! and every other key is rejected with the nearest known one.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value;
use crate::duration::{DURATION_FORM, parse_duration, shown_duration};
use crate::error::{Found, Problems, nearest};
use crate::keys::{Kind, Shape};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table while it is being read.
#[derive(Debug)]
pub(super) struct Table<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Its name in messages: "`[node]`".
    pub(super) title: String,
    pub(super) span: Range<usize>,
    /// The keys that it may have.
    shape: &'static Shape,
    /// Keys of former versions that have been reported.
    retired: Vec<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(super) fn new(
        table: &'a DeTable<'i>,
        shape: &'static Shape,
        span: Range<usize>,
        title: String,
    ) -> Self {
        Self {
            table,
            title,
            span,
            shape,
            retired: Vec::new(),
        }
    }

    /// Returns the value of a key, if it exists.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value<'i>> {
        debug_assert!(
            self.shape.keys.iter().any(|known| known.name == key),
            "`{key}` is not among the keys of {}",
            self.shape.name
        );
        self.table.get(key)
    }

    /// Returns the position of a key, if it exists.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    /// Returns the position of the value of a key in a nested table.
    pub(super) fn inner_span(&self, table: &str, key: &str) -> Option<Range<usize>> {
        let DeValue::Table(inner) = self.table.get(table)?.get_ref() else {
            return None;
        };
        inner.get(key).map(|value| value.span())
    }

    pub(super) fn string(&self, key: &'static str, problems: &mut Problems) -> Option<At<&'a str>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text,
                span: value.span(),
            }),
            _ => {
                problems.add(wrong_type(key, "a string", value));
                None
            }
        }
    }

    /// Reads an array of strings, none of which may be empty.
    pub(super) fn strings(
        &self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<At<&'a str>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            problems.add(wrong_type(key, "an array of strings", value));
            return None;
        };
        let mut strings = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) if text.is_empty() => problems.add(Found::at(
                    item.span(),
                    format!("a string in `{key}` is empty"),
                )),
                DeValue::String(text) => strings.push(At {
                    value: text.as_ref(),
                    span: item.span(),
                }),
                _ => problems.add(wrong_type(key, "an array of strings", item)),
            }
        }
        Some(strings)
    }

    /// Reads a string that is neither empty nor longer than a name may be.
    pub(super) fn name(&self, key: &'static str, problems: &mut Problems) -> Option<At<&'a str>> {
        let at = self.string(key, problems)?;
        match at.value.len() {
            0 => {
                problems.add(Found::at(at.span, format!("`{key}` is empty")));
                None
            }
            length if length > crate::MAX_NAME_BYTES => {
                problems.add(Found::at(
                    at.span,
                    format!(
                        "`{key}` has {length} bytes, more than {}",
                        crate::MAX_NAME_BYTES
                    ),
                ));
                None
            }
            _ => Some(at),
        }
    }

    /// Reads a whole number within the key's range.
    pub(super) fn integer(&self, key: &'static str, problems: &mut Problems) -> Option<u64> {
        let value = self.get(key)?;
        let range = self.range(key);
        match value.get_ref() {
            DeValue::Integer(integer) => match value::unsigned(integer) {
                Some(number) if range.contains(&number) => Some(number),
                _ => {
                    problems.add(Found::at(
                        value.span(),
                        format!("`{key}` must be from {} to {}", range.start(), range.end()),
                    ));
                    None
                }
            },
            _ => {
                problems.add(wrong_type(key, "a whole number", value));
                None
            }
        }
    }

    /// Reads a whole number within the key's range as a `u32`.
    pub(super) fn integer32(&self, key: &'static str, problems: &mut Problems) -> Option<u32> {
        self.integer(key, problems)
            .and_then(|number| u32::try_from(number).ok())
    }

    /// Returns the range of a number.
    fn range(&self, key: &str) -> RangeInclusive<u64> {
        match self.shape.kind(key) {
            Kind::Integer(least, most)
            | Kind::Size(least, most)
            | Kind::Duration(least, most)
            | Kind::DurationOr(least, most, _) => *least..=*most,
            _ => 0..=u64::MAX,
        }
    }

    /// Reads a number of bytes: an integer, or a string with a unit.
    pub(super) fn size(&self, key: &'static str, problems: &mut Problems) -> Option<u64> {
        let value = self.get(key)?;
        let range = self.range(key);
        let bytes = match value.get_ref() {
            DeValue::Integer(integer) => value::unsigned(integer),
            DeValue::String(text) => match value::size(text) {
                Ok(bytes) => Some(bytes),
                Err(help) => {
                    problems
                        .add(Found::at(value.span(), format!("`{text}` is not a size")).help(help));
                    return None;
                }
            },
            _ => {
                problems.add(wrong_type(key, "a size", value).help(value::SIZE_FORM.to_owned()));
                return None;
            }
        };
        match bytes {
            Some(bytes) if range.contains(&bytes) => Some(bytes),
            _ => {
                problems.add(Found::at(
                    value.span(),
                    format!(
                        "`{key}` must be from {} to {}",
                        value::shown_size(*range.start()),
                        value::shown_size(*range.end())
                    ),
                ));
                None
            }
        }
    }

    /// Reads a duration: a string with a unit.
    pub(super) fn duration(&self, key: &'static str, problems: &mut Problems) -> Option<Duration> {
        let value = self.get(key)?;
        let (least, most) = self.range(key).into_inner();
        let range = Duration::from_millis(least)..=Duration::from_millis(most);
        let DeValue::String(text) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::Integer(number) => match parse_duration(number.as_str()) {
                    Err(help) => help,
                    Ok(_) => DURATION_FORM.to_owned(),
                },
                _ => DURATION_FORM.to_owned(),
            };
            problems.add(wrong_type(key, "a duration", value).help(help));
            return None;
        };
        match parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let (least, most) = (range.start(), range.end());
                problems.add(Found::at(
                    value.span(),
                    format!(
                        "`{key}` must be from \"{}\" to \"{}\"",
                        shown_duration(*least),
                        shown_duration(*most)
                    ),
                ));
                None
            }
            Err(help) => {
                let message = format!("`{text}` is not a duration");
                problems.add(Found::at(value.span(), message).help(help));
                None
            }
        }
    }

    /// Reports the key of a former version for a duration, which had a number of `unit`s.
    pub(super) fn retired_duration(
        &mut self,
        old: &'static str,
        new: &'static str,
        unit: Duration,
        problems: &mut Problems,
    ) {
        let Some((key, value)) = self.table.get_key_value(old) else {
            return;
        };
        self.retired.push(old);
        let number = |integer| u32::try_from(value::unsigned(integer)?).ok();
        let now = match value.get_ref() {
            DeValue::String(word) => word.to_string(),
            DeValue::Integer(integer) => shown_duration(unit * number(integer).unwrap_or(5)),
            _ => "5s".to_owned(),
        };
        let message = format!("`{old}` is now `{new}`, a duration with a unit");
        problems.add(Found::at(key.span(), message).help(format!("write:  {new} = \"{now}\"")));
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            _ => {
                problems.add(wrong_type(key, "`true` or `false`", value));
                None
            }
        }
    }

    /// Reads one of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let at = self.string(key, problems)?;
        let known = choices.iter().find(|(word, _)| *word == at.value);
        if known.is_none() {
            problems.add(unknown_word(
                at.span,
                format!("`{}` is not a known `{key}`", at.value),
                at.value,
                choices.iter().map(|(word, _)| *word),
            ));
        }
        known.map(|(_, value)| *value)
    }

    /// Reads a nested table.
    pub(super) fn table(
        &self,
        key: &'static str,
        title: impl FnOnce() -> String,
        problems: &mut Problems,
    ) -> Option<Table<'a, 'i>> {
        let value = self.get(key)?;
        match self.shape.kind(key) {
            Kind::Table(shape) => as_table(key, value, shape, title, problems),
            other => {
                debug_assert!(false, "`{key}` is no table with fixed keys, but {other:?}");
                None
            }
        }
    }

    /// Returns the entries of a nested table whose keys the user chooses.
    pub(super) fn entries(
        &self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<impl Iterator<Item = (At<&'a str>, &'a Value<'i>)> + use<'a, 'i>> {
        let value = self.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            problems.add(wrong_type(key, "a table", value));
            return None;
        };
        Some(table.iter().map(|(key, value)| {
            let at = At {
                value: key.get_ref().as_ref(),
                span: key.span(),
            };
            (at, value)
        }))
    }

    /// Rejects every key that is not known.
    pub(super) fn finish(self, problems: &mut Problems) {
        let known = || self.shape.keys.iter().map(|key| key.name);
        for (key, _) in self.table {
            let word: &str = key.get_ref();
            if !known().any(|known| known == word) && !self.retired.contains(&word) {
                problems.add(unknown_word(
                    key.span(),
                    format!("unknown key `{word}` in {}", self.title),
                    word,
                    known(),
                ));
            }
        }
    }
}

/// Reads a value that has to be a table.
pub(super) fn as_table<'a, 'i>(
    key: &str,
    value: &'a Value<'i>,
    shape: &'static Shape,
    title: impl FnOnce() -> String,
    problems: &mut Problems,
) -> Option<Table<'a, 'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(Table::new(table, shape, value.span(), title())),
        _ => {
            problems.add(wrong_type(key, "a table", value));
            None
        }
    }
}

pub(super) fn wrong_type(key: &str, expected: &str, value: &Value<'_>) -> Found {
    Found::at(value.span(), format!("`{key}` must be {expected}"))
        .label(format!("this is {}", value::kind(value.get_ref())))
}

/// Returns the problem of a word that is not among the known ones.
pub(super) fn unknown_word<'a>(
    span: Range<usize>,
    message: String,
    word: &str,
    known: impl Iterator<Item = &'a str>,
) -> Found {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    let found = Found::at(span, message);
    let found = match nearest(word, known.iter().copied()) {
        Some(near) => found.label(format!("did you mean `{near}`?")),
        None => found,
    };
    if known.is_empty() {
        return found;
    }
    let list: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    found.help(format!("known here: {}", list.join(", ")))
}

/// Parses a text; for invalid TOML the error has the parser's own message.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Found> {
    if text.len() > crate::MAX_MANIFEST_BYTES {
        return Err(Found::nowhere(format!(
            "the manifest is larger than {}",
            value::shown_size(crate::MAX_MANIFEST_BYTES as u64)
        )));
    }
    DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        Found::at(span, format!("not valid TOML: {}", error.message()))
    })
}
