//! What `resource` and `attributes` do to attributes: actions in order, with the Collector's words.

use profpipe_pipeline::config::Problems;
use profpipe_pipeline::profile::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

/// Reports actions that make no sense; `field` is the list they are in.
pub(crate) fn check(field: &str, actions: &[Action], problems: &mut Problems) {
    for (at, action) in actions.iter().enumerate() {
        let at = format!("{field}::{at}");
        if action.key.is_empty() {
            problems.push(&at, "needs a `key`");
        }
        let sources =
            usize::from(action.value.is_some()) + usize::from(action.from_attribute.is_some());
        match (action.action, sources) {
            (Verb::Delete, 0) => {}
            (Verb::Delete, _) => problems.push(&at, "`delete` takes no value"),
            (_, 1) => {}
            (_, _) => problems.push(&at, "needs either `value` or `from_attribute`"),
        }
        if let Some(value) = &action.value
            && matches!(value, serde_json::Value::Null | serde_json::Value::Object(_))
        {
            problems.push(&at, "a `value` is a text, a number, a truth value or a list of these");
        }
    }
}

/// An action, ready to be done.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: String,
    verb: Verb,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Value(Value),
    Attribute(String),
    None,
}

/// Attributes, wherever they are kept.
pub(crate) trait Target {
    fn get(&self, key: &str) -> Option<Value>;
    fn set(&mut self, key: &str, value: Value);
    fn remove(&mut self, key: &str);
}

impl Change {
    pub(crate) fn of(action: Action) -> Self {
        let source = match (action.value, action.from_attribute) {
            (Some(value), _) => Source::Value(value_of(value)),
            (None, Some(from)) => Source::Attribute(from),
            (None, None) => Source::None,
        };
        Self { key: action.key, verb: action.action, source }
    }

    pub(crate) fn apply(&self, target: &mut impl Target) {
        let there = target.get(&self.key).is_some();
        match (self.verb, there) {
            (Verb::Delete, true) => return target.remove(&self.key),
            (Verb::Delete, false) | (Verb::Insert, true) | (Verb::Update, false) => return,
            (Verb::Insert | Verb::Update | Verb::Upsert, _) => {}
        }
        let value = match &self.source {
            Source::Value(value) => Some(value.clone()),
            Source::Attribute(from) => target.get(from),
            Source::None => None,
        };
        if let Some(value) = value {
            target.set(&self.key, value);
        }
    }
}

fn value_of(value: serde_json::Value) -> Value {
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
