//! pprof labels from and to attribute values.
//!
//! A label is a key with either a text or a number; the number may have a unit. A key may come
//! several times, which attributes may not: such labels become one array.

use std::borrow::Cow;

use profpipe_profile::Value;

/// Names of the parts of a number whose unit differs from that of its attribute.
const NUMBER: &str = "num";
const UNIT: &str = "unit";

/// The labels of a link to a trace span, as hex.
pub(super) const TRACE_ID: &str = "trace_id";
pub(super) const SPAN_ID: &str = "span_id";

/// An id in small hex digits, unless it is zero.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let digit = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut id = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    (id != [0; N]).then_some(id)
}

/// The content of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label<'a> {
    Text(Cow<'a, str>),
    Number(i64, Cow<'a, str>),
}

/// The value and the unit of the attribute that stands for all labels of one key.
pub(super) fn to_value(labels: &[Label<'_>]) -> (Value, String) {
    let unit = labels.iter().find_map(|label| match label {
        Label::Number(_, unit) => Some(unit.as_ref()),
        Label::Text(_) => None,
    });
    let unit = unit.unwrap_or_default();
    let one = |label: &Label<'_>| match label {
        Label::Text(text) => Value::String(text.to_string()),
        Label::Number(number, own) if own == unit => Value::Int(*number),
        Label::Number(number, own) => Value::Map(vec![
            (NUMBER.to_owned(), Value::Int(*number)),
            (UNIT.to_owned(), Value::String(own.to_string())),
        ]),
    };
    let value = match labels {
        [label] => one(label),
        labels => Value::Array(labels.iter().map(one).collect()),
    };
    (value, unit.to_owned())
}

/// The labels that stand for an attribute: one, or one for each item of an array.
pub(super) fn from_value<'a>(value: &'a Value, unit: &'a str) -> Vec<Label<'a>> {
    match value {
        Value::Empty => Vec::new(),
        Value::Array(items) => items.iter().filter_map(|item| from_scalar(item, unit)).collect(),
        value => from_scalar(value, unit).into_iter().collect(),
    }
}

fn from_scalar<'a>(value: &'a Value, unit: &'a str) -> Option<Label<'a>> {
    Some(match value {
        Value::Empty => return None,
        Value::String(text) => Label::Text(text.into()),
        Value::Int(number) => Label::Number(*number, unit.into()),
        Value::Map(pairs) => match pairs.as_slice() {
            [(number, Value::Int(value)), (key, Value::String(own))]
                if number == NUMBER && key == UNIT =>
            {
                Label::Number(*value, own.into())
            }
            _ => Label::Text(plain_text(value).into()),
        },
        value => Label::Text(plain_text(value).into()),
    })
}

/// A value as text, for values that pprof has no form for.
fn plain_text(value: &Value) -> String {
    match value {
        Value::Empty => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain_text).collect::<Vec<_>>().join(","))
        }
        Value::Map(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{key}={}", plain_text(value))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}
