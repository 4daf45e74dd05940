//! What users type for the `pyroscope` exporter.

use std::time;

use profpipe_engine::DeliveryDefaults;
use profpipe_engine::component::{self, Error, Exporter, ExporterConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::{ByteSize, Duration};
use profpipe_formats::pyroscope::Names;
use profpipe_network::settings::Compression;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

profpipe_network::http_client_config! {
    /// Pushes pprof to Grafana Pyroscope.
    pub struct Config {
        endpoint: "", compression: Compression::Gzip;
        /// How attributes become names of labels.
        pub label_names: LabelNames = LabelNames::Legacy,
        /// Which attributes of a resource become labels.
        pub labels: LabelRules = LabelRules::default(),
        /// Which attributes of samples become labels.
        pub sample_labels: SampleLabelRules = SampleLabelRules::default(),
        /// Names of profiles by `sample type:unit:period type:period unit` or `sample type:unit`,
        /// such as `page_faults:count: page_faults`; they go before the built-in ones.
        pub profile_names: Names = Names::new(),
        /// What is sent for frames without a name: `name` sends `module+0xoffset`, `address` the
        /// bare address, for a server that finds names itself.
        pub unsymbolized: Unsymbolized = Unsymbolized::Name,
        /// The largest profile, not compressed; larger ones are split. A server refuses for ever
        /// what is above its burst size (`-distributor.ingestion-burst-size-mb`, 2).
        pub max_profile_size: ByteSize = ByteSize(1_900_000),
        /// The most samples of a profile; larger ones are split.
        pub max_profile_samples: usize = 16_000,
        /// Profiles older than this are rejected without asking the server; `0` leaves it to the
        /// server, whose limit is an hour unless it is set (`-validation.reject-older-than`).
        pub max_age: Duration = Duration::from_secs(0),
        /// How many profiles of a batch are on their way at a time.
        pub concurrency: usize = 8,
        /// Whether the tenant of a batch is sent on as `X-Scope-OrgID`. A batch without one has
        /// that of `headers`, if there is one.
        pub tenant_from_context: bool = false,
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        self.client().validate_http(problems);
        if self.compression == Compression::Zstd {
            problems.push("compression", "a Pyroscope server takes only `gzip` and `none`");
        }
        if self.max_profile_size.0 < 64 << 10 {
            problems.push("max_profile_size", "must be at least 64KiB");
        }
        if self.max_profile_samples == 0 {
            problems.push("max_profile_samples", "must be more than 0");
        }
        if self.concurrency == 0 {
            problems.push("concurrency", "must be more than 0");
        }
        for (types, name) in &self.profile_names {
            if name.is_empty() || !matches!(types.split(':').count(), 2 | 4) {
                let problem = "must be `sample type:unit` or `sample type:unit:period type:period \
                               unit` with a name";
                problems.push(&format!("profile_names::{types}"), problem);
            }
        }
    }

    fn advise(&self, advice: &mut Problems) {
        self.client().advise(advice);
    }
}

impl ExporterConfig for Config {
    fn delivery() -> DeliveryDefaults {
        // A push takes up to a second, because the server answers when it has stored it, and a
        // batch is many pushes.
        DeliveryDefaults { timeout: time::Duration::from_secs(30), ..DeliveryDefaults::default() }
    }

    fn build(self, setup: &Setup) -> Result<Box<dyn Exporter>, Error> {
        Ok(Box::new(super::Pyroscope::build(self, setup)?))
    }
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
    /// Attributes that never become labels: by default those that differ with every process, and
    /// most of what describes hardware and limits.
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
                "process.linux.cgroup",
                "thread.*",
                "pprof.*",
                "host.cpu.vendor.id",
                "host.cpu.family",
                "host.cpu.model.id",
                "host.cpu.stepping",
                "host.cpu.cache.*",
                "profpipe.environment.cpu.*",
                "profpipe.environment.cgroup.*",
                "profpipe.environment.compiler",
                "profpipe.environment.kernel.mitigations",
                "profpipe.environment.libc.*",
                "profpipe.environment.memory.*",
                "profpipe.environment.numa.*",
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
                "local root span id",
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
