//! Values with a form of their own: sizes, and what guests get as MessagePack.

use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use toml::de::{DeFloat, DeInteger, DeValue};

use super::table::Value;
use crate::error::{Found, Problems};

/// The maximum nesting of arguments. Their decoders may be recursive.
const MAX_ARGS_DEPTH: usize = 32;

pub(super) const SIZE_FORM: &str =
    "write bytes as a number, or a string with a unit: \"512B\", \"64KiB\", \"16MiB\", \"1GiB\"";

pub(crate) const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Returns the name of a value's type in messages.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn unsigned(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn signed(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Returns a float, unless the number is too large for one. `inf` is only accepted as a word.
fn float(float: &DeFloat<'_>) -> Option<f64> {
    let value: f64 = float.as_str().parse().ok()?;
    (value.is_finite() || float.as_str().contains("inf") || value.is_nan()).then_some(value)
}

/// Reads a size such as `16MiB`. The error says how to fix it.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(known, _)| *known == unit) else {
        let meant = SIZE_UNITS.iter().find(|(known, _)| {
            let short = known.replace('i', "");
            !unit.is_empty()
                && (unit.eq_ignore_ascii_case(known)
                    || unit.eq_ignore_ascii_case(&short)
                    || unit.eq_ignore_ascii_case(&short[..1]))
        });
        return Err(match meant {
            Some((known, _)) if digits > 0 => format!("write \"{number}{known}\""),
            _ => SIZE_FORM.to_owned(),
        });
    };
    let number: u64 = number.parse().map_err(|_| SIZE_FORM.to_owned())?;
    number
        .checked_mul(*factor)
        .ok_or_else(|| "the number is too large".to_owned())
}

/// Returns the shortest exact form of a size.
pub(crate) fn shown_size(bytes: u64) -> String {
    for (unit, factor) in SIZE_UNITS {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// Packs arguments, or reports which part of them cannot be packed.
pub(super) fn pack(value: &Value<'_>, problems: &mut Problems) -> Option<Vec<u8>> {
    if let Err(found) = check(value, 0) {
        problems.add(found);
        return None;
    }
    match rmp_serde::to_vec(&Packed(value.get_ref())) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            problems.add(Found::at(
                value.span(),
                format!("the value cannot be packed: {error}"),
            ));
            None
        }
    }
}

/// Finds what MessagePack cannot represent, with its own span.
fn check(value: &Value<'_>, depth: usize) -> Result<(), Found> {
    if depth > MAX_ARGS_DEPTH {
        return Err(Found::at(
            value.span(),
            format!("values are nested deeper than {MAX_ARGS_DEPTH} levels"),
        ));
    }
    match value.get_ref() {
        DeValue::Integer(integer) if signed(integer).or(unsigned_bits(integer)).is_none() => Err(
            Found::at(value.span(), "the number does not fit 64 bits".to_owned()),
        ),
        DeValue::Float(number) if float(number).is_none() => Err(Found::at(
            value.span(),
            "the number does not fit a 64-bit float".to_owned(),
        )),
        DeValue::Array(array) => array.iter().try_for_each(|item| check(item, depth + 1)),
        DeValue::Table(table) => table
            .iter()
            .try_for_each(|(_, item)| check(item, depth + 1)),
        _ => Ok(()),
    }
}

/// Returns a value if the number fits; the caller ignores its sign.
fn unsigned_bits(integer: &DeInteger<'_>) -> Option<i64> {
    unsigned(integer).map(u64::cast_signed)
}

/// A TOML value for serde. Dates become strings, as MessagePack has no type for dates without a
/// zone; tables become maps, sorted by key.
struct Packed<'a, 'i>(&'a DeValue<'i>);

impl Serialize for Packed<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            DeValue::String(text) => serializer.serialize_str(text),
            DeValue::Integer(integer) => match (signed(integer), unsigned(integer)) {
                (Some(number), _) => serializer.serialize_i64(number),
                (None, Some(number)) => serializer.serialize_u64(number),
                (None, None) => Err(S::Error::custom("a number does not fit 64 bits")),
            },
            DeValue::Float(number) => match float(number) {
                Some(number) => serializer.serialize_f64(number),
                None => Err(S::Error::custom("a number does not fit a 64-bit float")),
            },
            DeValue::Boolean(value) => serializer.serialize_bool(*value),
            DeValue::Datetime(time) => serializer.collect_str(time),
            DeValue::Array(array) => {
                let mut seq = serializer.serialize_seq(Some(array.len()))?;
                for item in array.iter() {
                    seq.serialize_element(&Packed(item.get_ref()))?;
                }
                seq.end()
            }
            DeValue::Table(table) => {
                let mut map = serializer.serialize_map(Some(table.len()))?;
                for (key, item) in table {
                    map.serialize_entry(key.get_ref().as_ref(), &Packed(item.get_ref()))?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{shown_size, size};

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("16 MiB", 16 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, help) in [
            ("16MB", "write \"16MiB\""),
            ("16m", "write \"16MiB\""),
            ("3gib", "write \"3GiB\""),
            ("99999999999999GiB", "the number is too large"),
        ] {
            assert_eq!(size(text), Err(help.to_owned()), "{text}");
        }
        for text in ["", "16", "MiB", "-1B", "1.5GiB", "1TiB", "é", "1é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn displayed_sizes_are_exact() {
        for (bytes, text) in [
            (0, "0B"),
            (1_000, "1000B"),
            (1_024, "1KiB"),
            (1 << 40, "1024GiB"),
        ] {
            assert_eq!(shown_size(bytes), text);
        }
    }
}
