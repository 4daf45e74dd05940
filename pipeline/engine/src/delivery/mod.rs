//! The settings of delivery: what the engine itself reads in the section of every exporter.
//!
//! `timeout`, `retry_on_failure` and `sending_queue` have the Collector's keys and defaults, with
//! these differences, each for the sake of what was acknowledged:
//! - `wait_for_result` is true unless the configuration says otherwise: a sender gets its answer
//!   when the destination has the data. With `storage` it gets it when the disk has them.
//! - With `storage`, `max_elapsed_time` is 0 unless the configuration says otherwise: what is on
//!   disk is never given up. `queue_size` limits it only if the configuration has one; the limits
//!   of the storage apply anyway.
//! - `block_on_overflow: false` answers "try later" to the sender, where the Collector drops.
//! - `retry_on_failure` says when the *destination* is tried again: while it waits, nothing of its
//!   queue is sent, and then one batch goes ahead as a probe.

mod backoff;
mod queue;
mod retry;

#[cfg(test)]
mod tests;

use std::time::Duration;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use queue::SendingQueue;
pub(crate) use queue::{Batching, Queueing, Sizer};
use retry::RetryOnFailure;

pub use self::backoff::{Backoff, RetryPolicy};
use crate::config::{ConfigError, Problems, Section};
use crate::settings;

/// The keys of the engine in an exporter's section.
const KEYS: [&str; 3] = ["timeout", "retry_on_failure", "sending_queue"];

/// What an exporter wants where its configuration says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryDefaults {
    /// The longest that one attempt may take; zero means no limit.
    pub timeout: Duration,
    /// Whether the queue has a limit of its own beside the memory budget.
    pub queue: bool,
}

impl Default for DeliveryDefaults {
    /// For a destination in the network.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), queue: true }
    }
}

impl DeliveryDefaults {
    /// For a destination on this host, which takes what it is given: attempts have no limit, and
    /// only the memory budget limits what waits.
    pub const fn local() -> Self {
        Self { timeout: Duration::ZERO, queue: false }
    }
}

/// The part of an exporter's section that belongs to the engine, as users type it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Typed {
    /// The longest that one attempt to send may take; `0` means no limit.
    timeout: Option<settings::Duration>,
    /// When a failed attempt is repeated.
    retry_on_failure: RetryOnFailure,
    /// What waits to be sent: where, how much of it, and how many batches are sent side by side.
    sending_queue: SendingQueue,
}

/// How an exporter's batches are delivered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    /// The longest that one attempt may take.
    pub(crate) timeout: Option<Duration>,
    /// `None`: an attempt that fails is the last.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) queue: Queueing,
    /// Whether the configuration says when to retry.
    pub(crate) retry_written: bool,
    /// What is suspicious but no mistake: the field and what to know about it.
    pub(crate) warnings: Vec<(&'static str, String)>,
}

impl Delivery {
    /// Of an exporter that has no section.
    pub(crate) fn ready_made() -> Self {
        Typed::default().resolve(DeliveryDefaults::local(), false)
    }

    /// Reads the engine's part of an exporter's section.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn of(
        section: &Section,
        defaults: DeliveryDefaults,
    ) -> Result<Self, Vec<ConfigError>> {
        let (typed, mut errors) = section.read_lossy::<Typed>();
        for error in &mut errors {
            if KEYS[1..].contains(&field_of(&error.path))
                && error.message.ends_with("found `false`")
            {
                error.message.push_str("; write `{enabled: false}`");
            }
        }
        let mut problems = Problems::default();
        let typed = typed.unwrap_or_default();
        typed.retry_on_failure.validate(&mut problems);
        typed.sending_queue.validate(&mut problems);
        if let Err(located) = section.locate(problems) {
            // What could not be read has its default now, which nobody wrote.
            let new = |error: &ConfigError| errors.iter().all(|known| known.path != error.path);
            let located: Vec<ConfigError> = located.into_iter().filter(new).collect();
            errors.extend(located);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Who writes a queue wants one, whatever the exporter's default is.
        let queue = defaults.queue || section.has("sending_queue");
        let defaults = DeliveryDefaults { queue, ..defaults };
        Ok(typed.resolve(defaults, section.has("retry_on_failure")))
    }
}

/// The last key of a path.
fn field_of(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

impl Typed {
    fn resolve(self, defaults: DeliveryDefaults, retry_written: bool) -> Delivery {
        let mut warnings = Vec::new();
        let queue = self.sending_queue.resolve(defaults, &mut warnings);
        let timeout = self.timeout.map_or(defaults.timeout, |timeout| timeout.0);
        Delivery {
            timeout: Some(timeout).filter(|timeout| !timeout.is_zero()),
            retry: self.retry_on_failure.resolve(queue.storage.is_some()),
            queue,
            retry_written,
            warnings,
        }
    }
}

/// Takes the engine's part out of an exporter's section: what is left, and that part. A key that
/// the exporter does not know and that looks like one of the engine's is taken for that, so that
/// its error says so.
pub(crate) fn separate(section: &Section, known: impl Fn(&str) -> bool) -> (Section, Section) {
    section.partition(|key| {
        KEYS.contains(&key) || (!known(key) && crate::config::nearest(key, KEYS).is_some())
    })
}

/// Reads the engine's part, for its mistakes only.
///
/// # Errors
/// Every mistake in it.
pub(crate) fn check(section: &Section, defaults: DeliveryDefaults) -> Result<(), Vec<ConfigError>> {
    Delivery::of(section, defaults).map(drop)
}

/// Adds the engine's keys to an exporter's JSON schema.
pub(crate) fn extend_schema(mut schema: Schema) -> Schema {
    let ours = schemars::schema_for!(Typed).to_value();
    for part in ["properties", "$defs"] {
        let Some(serde_json::Value::Object(entries)) = ours.get(part) else { continue };
        let all = schema.ensure_object().entry(part).or_insert_with(|| serde_json::json!({}));
        if let serde_json::Value::Object(all) = all {
            all.extend(entries.clone());
        }
    }
    schema
}

/// Adds the engine's keys to an exporter's defaults.
pub(crate) fn extend_defaults(
    mut own: serde_json::Value,
    defaults: DeliveryDefaults,
) -> serde_json::Value {
    let typed = Typed {
        timeout: Some(settings::Duration(defaults.timeout)),
        retry_on_failure: RetryOnFailure::printed(),
        sending_queue: SendingQueue::printed(defaults),
    };
    if let (serde_json::Value::Object(own), Ok(serde_json::Value::Object(ours))) =
        (&mut own, serde_json::to_value(typed))
    {
        own.extend(ours);
    }
    own
}
