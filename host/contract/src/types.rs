//! The types of a saved state, and whether one can be read as another.
//!
//! They say what is in the MessagePack, not what a language makes of it, so that the same state has
//! the same type in all languages: there is one `int`, since every width can be read.

use std::fmt;

/// How deep types may be nested.
pub const MAX_DEPTH: usize = 32;

/// A type of MessagePack. `guest-sdk/abi.md`, section 2, has how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Nothing.
    Nil,
    /// True or false.
    Bool,
    /// An integer of any width.
    Int,
    /// A number that need not be whole.
    Float,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// A process.
    Pid,
    /// Any value.
    Any,
    /// A value or nil; as a field, it may be missing too.
    Option(Box<Type>),
    /// Any number of values of one type.
    List(Box<Type>),
    /// A map from any keys of one type to values of one type.
    Map(Box<Type>, Box<Type>),
    /// An array of these values.
    Tuple(Vec<Type>),
    /// One of several.
    Enum(Vec<Variant>),
    /// A map with these keys.
    Record(Vec<Field>),
    /// A type of which only the name is known.
    Other(String),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name under which it is saved.
    pub name: String,
    /// Other names under which `load` finds it.
    pub aliases: Vec<String>,
    /// Its type.
    pub ty: Type,
    /// Whether `load` takes a state without it.
    pub default: bool,
}

impl Field {
    /// Returns whether `load` takes a state without it.
    pub fn may_be_missing(&self) -> bool {
        self.default || matches!(self.ty, Type::Option(_))
    }

    /// Returns whether it may be nil.
    pub fn takes_nil(&self) -> bool {
        matches!(self.ty, Type::Option(_) | Type::Nil | Type::Any)
    }

    /// Returns whether `load` finds it under this name.
    pub fn is_found_as(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// One of the values of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Other names under which `load` finds it.
    pub aliases: Vec<String>,
    /// What it contains; `None`: it is its name alone.
    pub content: Option<Type>,
}

impl Variant {
    /// Returns whether `load` finds it under this name.
    pub fn is_found_as(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }
}

impl Type {
    /// Reads a type.
    ///
    /// # Errors
    ///
    /// Returns what is wrong, and where.
    pub fn parse(text: &str) -> Result<Type, String> {
        let mut parser = Parser { text, at: 0 };
        let ty = parser.ty(0)?;
        match parser.rest().trim_start() {
            "" => Ok(ty),
            _ => Err(parser.expected("the end")),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Nil => f.write_str("nil"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Float => f.write_str("float"),
            Type::Text => f.write_str("text"),
            Type::Bytes => f.write_str("bytes"),
            Type::Pid => f.write_str("pid"),
            Type::Any => f.write_str("any"),
            Type::Option(of) => write!(f, "Option<{of}>"),
            Type::List(of) => write!(f, "List<{of}>"),
            Type::Map(key, value) => write!(f, "Map<{key}, {value}>"),
            Type::Tuple(types) => {
                f.write_str("Tuple<")?;
                separated(f, types, |f, ty| write!(f, "{ty}"))?;
                f.write_str(">")
            }
            Type::Enum(variants) => {
                f.write_str("Enum<")?;
                separated(f, variants, |f, variant| {
                    names(f, &variant.name, &variant.aliases)?;
                    match &variant.content {
                        None => Ok(()),
                        Some(content) => write!(f, ": {content}"),
                    }
                })?;
                f.write_str(">")
            }
            Type::Record(fields) => {
                f.write_str("{")?;
                separated(f, fields, |f, field| {
                    names(f, &field.name, &field.aliases)?;
                    let missing = if field.default { "?" } else { "" };
                    write!(f, "{missing}: {}", field.ty)
                })?;
                f.write_str("}")
            }
            Type::Other(name) => write!(f, "'{name}'"),
        }
    }
}

fn names(f: &mut fmt::Formatter<'_>, name: &str, aliases: &[String]) -> fmt::Result {
    f.write_str(name)?;
    aliases.iter().try_for_each(|alias| write!(f, "|{alias}"))
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    parts: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(f, part)?;
    }
    Ok(())
}

/// Reads the text of a type from left to right.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> String {
        let found = match self.rest().trim_start().chars().next() {
            Some(c) => format!("`{}`", c.escape_debug()),
            None => "the end".to_owned(),
        };
        format!(
            "expected {what} at byte {} of the type, found {found}",
            self.at
        )
    }

    /// Takes a sign if it is next.
    fn takes(&mut self, sign: char) -> bool {
        let rest = self.rest().trim_start();
        match rest.strip_prefix(sign) {
            Some(after) => {
                self.at = self.text.len() - after.len();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        match self.takes(sign) {
            true => Ok(()),
            false => Err(self.expected(&format!("`{sign}`"))),
        }
    }

    /// Takes a name: all up to a sign that has a meaning.
    fn name(&mut self) -> Result<&'a str, String> {
        let rest = self.rest().trim_start();
        let end = rest.find(is_sign).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        self.at = self.text.len() - rest.len() + end;
        Ok(name)
    }

    fn ty(&mut self, depth: usize) -> Result<Type, String> {
        if depth > MAX_DEPTH {
            return Err(format!("types are nested deeper than {MAX_DEPTH}"));
        }
        let inner = depth + 1;
        if self.takes('{') {
            return self
                .until('}', |parser| parser.field(inner))
                .map(Type::Record);
        }
        if self.takes('\'') {
            let (name, after) = (self.rest().split_once('\'')).ok_or("a `'` is not closed")?;
            self.at = self.text.len() - after.len();
            return Ok(Type::Other(name.to_owned()));
        }
        Ok(match self.name()? {
            "nil" => Type::Nil,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "float" => Type::Float,
            "text" => Type::Text,
            "bytes" => Type::Bytes,
            "pid" => Type::Pid,
            "any" => Type::Any,
            "Option" => Type::Option(self.one(inner)?),
            "List" => Type::List(self.one(inner)?),
            "Map" => {
                self.expect('<')?;
                let key = self.ty(inner)?;
                self.expect(',')?;
                let value = self.ty(inner)?;
                self.expect('>')?;
                Type::Map(Box::new(key), Box::new(value))
            }
            "Tuple" => {
                self.expect('<')?;
                Type::Tuple(self.until('>', |parser| parser.ty(inner))?)
            }
            "Enum" => {
                self.expect('<')?;
                Type::Enum(self.until('>', |parser| parser.variant(inner))?)
            }
            other => {
                return Err(format!(
                    "there is no type `{other}`; a type of the language's own is written in quotes, as in `'{other}'`"
                ));
            }
        })
    }

    fn one(&mut self, depth: usize) -> Result<Box<Type>, String> {
        self.expect('<')?;
        let ty = self.ty(depth)?;
        self.expect('>')?;
        Ok(Box::new(ty))
    }

    /// Takes parts with a comma between them, up to a sign.
    fn until<T>(
        &mut self,
        end: char,
        part: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut parts = Vec::new();
        while !self.takes(end) {
            if !parts.is_empty() {
                self.expect(',')?;
            }
            parts.push(part(self)?);
        }
        Ok(parts)
    }

    /// Takes a name, and its aliases.
    fn names(&mut self) -> Result<(String, Vec<String>), String> {
        let name = self.name()?.to_owned();
        let mut aliases = Vec::new();
        while self.takes('|') {
            aliases.push(self.name()?.to_owned());
        }
        Ok((name, aliases))
    }

    fn field(&mut self, depth: usize) -> Result<Field, String> {
        let (name, aliases) = self.names()?;
        let default = self.takes('?');
        self.expect(':')?;
        let ty = self.ty(depth)?;
        Ok(Field {
            name,
            aliases,
            ty,
            default,
        })
    }

    fn variant(&mut self, depth: usize) -> Result<Variant, String> {
        let (name, aliases) = self.names()?;
        let content = match self.takes(':') {
            true => Some(self.ty(depth)?),
            false => None,
        };
        Ok(Variant {
            name,
            aliases,
            content,
        })
    }
}

