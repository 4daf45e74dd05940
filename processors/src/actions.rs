//! What `resource` and `attributes` do to attributes: actions in order, with the Collector's words.

use profpipe_engine::config::Problems;
use profpipe_profile::Value;
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a compiled regular expression may take, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// One change of attributes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Action {
    /// The attribute.
    pub key: String,
    /// Its new value: a text, a number, a truth value or a list of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
    /// The attribute whose value it gets, in place of `value`; without that, nothing changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_attribute: Option<String>,
    /// A regular expression. For `extract`, what is looked for in the attribute: each of its named
    /// groups becomes the attribute of that name. For `delete` and `hash`, in place of `key`, the
    /// keys that it matches anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// For `convert`: what the value becomes, if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converted_type: Option<Converted>,
    /// What is done.
    pub action: Verb,
}

/// What is done to an attribute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Set it if it is not there.
    Insert,
    /// Set it if it is there.
    Update,
    /// Set it.
    #[default]
    Upsert,
    /// Take it away.
    Delete,
    /// Put the SHA-256 of its value, in hexadecimal, in its place.
    Hash,
    /// Set others to parts of it.
    Extract,
    /// Make its value one of another type.
    Convert,
}

/// What a value is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Converted {
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A text.
    String,
}

/// Reports actions that make no sense; `field` is the list they are in.
pub(crate) fn check(field: &str, actions: &[Action], problems: &mut Problems) {
    for (at, action) in actions.iter().enumerate() {
        let at = format!("{field}::{at}");
        let verb = action.action;
        let takes_keys = matches!(verb, Verb::Delete | Verb::Hash);
        match (action.key.is_empty(), &action.pattern) {
            (true, Some(_)) if takes_keys => {}
            (false, Some(_)) if takes_keys => problems.push(&at, "needs either `key` or `pattern`"),
            (true, _) => problems.push(&at, "needs a `key`"),
            (false, _) => {}
        }
        let sources =
            usize::from(action.value.is_some()) + usize::from(action.from_attribute.is_some());
        match (verb, sources) {
            (Verb::Insert | Verb::Update | Verb::Upsert, 1) => {}
            (Verb::Insert | Verb::Update | Verb::Upsert, _) => {
                problems.push(&at, "needs either `value` or `from_attribute`");
            }
            (_, 0) => {}
            (_, _) => problems.push(&at, format!("`{}` takes no value", word(verb))),
        }
        match (verb, action.pattern.as_deref().map(compile)) {
            (Verb::Extract, None) => problems.push(&at, "needs a `pattern`"),
            (Verb::Extract, Some(Ok(regex)))
                if regex.capture_names().flatten().next().is_none() =>
            {
                let message = "has no named group, such as `(?P<name>.*)`";
                problems.push(&format!("{at}::pattern"), message);
            }
            (Verb::Extract | Verb::Delete | Verb::Hash, Some(Err(message))) => {
                problems.push(&format!("{at}::pattern"), message);
            }
            (Verb::Extract | Verb::Delete | Verb::Hash, _) | (_, None) => {}
            (_, Some(_)) => problems.push(&at, format!("`{}` takes no pattern", word(verb))),
        }
        match (verb, action.converted_type) {
            (Verb::Convert, None) => {
                problems.push(&at, "needs a `converted_type`: int, double or string");
            }
            (Verb::Convert, Some(_)) | (_, None) => {}
            (_, Some(_)) => problems.push(&at, "`converted_type` is for `convert` only"),
        }
        if let Some(value) = &action.value
            && matches!(value, serde_json::Value::Null | serde_json::Value::Object(_))
        {
            problems.push(&at, "a `value` is a text, a number, a truth value or a list of these");
        }
    }
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Insert => "insert",
        Verb::Update => "update",
        Verb::Upsert => "upsert",
        Verb::Delete => "delete",
        Verb::Hash => "hash",
        Verb::Extract => "extract",
        Verb::Convert => "convert",
    }
}

/// A regular expression of bounded size.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("this regular expression takes more than {limit} bytes")
        }
        other => {
            // The message draws a picture over several lines, of which the last says it.
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            let reason = last.trim_start_matches("error: ");
            format!("this is not a regular expression: {reason}")
        }
    })
}

/// An action, ready to be done.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    keys: Keys,
    deed: Operation,
}

#[derive(Debug, Clone)]
enum Keys {
    One(String),
    Matching(Regex),
}

#[derive(Debug, Clone)]
enum Operation {
    Set(Verb, Source),
    Delete,
    Hash,
    Extract(Regex),
    Convert(Converted),
    Nothing,
}

#[derive(Debug, Clone)]
enum Source {
    Value(Value),
    Attribute(String),
}

