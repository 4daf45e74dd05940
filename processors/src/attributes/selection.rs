//! Which samples `include` and `exclude` are about.

use profpipe_engine::config::Problems;
use profpipe_profile::{AttributeIx, Dictionary, Resource, Scope, Value};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::actions::{compile, value_of};

/// What samples must have. Of `services` and `libraries` one is enough, of the others all are needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// How texts are compared.
    pub match_type: MatchType,
    /// The `service.name` of the resource: one of these.
    pub services: Vec<String>,
    /// Attributes of the resource: all of these.
    pub resources: Vec<Pair>,
    /// The instrumentation scope: one of these.
    pub libraries: Vec<Library>,
    /// Attributes of the sample: all of these.
    pub attributes: Vec<Pair>,
}

/// How texts are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchType {
    /// They are equal.
    #[default]
    Strict,
    /// A regular expression matches anywhere.
    Regexp,
}

/// An attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pair {
    /// Its key.
    pub key: String,
    /// Its value; any unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

/// An instrumentation scope.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Library {
    /// Its name.
    pub name: String,
    /// Its version; any unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Selection {
    pub(super) fn check(&self, at: &str, problems: &mut Problems) {
        let lengths = [
            self.services.len(),
            self.resources.len(),
            self.libraries.len(),
            self.attributes.len(),
        ];
        if lengths.iter().all(|length| *length == 0) {
            let message = "needs `services`, `resources`, `libraries` or `attributes`";
            problems.push(at, message);
        }
        for (list, pairs) in [("resources", &self.resources), ("attributes", &self.attributes)] {
            for (number, pair) in pairs.iter().enumerate() {
                let at = format!("{at}::{list}::{number}");
                if pair.key.is_empty() {
                    problems.push(&at, "needs a `key`");
                }
                match (self.match_type, &pair.value) {
                    (MatchType::Regexp, Some(serde_json::Value::String(text))) => {
                        if let Err(message) = compile(text) {
                            problems.push(&format!("{at}::value"), message);
                        }
                    }
                    (MatchType::Regexp, Some(_)) => {
                        problems.push(&format!("{at}::value"), "must be a regular expression");
                    }
                    _ => {}
                }
            }
        }
        if self.match_type == MatchType::Regexp {
            let libraries = self.libraries.iter();
            let names = libraries.flat_map(|library| library.version.iter().chain([&library.name]));
            for text in self.services.iter().chain(names) {
                if let Err(message) = compile(text) {
                    problems.push(at, format!("`{text}`: {message}"));
                }
            }
        }
    }
}

/// A selection, ready to be asked.
#[derive(Debug)]
pub(super) struct Selector {
    services: Vec<Text>,
    resources: Vec<(String, Option<Wanted>)>,
    libraries: Vec<(Text, Option<Text>)>,
    attributes: Vec<(String, Option<Wanted>)>,
}

#[derive(Debug)]
enum Text {
    Is(String),
    Matches(Regex),
}

#[derive(Debug)]
enum Wanted {
    Is(Value),
    Matches(Regex),
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Is(wanted) => wanted == text,
            Self::Matches(regex) => regex.is_match(text),
        }
    }
}

impl Wanted {
    fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Is(wanted) => wanted == value,
            Self::Matches(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
        }
    }
}

impl Selector {
    /// Of a selection that was checked.
    pub(super) fn of(selection: Selection) -> Result<Self, String> {
        let is_strict = selection.match_type == MatchType::Strict;
        let text = |text: String| -> Result<Text, String> {
            Ok(if is_strict { Text::Is(text) } else { Text::Matches(compile(&text)?) })
        };
        let pairs = |pairs: Vec<Pair>| -> Result<Vec<_>, String> {
            let one = |pair: Pair| -> Result<_, String> {
                let wanted = match pair.value {
                    Some(serde_json::Value::String(text)) if !is_strict => {
                        Some(Wanted::Matches(compile(&text)?))
                    }
                    value => value.map(value_of).map(Wanted::Is),
                };
                Ok((pair.key, wanted))
            };
            pairs.into_iter().map(one).collect()
        };
        let services: Result<_, _> = selection.services.into_iter().map(text).collect();
        let libraries = selection.libraries.into_iter().map(|library| {
            Ok::<_, String>((text(library.name)?, library.version.map(text).transpose()?))
        });
        let libraries: Result<_, _> = libraries.collect();
        Ok(Self {
            services: services?,
            resources: pairs(selection.resources)?,
            libraries: libraries?,
            attributes: pairs(selection.attributes)?,
        })
    }

    /// Whether a resource and a scope have what they must.
    pub(super) fn fits(&self, resource: &Resource, scope: &Scope) -> bool {
        let service = resource.get("service.name").and_then(Value::as_str).unwrap_or_default();
        let library = |(name, version): &(Text, Option<Text>)| {
            name.fits(&scope.name)
                && version.as_ref().is_none_or(|version| version.fits(&scope.version))
        };
        (self.services.is_empty() || self.services.iter().any(|wanted| wanted.fits(service)))
            && (self.libraries.is_empty() || self.libraries.iter().any(library))
            && all(&self.resources, |key| resource.get(key))
    }

    /// Whether a sample has what it must, beside what it is of.
    pub(super) fn fits_sample(&self, dictionary: &Dictionary, rows: &[AttributeIx]) -> bool {
        let Dictionary { strings, attributes, .. } = dictionary;
        all(&self.attributes, |key| {
            let row = rows.iter().find(|row| strings.get(attributes.key(**row)) == key)?;
            Some(attributes.value(*row))
        })
    }
}

fn all<'v>(
    pairs: &[(String, Option<Wanted>)],
    mut get: impl FnMut(&str) -> Option<&'v Value>,
) -> bool {
    pairs.iter().all(|(key, wanted)| match (get(key), wanted) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(value), Some(wanted)) => wanted.fits(value),
    })
}
