//! What two modules say of a swap from one to the other.
//!
//! `types` compares the types of two states, `messages` what both understand. Every result has a
//! sentence: its `Display`, cause first, then what to do.

mod messages;
mod types;

use std::fmt;

use serde::{Serialize, Serializer};

pub use messages::MessageChange;
pub use types::{FieldChange, Loss};

use self::types::Reading;
use crate::protocol::Function;
use crate::state::StateContract;

/// What is known of a module without a process.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its `exuvia_schema`.
    pub schema: i32,
    /// Whether it exports `save`.
    pub has_save: bool,
    /// Whether it exports `load`.
    pub has_load: bool,
    /// Its section `exuvia.state`; `None`: it has none. The error is what is wrong with it.
    pub state: Result<Option<StateContract>, String>,
    /// Its section `exuvia.protocol`. The error is what is wrong with it.
    pub functions: Result<Vec<Function>, String>,
}

/// What a swap from one module to another would do, as far as the two tell.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What happens to the state.
    pub state: Way,
    /// Why its memory is not taken over as it is; `None`: it is.
    pub not_reused: Option<String>,
    /// How the fields of the state differ.
    pub fields: Vec<FieldChange>,
    /// What would happen to the state of the new code in a rollback.
    pub rollback: Rollback,
    /// How the messages differ; `None`: one of the two does not describe any.
    pub messages: Option<Vec<MessageChange>>,
    /// What is wrong with sections that cannot be read.
    pub unreadable: Vec<String>,
}

impl Comparison {
    /// Returns whether nothing is known that would refuse the swap.
    pub fn is_accepted(&self) -> bool {
        !matches!(self.state, Way::Refused { .. })
    }
}

/// What happens to the state of a process in a swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Way {
    /// The memory is taken over as it is.
    Reused,
    /// By `save` and `load`.
    Migrated {
        /// The schema that was saved.
        from: i32,
        /// The schema of the new code.
        to: i32,
        /// Whether the fields are read by their names; otherwise `load` says that it converts them.
        by_name: bool,
    },
    /// By `save` and `load`, if `load` takes it: the modules do not tell.
    Undecided {
        /// The schema that was saved.
        from: i32,
        /// The schema of the new code.
        to: i32,
        /// Why they do not tell.
        why: String,
    },
    /// It is refused before any process is looked at.
    Refused {
        /// All reasons.
        reasons: Vec<Refusal>,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Reused => f.write_str("reused: the memory is taken over as it is"),
            Way::Migrated { from, to, .. } if from == to => write!(
                f,
                "migrated by `save` and `load`: schema {from} in both, and its fields fit"
            ),
            Way::Migrated { from, to, by_name } => match by_name {
                true => write!(
                    f,
                    "migrated by `save` and `load`: schema {from} is read as {to} by the names of its fields, and they fit"
                ),
                false => write!(
                    f,
                    "migrated by `save` and `load`, which converts schema {from} to {to}"
                ),
            },
            Way::Undecided { from, to, why } if from == to => write!(
                f,
                "migrated by `save` and `load` if the fields fit (schema {from} in both), which is not known: {why}"
            ),
            Way::Undecided { from, to, why } => write!(
                f,
                "migrated by `save` and `load` if `load` of schema {to} takes schema {from}, which is not known: {why}"
            ),
            Way::Refused { reasons } => {
                f.write_str("refused: ")?;
                for (index, reason) in reasons.iter().enumerate() {
                    let between = if index == 0 { "" } else { "; " };
                    write!(f, "{between}{reason}")?;
                }
                Ok(())
            }
        }
    }
}

/// What would happen to the state of the new code in a rollback to the old code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Rollback {
    /// The memory is taken over as it is.
    Reused,
    /// The old code loads what the new code has saved.
    Migrated,
    /// The modules do not tell.
    Undecided,
    /// The old code does not take it.
    Refused {
        /// Why not.
        why: String,
    },
}

impl From<Way> for Rollback {
    /// Makes it of the way from the new code to the old one.
    fn from(way: Way) -> Rollback {
        let reasons = match way {
            Way::Reused => return Rollback::Reused,
            Way::Migrated { .. } => return Rollback::Migrated,
            Way::Undecided { .. } => return Rollback::Undecided,
            Way::Refused { reasons } => reasons,
        };
        let mut fields = Vec::new();
        let mut why = Vec::new();
        for reason in reasons {
            match reason {
                Refusal::NoSave => why.push("the new code exports no `save`".to_owned()),
                Refusal::NoLoad => why.push("the old code exports no `load`".to_owned()),
                Refusal::Schema { from, .. } => {
                    why.push(format!("the old code does not take schema {from}"));
                }
                Refusal::Field(change) => fields.push(change.what()),
            }
        }
        if !fields.is_empty() {
            why.push(format!(
                "the old code would not find or could not read {}",
                fields.join(", ")
            ));
        }
        let why = why.join("; ");
        Rollback::Refused { why }
    }
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rollback::Reused => f.write_str("reused"),
            Rollback::Migrated => f.write_str("migrated by `save` and `load`"),
            Rollback::Undecided => {
                f.write_str("the modules do not tell whether the old code takes the state back")
            }
            Rollback::Refused { why } => write!(
                f,
                "refused: {why}; a process that has moved to the new code would stay on it"
            ),
        }
    }
}

