//! The functions of OTTL that are understood.

use super::Datum;
use super::evaluate::Fault;

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    HasPrefix,
    HasSuffix,
    ToLowerCase,
    ToUpperCase,
    Len,
    IsString,
    IsInt,
    IsDouble,
    IsBool,
}

/// What every function is called, what it takes, and whether it answers yes or no.
const FUNCTIONS: &[(&str, Function, usize, bool)] = &[
    ("HasPrefix", Function::HasPrefix, 2, true),
    ("HasSuffix", Function::HasSuffix, 2, true),
    ("ToLowerCase", Function::ToLowerCase, 1, false),
    ("ToUpperCase", Function::ToUpperCase, 1, false),
    ("Len", Function::Len, 1, false),
    ("IsString", Function::IsString, 1, true),
    ("IsInt", Function::IsInt, 1, true),
    ("IsDouble", Function::IsDouble, 1, true),
    ("IsBool", Function::IsBool, 1, true),
];

/// The names of all functions, for a message.
pub(super) const ACCEPTED: &str = "IsMatch, HasPrefix, HasSuffix, ToLowerCase, ToUpperCase, Len, \
                                   IsString, IsInt, IsDouble, IsBool";

impl Function {
    /// The function of this name, how many values it takes, and whether it answers yes or no.
    pub(super) fn named(name: &str) -> Option<(Self, usize, bool)> {
        let found = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
        Some((found.1, found.2, found.3))
    }

    /// Applies it to the values, of which there are as many as it takes.
    pub(super) fn apply<'a>(self, values: &[Datum<'a>]) -> Result<Datum<'a>, Fault> {
        let first = values.first().unwrap_or(&Datum::Nil);
        let second = values.get(1).unwrap_or(&Datum::Nil);
        Ok(match self {
            Self::HasPrefix => Datum::Bool(text(first)?.starts_with(text(second)?)),
            Self::HasSuffix => Datum::Bool(text(first)?.ends_with(text(second)?)),
            Self::ToLowerCase => Datum::Text(text(first)?.to_lowercase().into()),
            Self::ToUpperCase => Datum::Text(text(first)?.to_uppercase().into()),
            Self::Len => Datum::Int(match first {
                Datum::Text(text) => text.len(),
                Datum::Bytes(bytes) => bytes.len(),
                Datum::Array(items) => items.len(),
                Datum::Map(pairs) => pairs.len(),
                other => return Err(Fault::new(format!("{} has no length", other.kind()))),
            } as i64),
            Self::IsString => Datum::Bool(matches!(first, Datum::Text(_))),
            Self::IsInt => Datum::Bool(matches!(first, Datum::Int(_))),
            Self::IsDouble => Datum::Bool(matches!(first, Datum::Double(_))),
            Self::IsBool => Datum::Bool(matches!(first, Datum::Bool(_))),
        })
    }
}

fn text<'v>(value: &'v Datum<'_>) -> Result<&'v str, Fault> {
    match value {
        Datum::Text(text) => Ok(text),
        other => Err(Fault::new(format!("expected a text, found {}", other.kind()))),
    }
}
