//! Compares the messages of two modules. Mailboxes are not translated in a swap: the new code gets
//! what the old code's callers send.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::types::{Loss, worst};
use crate::protocol::{Function, Parameter};
use crate::types::{MAX_DEPTH, Type};

/// How a message differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageChange {
    /// Its name, as it is sent.
    pub message: String,
    change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    /// It is a request now, or no longer one.
    Kind {
        is_request: bool,
    },
    /// It has parameters now, or none any more: it is encoded in another way.
    Form {
        has_parameters: bool,
    },
    ParameterAdded {
        name: String,
        is_optional: bool,
    },
    ParameterRemoved(String),
    /// A parameter, or the reply, is of this type and was of that.
    Type {
        what: String,
        new: String,
        old: String,
        loss: Loss,
    },
}

impl MessageChange {
    /// Returns whether who sends what the old code takes may be refused, or may not understand the
    /// reply.
    pub fn is_breaking(&self) -> bool {
        match &self.change {
            Change::Removed | Change::Kind { .. } | Change::Form { .. } => true,
            Change::ParameterAdded { is_optional, .. } => !is_optional,
            Change::Type { loss, .. } => *loss == Loss::Refused,
            Change::Added | Change::ParameterRemoved(_) => false,
        }
    }
}

impl fmt::Display for MessageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.message)?;
        match &self.change {
            Change::Added => f.write_str(" is new"),
            Change::Removed => f.write_str(
                " is gone: who still sends it is refused; keep it until no caller of it is left",
            ),
            Change::Kind { is_request: true } => f.write_str(
                " is a request and was a message: who sends it as a message is not understood; give the request another name",
            ),
            Change::Kind { is_request: false } => f.write_str(
                " is a message and was a request: who requests it is refused; give the message another name",
            ),
            Change::Form {
                has_parameters: true,
            } => f.write_str(
                " has parameters and had none: who sends its name alone may be refused; give it another name",
            ),
            Change::Form {
                has_parameters: false,
            } => f.write_str(
                " has no parameters any more: who sends some may be refused; give it another name",
            ),
            Change::ParameterAdded {
                name,
                is_optional: true,
            } => write!(f, " takes `{name}` too, which may be left out"),
            Change::ParameterAdded { name, .. } => write!(
                f,
                " takes `{name}` too, which callers do not give yet: let it be left out"
            ),
            Change::ParameterRemoved(name) => {
                write!(f, " takes no `{name}` any more: it is skipped")
            }
            Change::Type {
                what,
                new,
                old,
                loss,
            } => {
                write!(f, ": {what} is {new} and was {old}")?;
                match loss {
                    Loss::Refused => {
                        f.write_str(", which is another type: give the message another name")
                    }
                    Loss::Unknown => f.write_str(
                        ": not compared, since the modules do not tell what these are",
                    ),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Serialize for MessageChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("MessageChange", 3)?;
        map.serialize_field("message", &self.message)?;
        map.serialize_field("breaking", &self.is_breaking())?;
        map.serialize_field("text", &self.to_string())?;
        map.end()
    }
}

type Section = Result<Vec<Function>, String>;

/// Returns how the messages differ; `None` if one of the two does not describe any.
pub(super) fn changes(old: &Section, new: &Section) -> Option<Vec<MessageChange>> {
    let (Ok(old), Ok(new)) = (old, new) else {
        return None;
    };
    if old.is_empty() || new.is_empty() {
        return None;
    }
    let mut found = Vec::new();
    for before in old {
        let mut push = |change| {
            found.push(MessageChange {
                message: sent(before).to_owned(),
                change,
            });
        };
        match new.iter().find(|after| sent(after) == sent(before)) {
            None => push(Change::Removed),
            Some(after) => function(before, after, &mut push),
        }
    }
    let added = (new.iter()).filter(|after| !old.iter().any(|before| sent(before) == sent(after)));
    found.extend(added.map(|after| MessageChange {
        message: sent(after).to_owned(),
        change: Change::Added,
    }));
    Some(found)
}

/// The name by which it is sent.
fn sent(function: &Function) -> &str {
    function.message.as_ref().unwrap_or(&function.name)
}

fn function(old: &Function, new: &Function, push: &mut impl FnMut(Change)) {
    if old.reply.is_some() != new.reply.is_some() {
        let is_request = new.reply.is_some();
        return push(Change::Kind { is_request });
    }
    if old.parameters.is_empty() != new.parameters.is_empty() {
        let has_parameters = !new.parameters.is_empty();
        return push(Change::Form { has_parameters });
    }
    for after in &new.parameters {
        match old
            .parameters
            .iter()
            .find(|before| before.name == after.name)
        {
            Some(before) => {
                let what = format!("`{}`", after.name);
                ty(what, &before.ty, &after.ty, Reader::New, push);
            }
            None => push(Change::ParameterAdded {
                name: after.name.clone(),
                is_optional: is_optional(after),
            }),
        }
    }
    for before in &old.parameters {
        if !new.parameters.iter().any(|after| after.name == before.name) {
            push(Change::ParameterRemoved(before.name.clone()));
        }
    }
    if let (Some(before), Some(after)) = (&old.reply, &new.reply) {
        let what = "the reply".to_owned();
        ty(what, before, after, Reader::Old, push);
    }
}

fn is_optional(parameter: &Parameter) -> bool {
    parameter.ty.starts_with("Option<")
}

/// Who reads the value: the new code its parameters, callers of the old code its reply.
#[derive(Clone, Copy)]
enum Reader {
    Old,
    New,
}

fn ty(what: String, old: &str, new: &str, reader: Reader, push: &mut impl FnMut(Change)) {
    if old == new {
        return;
    }
    let (before, after) = (common(old, 0), common(new, 0));
    // A language without types has nothing to say of most values.
    if before == after || before == Type::Any || after == Type::Any {
        return;
    }
    let loss = match reader {
        Reader::New => worst(&before, &after),
        Reader::Old => worst(&after, &before),
    };
    push(Change::Type {
        what,
        new: new.to_owned(),
        old: old.to_owned(),
        loss,
    });
}

/// Returns a type of a message in the words of a state, whose types are those of MessagePack: every
/// language writes it in its own way. Only words that mean one thing in all languages are known; any
/// other stands for itself, and is compared with nothing.
fn common(text: &str, depth: usize) -> Type {
    let text = text.trim();
    // An array of Rust has its length after a semicolon.
    if depth > MAX_DEPTH || text.contains(';') {
        return Type::Other(text.to_owned());
    }
    let inside = |start: &str, end: &str| {
        let inner = text.strip_prefix(start)?.strip_suffix(end)?;
        Some(Box::new(common(inner, depth + 1)))
    };
    match text {
        "()" | "void" | "null" => return Type::Nil,
        "boolean" => return Type::Bool,
        "i8" | "i16" | "i32" | "i64" | "isize" | "u8" | "u16" | "u32" | "u64" | "usize" => {
            return Type::Int;
        }
        "int8" | "int16" | "int32" | "int64" | "uint" | "uint8" | "uint16" | "uint32"
        | "uint64" | "bigint" => return Type::Int,
        "f32" | "f64" | "float32" | "float64" | "number" => return Type::Float,
        "String" | "&str" | "str" | "string" => return Type::Text,
        "Bytes" | "binary" | "[]byte" | "[]uint8" => return Type::Bytes,
        "Pid" | "exuvia.Pid" => return Type::Pid,
        "rmpv::Value" | "msgpack.Raw" => return Type::Any,
        "list" => return Type::List(Box::new(Type::Any)),
        "map" => return Type::Map(Box::new(Type::Any), Box::new(Type::Any)),
        _ => {}
    }
    if let Some(of) = inside("Option<", ">") {
        return Type::Option(of);
    }
    let lists = [("Vec<", ">"), ("List<", ">"), ("[]", ""), ("[", "]")];
    if let Some(of) = lists.iter().find_map(|(start, end)| inside(start, end)) {
        return Type::List(of);
    }
    Type::parse(text).unwrap_or_else(|_| Type::Other(text.to_owned()))
}
