//! What users type for the `governor` processor.

use profpipe_engine::component::{self, Error, Processor, ProcessorConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::overhead::{Allowance, Limits};
use profpipe_engine::settings::{ByteSize, Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::law::Controller;

/// Keeps the whole cost of profiling this host within a budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// CPU time that profiling may take, in percent of one core: interrupting the profiled, reading
    /// and unwinding samples, finding names, encoding and sending.
    pub cpu: Percent,
    /// Resident memory of this process. Above it names are not looked for, and less room is given
    /// to batches; no limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Bytes a second that batches of the sampler may take on their way out, as large as they are in
    /// memory; no limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<ByteSize>,
    /// How often the levers are set.
    pub window: Window,
    /// How long a profile may become where writing and sending one takes much of the budget.
    pub longest_profile: Duration,
    /// Where the budget cannot be kept profiling is off for so long, then tried again.
    pub retry: Duration,
    /// What the start of the program may take on top, when it reads the binaries of all that runs.
    pub start: Start,
}

/// What the start may take on top of the budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// So much of the budget in advance, at most one second of CPU time; `0s` for none.
    pub advance: Duration,
    /// How long it may be used.
    pub within: Duration,
    /// How long it takes until it is paid back, by a budget that is smaller until then.
    pub payback: Duration,
}

impl Default for Start {
    fn default() -> Self {
        let Allowance { advance, within, payback } = Allowance::default();
        Self { advance: Duration(advance), within: Duration(within), payback: Duration(payback) }
    }
}

/// How often the levers are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Window {
    /// The usual length of a control window.
    pub min: Duration,
    /// Its length where waking up takes too much of the budget.
    pub max: Duration,
}

impl Default for Window {
    fn default() -> Self {
        let (min, max) = Limits::default().window;
        Self { min: Duration(min), max: Duration(max) }
    }
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            cpu: Percent(limits.cpu),
            memory: None,
            network: None,
            window: Window::default(),
            longest_profile: Duration(limits.longest_profile),
            retry: Duration(limits.retry),
            start: Start::default(),
        }
    }
}

/// The smallest budget that makes sense: a tenth of a millisecond a second.
const LEAST: f64 = 0.000_1;

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        let second = std::time::Duration::from_secs(1);
        if self.cpu.0 == 0.0 {
            problems
                .push("cpu", "a budget of nothing allows no profiling; leave `perf` out instead");
        } else if self.cpu.0 < LEAST {
            problems.push("cpu", "must be at least 0.01%: waking up once a second takes that");
        } else if let Ok(cores) = std::thread::available_parallelism()
            && self.cpu.0 > cores.get() as f64
        {
            let most = cores.get() * 100;
            problems.push("cpu", format!("is more than this host has, which is {most}%"));
        }
        if self.memory.is_some_and(|memory| memory.0 < 16 << 20) {
            problems.push("memory", "must be at least 16MiB");
        }
        if self.network.is_some_and(|network| network.0 < 1024) {
            problems.push("network", "must be at least 1KiB a second");
        }
        if self.window.min.0 < second / 4 || self.window.min.0 > 60 * second {
            problems.push("window::min", "must be between 250ms and 1m");
        }
        if self.window.max.0 < self.window.min.0 || self.window.max.0 > 60 * second {
            problems.push("window::max", "must be between `min` and 1m");
        }
        if self.longest_profile.0 > 3600 * second {
            problems.push("longest_profile", "must be at most 1h");
        }
        if self.retry.0 < 10 * second {
            problems.push("retry", "must be at least 10s");
        }
        if self.start.within.0 > 60 * second {
            problems.push("start::within", "must be at most 1m");
        }
        if self.start.payback.0 < 2 * self.start.advance.0 {
            problems.push("start::payback", "must be at least twice as long as `advance`");
        }
    }
}

impl ProcessorConfig for Config {
    fn only_with() -> &'static [&'static str] {
        &["perf"]
    }

    fn build(self, setup: &Setup) -> Result<Box<dyn Processor>, Error> {
        let overhead = &setup.services.overhead;
        overhead.install(|limits, target, kernel_sample| {
            Box::new(Controller::new(limits, target, kernel_sample))
        });
        overhead.limit(Limits {
            cpu: self.cpu.0,
            memory: self.memory.map(|memory| memory.0),
            network: self.network.map(|network| network.0),
            window: (self.window.min.0, self.window.max.0),
            longest_profile: self.longest_profile.0,
            retry: self.retry.0,
            start: Allowance {
                advance: self.start.advance.0,
                within: self.start.within.0,
                payback: self.start.payback.0,
            },
        });
        if let Some(memory) = self.memory {
            // Batches are what grows; the rest is tables that are bounded by themselves.
            setup.memory.at_most(usize::try_from(memory.0 / 4).unwrap_or(usize::MAX));
        }
        Ok(Box::new(super::Governor::new(setup)))
    }
}
