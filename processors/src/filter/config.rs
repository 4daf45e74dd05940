//! What users type for the `filter` processor.

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{self, Condition};
use super::language::{self, Context};
use super::redact;

/// Drops profiles and samples, leaves out frames, and redacts texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What becomes of a batch if a condition has no answer, because a value is of the wrong type:
    /// `propagate` rejects the batch, `ignore` logs it and takes the next condition, `silent` does
    /// so without logging. A condition without an answer drops nothing.
    pub error_mode: ErrorMode,
    /// Conditions of what is dropped: a text, whose paths say what it is about, or several with a
    /// context in common.
    pub profile_conditions: Vec<Item>,
    /// Conditions of what is dropped, by what they are about.
    pub profiles: Filters,
    /// Resources for which none of these conditions holds are dropped, if there are any.
    pub keep_resources: Vec<String>,
    /// Profiles for which none of these conditions holds are dropped, if there are any.
    pub keep_profiles: Vec<String>,
    /// Samples for which none of these conditions holds are dropped, if there are any.
    pub keep_samples: Vec<String>,
    /// Frames that are left out of stacks with all that they call, as pprof's `drop_frames`; their
    /// values go to their callers.
    pub drop_frames: Vec<String>,
    /// Frames that alone are left out of stacks; what they call is then called by their callers.
    pub hide_frames: Vec<String>,
    /// Frames that stay although `drop_frames` or `hide_frames` says otherwise.
    pub keep_frames: Vec<String>,
    /// Texts that are replaced, in order.
    pub redact: Vec<Redaction>,
}

/// What happens if a condition has no answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorMode {
    /// It is logged, and the next condition is taken.
    Ignore,
    /// The next condition is taken.
    Silent,
    /// The batch is rejected.
    #[default]
    Propagate,
}

/// A condition, or several of the same context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Item {
    /// A condition whose paths say what it is about.
    Condition(String),
    /// Conditions of one context.
    Group(Group),
}

/// Conditions of one context.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// What a path without a prefix is of; unless given, every path says so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Named>,
    /// The conditions.
    pub conditions: Vec<String>,
    /// As `error_mode` of the processor, for these conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_mode: Option<ErrorMode>,
}

/// What conditions are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// Resources.
    Resource,
    /// Instrumentation scopes.
    Scope,
    /// Profiles.
    Profile,
    /// Samples.
    #[serde(alias = "profilesample")]
    Sample,
}

/// Conditions of what is dropped, by what they are about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Resources for which one of these conditions holds are dropped.
    pub resource: Vec<String>,
    /// Scopes for which one of these conditions holds are dropped.
    pub scope: Vec<String>,
    /// Profiles for which one of these conditions holds are dropped.
    pub profile: Vec<String>,
    /// Samples for which one of these conditions holds are dropped.
    pub sample: Vec<String>,
}

/// Texts that are replaced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// Where the texts are: a list of `function`, `file`, `mapping`, `attributes` (of profiles,
    /// samples, locations and mappings), `resource_attributes` and `scope_attributes`.
    #[serde(rename = "in")]
    pub places: Vec<Place>,
    /// Only attributes whose whole key this regular expression matches; all unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A regular expression; everything that it matches is replaced.
    pub pattern: String,
    /// What stands there instead; `$1` and `${name}` are groups of `pattern`, `$$` is a dollar
    /// sign.
    pub replacement: String,
}

/// Where texts are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Names of functions, for people and in the binary.
    Function,
    /// Source files of functions.
    File,
    /// Files of mappings.
    Mapping,
    /// Attributes of profiles, samples, locations and mappings.
    Attributes,
    /// Attributes of resources.
    ResourceAttributes,
    /// Attributes of scopes.
    ScopeAttributes,
}

/// A condition as it is written: where, as text, in which context, how errors are taken.
type Written<'a> = (String, &'a str, Context, ErrorMode);