/// Attributes, wherever they are kept.
pub(crate) trait Target {
    fn get(&self, key: &str) -> Option<Value>;
    fn set(&mut self, key: &str, value: Value);
    fn remove(&mut self, key: &str);
    fn keys(&self) -> Vec<String>;
}

impl Change {
    /// What was checked, made ready.
    pub(crate) fn of(action: Action) -> Self {
        let pattern = action.pattern.as_deref().and_then(|pattern| compile(pattern).ok());
        let source = match (action.value, action.from_attribute) {
            (Some(value), _) => Some(Source::Value(value_of(value))),
            (None, from) => from.map(Source::Attribute),
        };
        let deed = match (action.action, source) {
            (Verb::Delete, _) => Operation::Delete,
            (Verb::Hash, _) => Operation::Hash,
            (Verb::Extract, _) => pattern.clone().map_or(Operation::Nothing, Operation::Extract),
            (Verb::Convert, _) => {
                action.converted_type.map_or(Operation::Nothing, Operation::Convert)
            }
            (verb, Some(source)) => Operation::Set(verb, source),
            (_, None) => Operation::Nothing,
        };
        let keys = match pattern {
            Some(pattern) if action.key.is_empty() => Keys::Matching(pattern),
            _ => Keys::One(action.key),
        };
        Self { keys, deed }
    }

    pub(crate) fn apply(&self, target: &mut impl Target) {
        match &self.keys {
            Keys::One(key) => self.apply_to(key, target),
            Keys::Matching(pattern) => {
                for key in target.keys().iter().filter(|key| pattern.is_match(key)) {
                    self.apply_to(key, target);
                }
            }
        }
    }

    fn apply_to(&self, key: &str, target: &mut impl Target) {
        let known = target.get(key);
        match (&self.deed, known) {
            (Operation::Set(Verb::Insert, _), Some(_))
            | (Operation::Set(Verb::Update, _), None) => {}
            (Operation::Set(_, source), _) => {
                let value = match source {
                    Source::Value(value) => Some(value.clone()),
                    Source::Attribute(from) => target.get(from),
                };
                if let Some(value) = value {
                    target.set(key, value);
                }
            }
            (Operation::Delete, Some(_)) => target.remove(key),
            (Operation::Hash, Some(value)) => {
                if let Some(hashed) = hashed(&value) {
                    target.set(key, Value::String(hashed));
                }
            }
            (Operation::Extract(pattern), Some(Value::String(text))) => {
                let Some(groups) = pattern.captures(&text) else { return };
                for name in pattern.capture_names().flatten() {
                    if let Some(part) = groups.name(name) {
                        target.set(name, Value::from(part.as_str()));
                    }
                }
            }
            (Operation::Convert(to), Some(value)) => {
                if let Some(converted) = converted(&value, *to) {
                    target.set(key, converted);
                }
            }
            (
                Operation::Delete
                | Operation::Hash
                | Operation::Extract(_)
                | Operation::Convert(_)
                | Operation::Nothing,
                _,
            ) => {}
        }
    }
}

/// The hash of a value as the Collector makes it: of a text's bytes, of a number's as a word.
fn hashed(value: &Value) -> Option<String> {
    let digest = match value {
        Value::String(text) => Sha256::digest(text.as_bytes()),
        Value::Bool(truth) => Sha256::digest([u8::from(*truth)]),
        Value::Int(number) => Sha256::digest(number.to_le_bytes()),
        Value::Double(number) => Sha256::digest(number.to_bits().to_le_bytes()),
        Value::Bytes(bytes) => Sha256::digest(bytes),
        Value::Empty | Value::Array(_) | Value::Map(_) => return None,
    };
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The value as one of another type, if it can be.
fn converted(value: &Value, to: Converted) -> Option<Value> {
    match (to, value) {
        (Converted::Int, Value::String(text)) => text.trim().parse().ok().map(Value::Int),
        (Converted::Int, Value::Double(number)) => Some(Value::Int(*number as i64)),
        (Converted::Int, Value::Bool(truth)) => Some(Value::Int(i64::from(*truth))),
        (Converted::Double, Value::String(text)) => text.trim().parse().ok().map(Value::Double),
        (Converted::Double, Value::Int(number)) => Some(Value::Double(*number as f64)),
        (Converted::Double, Value::Bool(truth)) => Some(Value::Double(f64::from(u8::from(*truth)))),
        (Converted::String, Value::Int(number)) => Some(Value::String(number.to_string())),
        (Converted::String, Value::Double(number)) => Some(Value::String(number.to_string())),
        (Converted::String, Value::Bool(truth)) => Some(Value::String(truth.to_string())),
        _ => None,
    }
}

pub(crate) fn value_of(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null | serde_json::Value::Object(_) => Value::Empty,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Double(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::Array(items.into_iter().map(value_of).collect()),
    }
}
