//! What a path or a function comes to, and how such values compare.

use std::borrow::Cow;
use std::cmp::Ordering;

use profpipe_profile::Value;

use super::{Literal, Operator};

/// A value while a condition is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum<'a> {
    /// What is not there.
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Array(&'a [Value]),
    Map(&'a [(String, Value)]),
}

impl<'a> Datum<'a> {
    pub(crate) fn of(value: &'a Value) -> Self {
        match value {
            Value::Empty => Self::Nil,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(number) => Self::Int(*number),
            Value::Double(number) => Self::Double(*number),
            Value::String(text) => Self::Text(text.into()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Array(items) => Self::Array(items),
            Value::Map(pairs) => Self::Map(pairs),
        }
    }

    pub(crate) fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// A text, or nothing if it is empty: names in tables are empty where there are none.
    pub(crate) fn name(text: &'a str) -> Self {
        if text.is_empty() { Self::Nil } else { Self::text(text) }
    }

    pub(super) fn literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Nil => Self::Nil,
            Literal::Bool(truth) => Self::Bool(*truth),
            Literal::Int(number) => Self::Int(*number),
            Literal::Double(number) => Self::Double(*number),
            Literal::Text(text) => Self::text(text),
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Double(_) => "a number",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// As text, for functions that take anything like one; nothing for what is not there.
    pub(super) fn to_text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Nil => return None,
            Self::Bool(truth) => truth.to_string().into(),
            Self::Int(number) => number.to_string().into(),
            Self::Double(number) => number.to_string().into(),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Bytes(bytes) => hex(bytes).into(),
            Self::Array(items) => {
                serde_json::Value::Array(items.iter().map(json).collect()).to_string().into()
            }
            Self::Map(pairs) => map(pairs).to_string().into(),
        })
    }
}

/// Whether two values compare so.
pub(super) fn compare(left: &Datum<'_>, operator: Operator, right: &Datum<'_>) -> bool {
    let order = order(left, right);
    match operator {
        Operator::Equal => order == Some(Ordering::Equal),
        Operator::Unequal => order != Some(Ordering::Equal),
        Operator::Less => is_ordered(left) && order == Some(Ordering::Less),
        Operator::AtMost => is_ordered(left) && order.is_some_and(Ordering::is_le),
        Operator::Greater => is_ordered(left) && order == Some(Ordering::Greater),
        Operator::AtLeast => is_ordered(left) && order.is_some_and(Ordering::is_ge),
    }
}

/// Equality is all that there is for nil, lists and maps.
fn is_ordered(value: &Datum<'_>) -> bool {
    !matches!(value, Datum::Nil | Datum::Array(_) | Datum::Map(_))
}

/// How values of comparable types are ordered.
fn order(left: &Datum<'_>, right: &Datum<'_>) -> Option<Ordering> {
    match (left, right) {
        (Datum::Nil, Datum::Nil) => Some(Ordering::Equal),
        (Datum::Bool(left), Datum::Bool(right)) => Some(left.cmp(right)),
        (Datum::Int(left), Datum::Int(right)) => Some(left.cmp(right)),
        (Datum::Int(left), Datum::Double(right)) => (*left as f64).partial_cmp(right),
        (Datum::Double(left), Datum::Int(right)) => left.partial_cmp(&(*right as f64)),
        (Datum::Double(left), Datum::Double(right)) => left.partial_cmp(right),
        (Datum::Text(left), Datum::Text(right)) => Some(left.cmp(right)),
        (Datum::Bytes(left), Datum::Bytes(right)) => Some(left.cmp(right)),
        (Datum::Array(left), Datum::Array(right)) => (left == right).then_some(Ordering::Equal),
        (Datum::Map(left), Datum::Map(right)) => (left == right).then_some(Ordering::Equal),
        _ => None,
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Empty => serde_json::Value::Null,
        Value::String(text) => text.clone().into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Bytes(bytes) => hex(bytes).into(),
        Value::Array(items) => serde_json::Value::Array(items.iter().map(json).collect()),
        Value::Map(pairs) => map(pairs),
    }
}

fn map(pairs: &[(String, Value)]) -> serde_json::Value {
    serde_json::Value::Object(pairs.iter().map(|(key, value)| (key.clone(), json(value))).collect())
}
