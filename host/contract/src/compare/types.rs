//! Compares the types of two states: what the old code has saved, and what the new code reads.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::types::{Field, Type, Variant};

/// What a change of a field costs, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Nothing: `load` reads it.
    None,
    /// `load` has code of its own for the old schema, and reads it as it likes.
    Converted,
    /// `load` skips what was saved.
    Dropped,
    /// The types do not tell whether `load` reads it.
    Unknown,
    /// `load` refuses the state.
    Refused,
}

/// How `load` reads the state of the old code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// By the names of its fields, since the schema is the same.
    SameSchema,
    /// By the names of its fields, although the schema is another one.
    ByName,
    /// By code of its own.
    Converted,
}

/// How a field of the state differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// The field, with those that it is in: `kept[].pid`. Empty: the state as a whole.
    pub field: String,
    /// What it costs.
    pub loss: Loss,
    change: Change,
    reading: Reading,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It had this name.
    Renamed(String),
    /// It is this type, and was that.
    Type { new: String, old: String },
    /// The state has it under this name, and under that one.
    Twice { first: String, other: String },
    /// It could be this variant, which is gone.
    Variant(String),
}

impl FieldChange {
    /// Returns what has changed, in quotes if it is a field.
    pub(super) fn what(&self) -> String {
        match self.field.as_str() {
            "" => "the state".to_owned(),
            field => format!("`{field}`"),
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())?;
        let convert = match self.reading {
            Reading::SameSchema => "raise the schema and convert it in `load`",
            Reading::ByName | Reading::Converted => "convert it in `load`",
        };
        match (&self.change, self.loss) {
            (Change::Added, Loss::Refused) => {
                write!(f, " is new and has no default: give it one, or {convert}")
            }
            (Change::Added, Loss::Converted) => f.write_str(" is new: `load` makes it"),
            (Change::Added, _) => f.write_str(" is new, and may be missing"),
            (Change::Removed, Loss::Converted) => {
                f.write_str(" is gone: `load` converts it, or drops it")
            }
            (Change::Removed, _) => write!(
                f,
                " is gone: what it holds is dropped; if it is still wanted, {convert}"
            ),
            (Change::Renamed(old), _) => {
                write!(f, " was `{old}`, under which `load` finds it")
            }
            (Change::Type { new, old }, Loss::Converted) => {
                write!(f, " is {new} and was {old}: `load` converts it")
            }
            (Change::Type { new, old }, Loss::Refused) => {
                write!(f, " is {new} and was {old}: {convert}")
            }
            (Change::Type { new, old }, Loss::Unknown) => write!(
                f,
                " is {new} and was {old}: the modules do not tell whether it can be read; if it cannot, {convert}"
            ),
            (Change::Type { new, old }, Loss::Dropped) => write!(
                f,
                " is {new} and was {old}, of which it reads a part: the rest is dropped; if it is still wanted, {convert}"
            ),
            (Change::Type { new, old }, _) => write!(f, " is {new} and was {old}, which it reads"),
            (Change::Twice { .. }, Loss::Converted) => {
                f.write_str(" had several of its names: `load` converts them")
            }
            (Change::Twice { first, other }, _) => write!(
                f,
                " is found as `{first}` and as `{other}`: the modules do not tell which one `load` reads, or whether it refuses both; let it have one of these names, or {convert}"
            ),
            (Change::Variant(variant), Loss::Converted) => write!(
                f,
                " could be `{variant}`, which is gone: `load` converts it"
            ),
            (Change::Variant(variant), _) => write!(
                f,
                " could be `{variant}`, which `load` does not know: keep it, or {convert}"
            ),
        }
    }
}

impl Serialize for FieldChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("FieldChange", 3)?;
        map.serialize_field("field", &self.field)?;
        map.serialize_field("loss", &self.loss)?;
        map.serialize_field("text", &self.to_string())?;
        map.end()
    }
}

/// Returns how `new` differs from `old`.
pub(super) fn changes(old: &Type, new: &Type, reading: Reading) -> Vec<FieldChange> {
    let mut differences = Differences {
        found: Vec::new(),
        reading,
    };
    differences.of("", old, new);
    differences.found
}

/// Returns what it costs to read `old` as `new` by the names of its fields: the worst of all changes.
pub(super) fn worst(old: &Type, new: &Type) -> Loss {
    let found = changes(old, new, Reading::ByName);
    let losses = found.iter().map(|change| change.loss);
    losses.max().unwrap_or(Loss::None)
}

struct Differences {
    found: Vec<FieldChange>,
    reading: Reading,
}

impl Differences {
    fn push(&mut self, field: &str, loss: Loss, change: Change) {
        let is_read = loss == Loss::None && matches!(change, Change::Renamed(_));
        self.found.push(FieldChange {
            field: field.to_owned(),
            loss: match self.reading {
                Reading::Converted if !is_read => Loss::Converted,
                _ => loss,
            },
            change,
            reading: self.reading,
        });
    }

