//! What users type for the `inprocess` receiver.

use profpipe_engine::component::{self, Error, Receiver, ReceiverConfig, Setup};
use profpipe_engine::config::Problems;
use profpipe_engine::settings::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Profiles the process that profpipe is part of, by a timer signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Samples to ask for, for each second of CPU time, 1 to 1000. The kernel gives at most one
    /// a tick (often 250 a second); what it gave is in the profile.
    pub frequency: u32,
    /// The length of a window: one batch is sent at the end of each.
    pub interval: Duration,
    /// The service name. By default the name of the executable.
    pub service_name: Option<String>,
    /// Libraries, by a part of their path, in which no sample is taken, because interrupting them
    /// may block the process for ever. Without `libc.so` in the list, time spent in the C library is
    /// seen; that is safe from glibc 2.35 on.
    pub skip_libraries: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            frequency: 99,
            interval: Duration::from_secs(10),
            service_name: None,
            skip_libraries: ["libc.so", "libgcc_s", "libpthread", "linux-vdso"]
                .map(str::to_owned)
                .into(),
        }
    }
}

impl component::Config for Config {
    fn validate(&self, problems: &mut Problems) {
        if !(1..=1000).contains(&self.frequency) {
            problems.push("frequency", "must be between 1 and 1000 samples a second");
        }
        if self.interval.0 < std::time::Duration::from_millis(100) {
            problems.push("interval", "must be at least 100ms");
        }
        if self.service_name.as_deref() == Some("") {
            problems.push("service_name", "is empty; leave it out to use the executable's name");
        }
        if self.skip_libraries.iter().any(String::is_empty) {
            problems.push("skip_libraries", "has an empty name, which would skip everything");
        }
    }
}

impl ReceiverConfig for Config {
    fn build(self, setup: &Setup) -> Result<Box<dyn Receiver>, Error> {
        Ok(Box::new(super::InProcess::start(self, setup)?))
    }
}