/// Why no state can go from one module to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The old code exports no `save`.
    NoSave,
    /// The new code exports no `load`.
    NoLoad,
    /// `load` does not take the schema.
    Schema {
        /// The schema that was saved.
        from: i32,
        /// What `load` takes.
        taken: String,
    },
    /// A field does not fit.
    Field(FieldChange),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSave => f.write_str(
                "the old code exports no `save`: nothing can save its state; let the new code have the same layout, or deploy it with `--fresh`",
            ),
            Refusal::NoLoad => f.write_str("the new code exports no `load`: write one, or deploy it with `--fresh`"),
            Refusal::Schema { from, taken } => write!(
                f,
                "`load` takes {taken}, and the state has schema {from}: convert schema {from} in `load`, and say that it takes it (`loads`)"
            ),
            Refusal::Field(change) => change.fmt(f),
        }
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Compares the running code with the code that would follow it. `reused` is whether the memory of
/// the old one means the same to the new one, or why not.
pub fn compare(old: &Code, new: &Code, reused: Result<(), String>) -> Comparison {
    let mut unreadable = Vec::new();
    for (which, code) in [("old", old), ("new", new)] {
        let mut cannot = |section: &str, why: &str| {
            unreadable.push(format!(
                "the section `{section}` of the {which} code cannot be read: {why}"
            ));
        };
        if let Err(why) = &code.state {
            cannot(exuvia_abi::exports::STATE_SECTION, why);
        }
        if let Err(why) = &code.functions {
            cannot(exuvia_abi::exports::PROTOCOL_SECTION, why);
        }
    }
    let not_reused = reused.err();
    let reuses = not_reused.is_none();
    let fields = fields(old, new);
    Comparison {
        state: way(old, new, reuses, &fields),
        fields,
        rollback: way(new, old, reuses, &self::fields(new, old)).into(),
        messages: messages::changes(&old.functions, &new.functions),
        not_reused,
        unreadable,
    }
}

/// Returns how the fields of the states differ; nothing if one of the two is not known.
fn fields(old: &Code, new: &Code) -> Vec<FieldChange> {
    let (Ok(Some(before)), Ok(Some(after))) = (&old.state, &new.state) else {
        return Vec::new();
    };
    let reading = match before.schema == after.schema {
        true => Reading::SameSchema,
        false if after.reads_by_name(before.schema) => Reading::ByName,
        false => Reading::Converted,
    };
    types::changes(&before.ty, &after.ty, reading)
}

/// Returns what happens to the state of `old` in `new`, if its fields differ in this.
fn way(old: &Code, new: &Code, reuses: bool, fields: &[FieldChange]) -> Way {
    if reuses {
        return Way::Reused;
    }
    let mut reasons = Vec::new();
    if !old.has_save {
        reasons.push(Refusal::NoSave);
    }
    if !new.has_load {
        reasons.push(Refusal::NoLoad);
    }
    if !reasons.is_empty() {
        return Way::Refused { reasons };
    }
    let (from, to) = (old.schema, new.schema);
    let undecided = |why: &str| Way::Undecided {
        from,
        to,
        why: why.to_owned(),
    };
    let Ok(Some(after)) = &new.state else {
        return undecided("the new code does not describe its state (`exuvia.state`)");
    };
    match after.takes(from) {
        Some(true) => {}
        Some(false) => {
            let taken = after.taken();
            let reasons = vec![Refusal::Schema { from, taken }];
            return Way::Refused { reasons };
        }
        None => return undecided("its `load` decides when it runs"),
    }
    let by_name = after.reads_by_name(from);
    if by_name {
        if !matches!(old.state, Ok(Some(_))) {
            return undecided("the old code does not describe its state (`exuvia.state`)");
        }
        let costing = |loss| fields.iter().filter(move |change| change.loss == loss);
        let reasons: Vec<_> = (costing(Loss::Refused).cloned())
            .map(Refusal::Field)
            .collect();
        if !reasons.is_empty() {
            return Way::Refused { reasons };
        }
        if let Some(change) = costing(Loss::Unknown).next() {
            return undecided(&format!(
                "the modules do not tell whether {} can be read",
                change.what()
            ));
        }
    }
    Way::Migrated { from, to, by_name }
}

#[cfg(test)]
mod tests;
