//! What users type for the `pyroscope` exporter.

use profpipe_pipeline::settings::{ByteSize, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::naming::Names;

/// Pushes pprof to Grafana Pyroscope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How attributes become names of labels.
    pub label_names: LabelNames,
    /// Which attributes of a resource become labels.
    pub labels: LabelRules,
    /// Which attributes of samples become labels.
    pub sample_labels: SampleLabelRules,
    /// Names of profiles by `sample type:unit:period type:period unit` or `sample type:unit`, such
    /// as `page_faults:count: page_faults`; they go before the built-in ones.
    pub profile_names: Names,
    /// What is sent for frames without a name: `name` sends `module+0xoffset`, `address` the bare
    /// address, for a server that finds names itself.
    pub unsymbolized: Unsymbolized,
    /// The largest profile, not compressed; larger ones are split. A server refuses profiles above
    /// its burst size (`-distributor.ingestion-burst-size-mb`, 2) for ever.
    pub max_profile_size: ByteSize,
    /// The most samples of a profile; larger ones are split.
    pub max_profile_samples: usize,
    /// Profiles older than this are rejected without asking the server, whose own limit is an hour
    /// unless it is set (`-validation.reject-older-than`); 0 leaves it to the server.
    pub max_age: Duration,
    /// How many profiles of a batch are on their way at a time.
    pub concurrency: usize,
    /// Whether the tenant of a batch is sent on, as `X-Scope-OrgID`; it goes before `headers`.
    pub tenant_from_context: bool,
}

/// How attributes become names of labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelNames {
    /// Letters, digits and `_`; anything else becomes `_`. Every server takes that.
    #[default]
    Legacy,
    /// As they are; servers from 2.0 on take that. `service.name` still becomes `service_name`.
    Utf8,
}

/// What is sent for frames without a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unsymbolized {
    /// `module+0xoffset`.
    #[default]
    Name,
    /// The address alone.
    Address,
}

impl Unsymbolized {
    pub(super) fn is_name(self) -> bool {
        self == Self::Name
    }
}

/// Which attributes of a resource become labels: those that `include` names, all if it is empty,
/// but never one that `exclude` names. A name may end with `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelRules {
    /// The only attributes that become labels; if empty, all do.
    pub include: Vec<String>,
    /// Attributes that never become labels: by default those that differ with every process.
    pub exclude: Vec<String>,
}

/// Which attributes of samples become labels, by the same rules. Each different set of them is a
/// series of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleLabelRules {
    /// The only attributes that become labels; if empty, all texts do.
    pub include: Vec<String>,
    /// Attributes that never become labels: by default threads and processes.
    pub exclude: Vec<String>,
    /// The most different sets of labels in a profile; samples beyond lose their labels, never
    /// their values.
    pub max_sets: usize,
}

impl Default for LabelRules {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: [
                "process.pid",
                "process.parent_pid",
                "process.vpid",
                "process.creation.time",
                "process.start_time",
                "process.command*",
                "process.working_directory",
                "process.executable.path",
                "process.executable.build_id.*",
                "process.session_leader.*",
                "process.group_leader.*",
                "process.group.*",
                "thread.*",
                "pprof.*",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }
}

impl Default for SampleLabelRules {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: [
                "thread.*",
                "thread_*",
                "thread",
                "tid",
                "pid",
                "process.*",
                "process_id",
                "goroutine*",
                "cpu.logical_number",
                "profpipe.*",
                "pprof.*",
            ]
            .map(str::to_owned)
            .to_vec(),
            max_sets: 200,
        }
    }
}

impl LabelRules {
    pub(super) fn allows(&self, name: &str) -> bool {
        allows(&self.include, &self.exclude, name)
    }
}

impl SampleLabelRules {
    pub(super) fn allows(&self, name: &str) -> bool {
        allows(&self.include, &self.exclude, name)
    }
}

fn allows(include: &[String], exclude: &[String], name: &str) -> bool {
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    (include.is_empty() || include.iter().any(matches)) && !exclude.iter().any(matches)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            label_names: LabelNames::Legacy,
            labels: LabelRules::default(),
            sample_labels: SampleLabelRules::default(),
            profile_names: Names::new(),
            unsymbolized: Unsymbolized::Name,
            max_profile_size: ByteSize(1_900_000),
            max_profile_samples: 16_000,
            max_age: Duration::default(),
            concurrency: 8,
            tenant_from_context: false,
        }
    }
}
