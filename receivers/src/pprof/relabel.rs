//! Rewriting the labels of discovered targets, as Prometheus' `relabel_configs`.
//!
//! A rule reads some labels, joins them, and by its action sets a label, drops labels or drops the
//! target. Rules apply one after the other; labels that begin with `__` are for them and go away at
//! the end.

use std::collections::BTreeMap;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The labels of a target.
pub(super) type Labels = BTreeMap<String, String>;

/// A rule that rewrites the labels of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    /// The labels whose values are joined and matched.
    pub source_labels: Vec<String>,
    /// What is put between the joined values.
    pub separator: String,
    /// The label to set.
    pub target_label: String,
    /// The expression that the joined values must match as a whole; in `labelmap`, `labeldrop` and
    /// `labelkeep` it is matched against the names of labels.
    pub regex: String,
    /// For `hashmod`: the number of shares.
    pub modulus: u64,
    /// What the label becomes; `$1` or `${1}` stand for groups of the expression.
    pub replacement: String,
    /// What to do.
    pub action: Action,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets `target_label` to `replacement` if the expression matches; an empty text removes it.
    #[default]
    Replace,
    /// Drops targets that the expression does not match.
    Keep,
    /// Drops targets that the expression matches.
    Drop,
    /// Drops targets whose joined values differ from `target_label`.
    KeepEqual,
    /// Drops targets whose joined values equal `target_label`.
    DropEqual,
    /// Sets `target_label` to a hash of the joined values modulo `modulus`: spreads targets over
    /// several profpipes.
    HashMod,
    /// Copies labels whose names match to names made of `replacement`.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets `target_label` to the joined values in lower case.
    Lowercase,
    /// Sets `target_label` to the joined values in upper case.
    Uppercase,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".into(),
            target_label: String::new(),
            regex: "(.*)".into(),
            modulus: 0,
            replacement: "$1".into(),
            action: Action::Replace,
        }
    }
}

impl RelabelConfig {
    /// What is wrong with the rule: a field and why.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        if let Err(error) = anchored(&self.regex) {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            return Some(("regex", format!("is not a regular expression: {last}")));
        }
        let sets = matches!(
            self.action,
            Action::Replace
                | Action::KeepEqual
                | Action::DropEqual
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
        );
        if sets && self.target_label.is_empty() {
            return Some(("target_label", "is missing; this action needs it".into()));
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            return Some(("modulus", "must be at least 1".into()));
        }
        None
    }
}

/// A rule that is ready to be applied.
#[derive(Debug)]
pub(super) struct Rule {
    config: RelabelConfig,
    regex: Regex,
}

impl Rule {
    /// Compiles a rule; `None` if its expression is none, which validation has told.
    pub(super) fn new(config: RelabelConfig) -> Option<Self> {
        let regex = anchored(&config.regex).ok()?;
        Some(Self { config, regex })
    }

    /// Applies the rule; false if the target is dropped.
    fn apply(&self, labels: &mut Labels) -> bool {
        let config = &self.config;
        let value = |name: &String| labels.get(name).map(String::as_str).unwrap_or_default();
        let joined: Vec<&str> = config.source_labels.iter().map(value).collect();
        let joined = joined.join(&config.separator);
        let target = value(&config.target_label);
        match config.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return joined == target,
            Action::DropEqual => return joined != target,
            Action::Replace => {
                let Some(groups) = self.regex.captures(&joined) else { return true };
                let (mut name, mut text) = (String::new(), String::new());
                groups.expand(&config.target_label, &mut name);
                groups.expand(&config.replacement, &mut text);
                set(labels, name, text);
            }
            Action::HashMod => {
                let share = hash(&joined) % config.modulus.max(1);
                set(labels, config.target_label.clone(), share.to_string());
            }
            Action::Lowercase => set(labels, config.target_label.clone(), joined.to_lowercase()),
            Action::Uppercase => set(labels, config.target_label.clone(), joined.to_uppercase()),
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter_map(|(name, text)| {
                        let groups = self.regex.captures(name)?;
                        let mut to = String::new();
                        groups.expand(&config.replacement, &mut to);
                        Some((to, text.clone()))
                    })
                    .collect();
                for (name, text) in mapped {
                    set(labels, name, text);
                }
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
        }
        true
    }
}

/// Applies all rules; false if the target is dropped.
pub(super) fn relabel(rules: &[Rule], labels: &mut Labels) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

fn set(labels: &mut Labels, name: String, text: String) {
    if text.is_empty() {
        labels.remove(&name);
    } else if !name.is_empty() {
        labels.insert(name, text);
    }
}

/// Rules match whole texts.
fn anchored(expression: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?s:{expression})$")).size_limit(1 << 20).build()
}

/// A hash that is the same in every process.
pub(super) fn hash(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