    fn of(&mut self, path: &str, old: &Type, new: &Type) {
        if old == new {
            return;
        }
        match (old, new) {
            (Type::Option(old), Type::Option(new)) => self.of(path, old, new),
            (Type::List(old), Type::List(new)) => self.of(&format!("{path}[]"), old, new),
            (Type::Map(old_key, old), Type::Map(new_key, new))
                if worst(old_key, new_key) == Loss::None =>
            {
                self.of(&format!("{path}[]"), old, new);
            }
            (Type::Tuple(olds), Type::Tuple(news)) if olds.len() == news.len() => {
                for (index, (old, new)) in olds.iter().zip(news).enumerate() {
                    self.of(&inside(path, &index.to_string()), old, new);
                }
            }
            (Type::Record(olds), Type::Record(news)) => self.fields(path, olds, news),
            (Type::Enum(olds), Type::Enum(news)) => self.variants(path, olds, news),
            _ => self.push(path, read_as(old, new), Change::of_type(old, new)),
        }
    }

    fn variants(&mut self, path: &str, olds: &[Variant], news: &[Variant]) {
        for old in olds {
            let Some(new) = news.iter().find(|new| new.is_found_as(&old.name)) else {
                self.push(path, Loss::Refused, Change::Variant(old.name.clone()));
                continue;
            };
            let inner = inside(path, &old.name);
            match (&old.content, &new.content) {
                (None, None) => {}
                (Some(old), Some(new)) => self.of(&inner, old, new),
                (old, new) => {
                    let shown = |content: &Option<Type>| match content {
                        None => "a name alone".to_owned(),
                        Some(ty) => ty.to_string(),
                    };
                    let (old, new) = (shown(old), shown(new));
                    self.push(&inner, Loss::Refused, Change::Type { new, old });
                }
            }
        }
    }

    fn fields(&mut self, path: &str, olds: &[Field], news: &[Field]) {
        for new in news {
            let inner = inside(path, &new.name);
            // Its own name comes first.
            let (same, others): (Vec<_>, Vec<_>) = (olds.iter())
                .filter(|old| new.is_found_as(&old.name))
                .partition(|old| old.name == new.name);
            let mut found = same.into_iter().chain(others);
            let first = found.next();
            if let (Some(first), Some(other)) = (first, found.next()) {
                let (first, other) = (first.name.clone(), other.name.clone());
                self.push(&inner, Loss::Unknown, Change::Twice { first, other });
            }
            match first {
                Some(old) => self.field(&inner, old, new),
                None if new.may_be_missing() => self.push(&inner, Loss::None, Change::Added),
                None => self.push(&inner, Loss::Refused, Change::Added),
            }
        }
        for old in olds {
            if !news.iter().any(|new| new.is_found_as(&old.name)) {
                self.push(&inside(path, &old.name), Loss::Dropped, Change::Removed);
            }
        }
    }

    fn field(&mut self, path: &str, old: &Field, new: &Field) {
        if old.name != new.name {
            self.push(path, Loss::None, Change::Renamed(old.name.clone()));
        }
        match &old.ty {
            // Some languages read nil as what is missing.
            Type::Option(value)
                if new.default && !new.takes_nil() && worst(value, &new.ty) != Loss::Refused =>
            {
                self.push(path, Loss::Unknown, Change::of_type(&old.ty, &new.ty));
            }
            ty => self.of(path, ty, &new.ty),
        }
    }
}

impl Change {
    fn of_type(old: &Type, new: &Type) -> Change {
        Change::Type {
            new: new.to_string(),
            old: old.to_string(),
        }
    }
}

fn inside(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// Returns what it costs to read a value of one type as one of another, which is not of the same
/// form.
fn read_as(old: &Type, new: &Type) -> Loss {
    let all = |types: &mut dyn Iterator<Item = &Type>, new: &Type| {
        let losses = types.map(|old| worst(old, new));
        losses.max().unwrap_or(Loss::None)
    };
    match (old, new) {
        // Every reader takes any width, and a whole number where a float is wanted.
        (_, Type::Any) | (Type::Int, Type::Float) | (Type::Nil, Type::Option(_)) => Loss::None,
        (Type::Text | Type::Pid, Type::Bytes) => Loss::None,
        (Type::Enum(variants), Type::Text | Type::Bytes)
            if variants.iter().all(|variant| variant.content.is_none()) =>
        {
            Loss::None
        }
        (Type::List(of), Type::Bytes) => worst(of, &Type::Int),
        (Type::Tuple(olds), Type::Bytes) => all(&mut olds.iter(), &Type::Int),
        (Type::Any | Type::Other(_), _) | (_, Type::Other(_)) => Loss::Unknown,
        (Type::Bytes, Type::Pid) => Loss::Unknown,
        (Type::Option(_), _) => Loss::Refused,
        (old, Type::Option(new)) => worst(old, new),
        (Type::Tuple(olds), Type::List(new)) => all(&mut olds.iter(), new),
        (Type::List(_), Type::Tuple(_)) => Loss::Unknown,
        (Type::Record(olds), Type::Map(key, new)) if worst(&Type::Text, key) == Loss::None => {
            all(&mut olds.iter().map(|field| &field.ty), new)
        }
        (Type::Map(..), Type::Record(_)) => Loss::Unknown,
        _ => Loss::Refused,
    }
}