impl Config {
    fn listed<'a>(&self, at: &'a str, list: &'a [String], context: Context) -> Vec<Written<'a>> {
        let conditions = list.iter().enumerate();
        conditions
            .map(|(number, text)| (format!("{at}::{number}"), &**text, context, self.error_mode))
            .collect()
    }

    /// The conditions of what is dropped.
    fn drops(&self) -> Vec<Written<'_>> {
        let mut all = Vec::new();
        for (at, item) in self.profile_conditions.iter().enumerate() {
            match item {
                Item::Condition(text) => {
                    let at = format!("profile_conditions::{at}");
                    all.push((at, &**text, Context::Inferred, self.error_mode));
                }
                Item::Group(group) => {
                    let context = match group.context {
                        None => Context::Inferred,
                        Some(Named::Resource) => Context::Resource,
                        Some(Named::Scope) => Context::Scope,
                        Some(Named::Profile) => Context::Profile,
                        Some(Named::Sample) => Context::Sample,
                    };
                    let mode = group.error_mode.unwrap_or(self.error_mode);
                    for (number, text) in group.conditions.iter().enumerate() {
                        let at = format!("profile_conditions::{at}::conditions::{number}");
                        all.push((at, &**text, context, mode));
                    }
                }
            }
        }
        let Filters { resource, scope, profile, sample } = &self.profiles;
        all.extend(self.listed("profiles::resource", resource, Context::Resource));
        all.extend(self.listed("profiles::scope", scope, Context::Scope));
        all.extend(self.listed("profiles::profile", profile, Context::Profile));
        all.extend(self.listed("profiles::sample", sample, Context::Sample));
        all
    }

    fn keeps(&self) -> [Vec<Written<'_>>; 3] {
        [
            self.listed("keep_resources", &self.keep_resources, Context::Resource),
            self.listed("keep_profiles", &self.keep_profiles, Context::Profile),
            self.listed("keep_samples", &self.keep_samples, Context::Sample),
        ]
    }

    fn frames(&self) -> [Vec<Written<'_>>; 3] {
        [
            self.listed("drop_frames", &self.drop_frames, Context::Frame),
            self.listed("hide_frames", &self.hide_frames, Context::Frame),
            self.listed("keep_frames", &self.keep_frames, Context::Frame),
        ]
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        let lists = self.keeps().into_iter().chain(self.frames());
        for (at, text, context, _) in self.drops().into_iter().chain(lists.flatten()) {
            if let Err(mistake) = language::parse(text, context) {
                problems.push_at(&at, mistake.at, mistake.message);
            }
        }
        for (at, redaction) in self.redact.iter().enumerate() {
            redact::check(&format!("redact::{at}"), redaction, problems);
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if !self.keep_frames.is_empty()
            && self.drop_frames.is_empty()
            && self.hide_frames.is_empty()
        {
            advice.push(
                "keep_frames",
                "has no effect without `drop_frames` or `hide_frames`, of which it is the exception",
            );
        }
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let read = |list: Vec<Written<'_>>| -> Result<Vec<Condition>, Error> {
            list.into_iter()
                .map(|(at, text, context, mode)| {
                    let expression = language::parse(text, context)
                        .map_err(|mistake| Error::new(format!("{at}: {}", mistake.message)))?;
                    Ok(Condition::new(condition::ConditionSite { at, mode }, expression))
                })
                .collect()
        };
        let [resources, profiles, samples] = self.keeps().map(read);
        let [drop, hide, keep] = self.frames().map(read);
        let rules = super::Rules {
            drops: read(self.drops())?,
            keep_resources: resources?,
            keep_profiles: profiles?,
            keep_samples: samples?,
            frames: super::frames::Rules { drop: drop?, hide: hide?, keep: keep? },
            redactions: redact::compile(&self.redact)?,
        };
        Ok(Box::new(super::Filter::new(rules, setup)))
    }
}