fn is_sign(c: char) -> bool {
    matches!(c, '<' | '>' | ',' | ':' | '{' | '}' | '?' | '|' | '\'')
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, Type};

    #[test]
    fn a_type_is_written_as_it_is_read() {
        for text in [
            "int",
            "Option<List<text>>",
            "Map<text, Tuple<int, float>>",
            "Enum<Idle|Still, Busy: int, Moved: {x: int, y|z?: nil}>",
            "{pid: pid, reference: int}",
            "{}",
            "Tuple<>",
            "'chrono::DateTime<Utc>'",
        ] {
            assert_eq!(Type::parse(text).unwrap().to_string(), text);
        }
        let spaced = Type::parse(" Map < text,bytes > ").unwrap();
        assert_eq!(spaced.to_string(), "Map<text, bytes>");
    }

    #[test]
    fn an_error_says_what_and_where() {
        for (text, part) in [
            ("", "expected a name at byte 0 of the type, found the end"),
            ("i64", "there is no type `i64`"),
            ("List", "expected `<` at byte 4"),
            ("List<int", "expected `>`"),
            ("Map<int>", "expected `,`"),
            ("int int", "there is no type `int int`"),
            ("int>", "expected the end at byte 3 of the type, found `>`"),
            ("{a int}", "expected `:`"),
            ("{a: int b: int}", "there is no type `int b`"),
            ("'a", "not closed"),
            ("Enum<>x", "expected the end"),
        ] {
            let error = Type::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}int{}", "List<".repeat(depth), ">".repeat(depth));
        assert!(Type::parse(&nested(MAX_DEPTH)).is_ok());
        let error = Type::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(error.contains("nested deeper"), "{error}");
        assert!(Type::parse(&"{a:".repeat(20_000)).is_err());
    }
}
