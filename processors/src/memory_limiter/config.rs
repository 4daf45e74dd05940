//! What users type for the `memory_limiter` processor.

use std::path::Path;

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Says how much memory batches may take: the limit without the spike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Accepted for the Collector's sake: room is asked for, not measured now and then.
    pub check_interval: Duration,
    /// The limit in MiB; it goes before `limit_percentage`.
    pub limit_mib: u64,
    /// How much of the limit is left for what is not batches, in MiB; a fifth of it if 0.
    pub spike_limit_mib: u64,
    /// The limit in percent of the memory that this process may use: its control group's, or the
    /// host's.
    pub limit_percentage: u64,
    /// How much of the limit is left for what is not batches, in percent of the same memory.
    pub spike_limit_percentage: u64,
    /// Accepted for the Collector's sake: there is no garbage to collect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gc_interval_when_soft_limited: Option<Duration>,
    /// Accepted for the Collector's sake: there is no garbage to collect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gc_interval_when_hard_limited: Option<Duration>,
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if self.limit_percentage > 100 {
            problems.push("limit_percentage", "is at most 100");
        }
        if self.spike_limit_percentage > 100 {
            problems.push("spike_limit_percentage", "is at most 100");
        }
        if self.limit_mib > 0 && self.spike_limit_mib >= self.limit_mib {
            problems.push("spike_limit_mib", "must be less than `limit_mib`");
        } else if self.limit_mib == 0
            && self.limit_percentage > 0
            && self.spike_limit_percentage >= self.limit_percentage
        {
            problems.push("spike_limit_percentage", "must be less than `limit_percentage`");
        }
    }

    fn advise(&self, advice: &mut Problems) {
        if self.limit_mib == 0 && self.limit_percentage == 0 {
            advice.push("", "it limits nothing; set `limit_mib` or `limit_percentage`");
        }
        let collecting = [
            ("min_gc_interval_when_soft_limited", &self.min_gc_interval_when_soft_limited),
            ("min_gc_interval_when_hard_limited", &self.min_gc_interval_when_hard_limited),
        ];
        for (key, value) in collecting {
            if value.is_some() {
                advice.push(key, "accepted, without effect: there is no garbage to collect");
            }
        }
    }
}

impl Config {
    /// How many bytes batches may take, in this much memory.
    pub(super) fn bytes(&self, memory: u64) -> Option<u64> {
        let percent = |of: u64| memory / 100 * of;
        let (limit, spike) = match self.limit_mib {
            0 => (percent(self.limit_percentage), percent(self.spike_limit_percentage)),
            limit => (limit << 20, self.spike_limit_mib << 20),
        };
        let spike = if spike == 0 { limit / 5 } else { spike };
        Some(limit.saturating_sub(spike)).filter(|bytes| *bytes > 0)
    }
}

impl ProcessorConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let memory = if self.limit_mib == 0 { memory()? } else { 0 };
        let bytes = self.bytes(memory).ok_or_else(|| {
            Error::new("it limits nothing; set `limit_mib` or `limit_percentage`")
        })?;
        setup.memory.at_most(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Box::new(super::MemoryLimiter))
    }
}

/// The memory that this process may use.
fn memory() -> Result<u64, Error> {
    let of_host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let of_group = group.iter().filter_map(|file| {
        std::fs::read_to_string(Path::new(file)).ok()?.trim().parse::<u64>().ok()
    });
    of_group
        .chain(of_host)
        .min()
        .ok_or_else(|| Error::new("cannot find out how much memory there is; set `limit_mib`"))
}
