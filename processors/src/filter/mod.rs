//! The `filter` processor: drops profiles and samples by conditions, leaves frames out of stacks,
//! and replaces texts that must not leave.
//!
//! Conditions are those of the Collector's `filter` as far as they make sense of profiles, and more
//! of the same kind (`language`). One that holds drops; the `keep_*` lists are the reverse.
//!
//! # What it promises
//! - A batch is decoded only if something is to be changed in it or a condition is about more than
//!   resources; one that loses nothing goes on as it is.
//! - A regular expression sees each row of a table once, however many samples refer to it.
//! - What was dropped or replaced is in no table of the batch any more, nor in an original payload.
//! - What was dropped is counted by condition. A batch of which nothing is left is acknowledged.

mod condition;
mod config;
mod frames;
mod judge;
mod language;
pub mod metric_names;
mod redact;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::telemetry::Counter;
use profpipe_formats::otlp;

use self::condition::Condition;
use self::judge::{Judge, Tally};
use self::language::Level;
use self::redact::Redactions;

pub use config::{Config, ErrorMode, Filters, Group, Item, Named, Place, Redaction};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "filter",
    Stability::Alpha,
    "drops profiles, samples and frames by conditions, and redacts texts",
);

/// How often conditions without an answer are logged.
const QUIET: Duration = Duration::from_secs(10);

/// What is done to a batch.
#[derive(Debug)]
struct Rules {
    /// Conditions of what is dropped, at any level.
    drops: Vec<Condition>,
    keep_resources: Vec<Condition>,
    keep_profiles: Vec<Condition>,
    keep_samples: Vec<Condition>,
    frames: frames::Rules,
    redactions: Redactions,
}

impl Rules {
    /// The deepest level that anything is about.
    fn level(&self) -> Level {
        let rewrites = !self.frames.is_empty() || !self.redactions.is_empty();
        let deepest = self.drops.iter().map(Condition::level).max().unwrap_or(Level::Resource);
        if rewrites || !self.keep_samples.is_empty() {
            Level::Sample
        } else if !self.keep_profiles.is_empty() {
            deepest.max(Level::Profile)
        } else {
            deepest
        }
    }

    fn is_empty(&self) -> bool {
        self.drops.is_empty()
            && self.keep_resources.is_empty()
            && self.keep_profiles.is_empty()
            && self.keep_samples.is_empty()
            && self.frames.is_empty()
            && self.redactions.is_empty()
    }
}

struct Filter {
    rules: Rules,
    setup: Setup,
    faults: Counter,
    frames: Counter,
    redacted: Counter,
    /// When a condition without an answer was logged last.
    logged: Option<Instant>,
}

impl Filter {
    fn new(rules: Rules, setup: &Setup) -> Self {
        let metrics = &setup.services.metrics;
        Self {
            rules,
            faults: metrics.counter(metric_names::CONDITION_ERRORS, &setup.id),
            frames: metrics.counter(metric_names::FRAMES_LEFT_OUT, &setup.id),
            redacted: metrics.counter(metric_names::TEXTS_REDACTED, &setup.id),
            setup: setup.clone(),
            logged: None,
        }
    }

    /// Counts what was dropped, and logs that conditions had no answer.
    fn tell(&mut self, tally: Tally) {
        let metrics = &self.setup.services.metrics;
        for ((at, kind), (samples, value)) in tally.dropped {
            let labels = [("condition", &*at)];
            metrics.labelled(metric_names::DROPPED_SAMPLES, &self.setup.id, &labels).add(samples);
            let labels = [("condition", &*at), ("type", kind)];
            metrics.labelled(metric_names::DROPPED_VALUE, &self.setup.id, &labels).add(value);
        }
        self.faults.add(tally.faults);
        if let Some(message) = tally.complaint {
            let now = Instant::now();
            if self.logged.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
                self.logged = Some(now);
                tracing::warn!("processors::{}: {message}; it drops nothing", self.setup.id);
            }
        }
    }

    /// Whether every resource of a batch that is still bytes stays, where that is all that matters.
    fn keeps_bytes(&mut self, batch: &Batch) -> Result<bool, Error> {
        let Some(request) = batch.wire().filter(|_| self.rules.level() == Level::Resource) else {
            return Ok(false);
        };
        let resources = otlp::resources(request).map_err(unreadable)?;
        let mut judge = Judge::new(&self.rules, None);
        let mut all_stay = true;
        for (resource, schema_url) in &resources {
            let goes = judge.resource(resource, schema_url).map_err(Error::new);
            if goes.as_ref().map_or(true, Option::is_some) {
                // It is told when the batch is judged as a whole.
                all_stay = false;
                break;
            }
        }
        if all_stay {
            self.tell(judge.tally);
        }
        Ok(all_stay)
    }
}

fn unreadable(cause: otlp::DecodeError) -> Error {
    Error::with_source("cannot read the batch", cause)
}

impl Processor for Filter {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if self.rules.is_empty() || self.keeps_bytes(&batch)? {
            out.push(batch);
            return Ok(());
        }
        let profiles = batch.profiles().map_err(unreadable)?;
        let mut judge = Judge::new(&self.rules, Some(&profiles.dictionary));
        let verdict = judge.judge(profiles);
        let drops = judge.tally.drops();
        self.tell(judge.tally);
        let verdict = verdict.map_err(Error::new)?;
        let rewrites = !self.rules.frames.is_empty() || !self.rules.redactions.is_empty();
        if !drops && !rewrites {
            out.push(batch);
            return Ok(());
        }
        let profiles = batch.profiles_mut().map_err(unreadable)?;
        verdict.apply(profiles);
        if profiles.resources.is_empty() {
            // Dropping a batch acknowledges it.
            return Ok(());
        }
        let frames = self.rules.frames.apply(profiles).map_err(Error::new)?;
        let redacted = self.rules.redactions.apply(profiles);
        self.frames.add(frames);
        self.redacted.add(redacted);
        if drops || frames > 0 || redacted > 0 {
            // What is not referred to any more must not leave.
            profiles.compact();
        }
        out.push(batch);
        Ok(())
    }

    fn wants(&self) -> Access {
        match self.rules.level() {
            Level::Resource => Access::Resources,
            _ => Access::Samples,
        }
    }
}
