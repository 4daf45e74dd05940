//! The `governor` processor: a hard budget for the cost of profiling.
//!
//! It states the budget and brings the control law (`law`) that keeps it; the engine runs it
//! with real clocks, and the receiver `perf` carries out what it decides. On the way through, profiles
//! of the sampler are told what they cost and how they were taken.

mod config;
mod law;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::overhead::{Overhead, Status};
use profpipe_engine::telemetry::{Metrics, names};
use profpipe_profile::attribute_names::{
    FRAMES_UNNAMED, OLDEST_WINDOW_AGE, OLDEST_WINDOW_STAGE, OVERHEAD_BUDGET, OVERHEAD_CONFIDENCE,
    OVERHEAD_CPU, OVERHEAD_RUNG, OVERHEAD_STATE, SAMPLING_CAPPED, SAMPLING_FREQUENCY,
};
use profpipe_profile::{Profiles, StringIx, Value};

pub use config::{Config, Start, Window};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "governor",
    Stability::Alpha,
    "keeps the whole cost of profiling within a budget",
);

struct Governor {
    overhead: Arc<Overhead>,
    metrics: Arc<Metrics>,
    seen: Arc<Mutex<Seen>>,
}

/// What the sums of this process were when the last batch passed: kept over reloads, as the sums are.
#[derive(Debug, Default)]
struct Seen {
    /// Windows with used-up credits.
    capped: u64,
    /// Frames that had got a name, and those that had got none.
    frames: (u64, u64),
}

impl Governor {
    fn new(setup: &Setup) -> Self {
        Self {
            overhead: Arc::clone(&setup.services.overhead),
            metrics: Arc::clone(&setup.services.metrics),
            seen: setup.services.carried.of(&format!("processors::{}", setup.id)),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share of frames that got no name since the last batch; none where none was looked for.
    fn unnamed(&self) -> Option<f64> {
        let now =
            (self.metrics.total(names::FRAMES_NAMED), self.metrics.total(names::FRAMES_UNNAMED));
        let before = std::mem::replace(&mut self.seen().frames, now);
        let (named, unnamed) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        (named + unnamed > 0).then(|| unnamed as f64 / (named + unnamed) as f64)
    }
}

impl Processor for Governor {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if self.overhead.paces(&batch.context.receiver)
            && let Some(status) = self.overhead.status()
        {
            let (oldest, unnamed) = (self.overhead.oldest_window(), self.unnamed());
            let profiles = batch
                .profiles_mut()
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
            let before = std::mem::replace(&mut self.seen().capped, status.capped);
            let capped = status.capped.saturating_sub(before);
            let mut facts = facts(&status, capped);
            // This one has only just begun to wait.
            if let Some(oldest) = oldest {
                let seconds = (oldest.age.as_secs_f64() * 1000.0).round() / 1000.0;
                facts.push((OLDEST_WINDOW_AGE, Value::Double(seconds)));
                facts.push((OLDEST_WINDOW_STAGE, oldest.stage.name().into()));
            }
            facts.extend(unnamed.map(|share| (FRAMES_UNNAMED, ppm(share))));
            describe(profiles, facts);
        }
        out.push(batch);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn wants(&self) -> Access {
        Access::Resources
    }
}

/// To the millionth.
fn ppm(share: f64) -> Value {
    Value::Double((share * 1e6).round() / 1e6)
}

/// What profiling costs and how it is done now.
fn facts(status: &Status, capped: u64) -> Vec<(&'static str, Value)> {
    let levers = &status.levers;
    let confidence = if status.is_measured { "measured" } else { "low" };
    let mut facts = vec![
        (OVERHEAD_CPU, ppm(status.spent_lately)),
        (OVERHEAD_BUDGET, ppm(status.budget)),
        (OVERHEAD_STATE, levers.state.name().into()),
        (OVERHEAD_RUNG, levers.rung.name().into()),
        (OVERHEAD_CONFIDENCE, confidence.into()),
        (SAMPLING_FREQUENCY, Value::Double((levers.frequency * 1000.0).round() / 1000.0)),
    ];
    if capped > 0 {
        facts.push((SAMPLING_CAPPED, i64::try_from(capped).unwrap_or(i64::MAX).into()));
    }
    facts
}

/// Says these facts on every profile.
fn describe(profiles: &mut Profiles, facts: Vec<(&'static str, Value)>) {
    let dictionary = &mut profiles.dictionary;
    let rows: Vec<_> = facts
        .into_iter()
        .map(|(key, value)| {
            let key = dictionary.strings.intern(key);
            dictionary.attributes.intern(key, value, StringIx::NONE)
        })
        .collect();
    for profile in profiles.profiles_mut() {
        profile.attributes.extend_from_slice(&rows);
    }
}
