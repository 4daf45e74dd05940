//! The `governor` processor: a hard budget for the cost of profiling.
//!
//! It states the budget; the sampler keeps it (`pipeline::overhead`, receiver `perf`). On the way
//! through, profiles of the sampler are told what they cost and how they were taken.

mod config;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use profpipe_pipeline::batch::Batch;
use profpipe_pipeline::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_pipeline::overhead::{Overhead, Status};
use profpipe_pipeline::profile::attribute_names::{
    OVERHEAD_BUDGET, OVERHEAD_CONFIDENCE, OVERHEAD_CPU, OVERHEAD_RUNG, OVERHEAD_STATE,
    SAMPLING_CAPPED, SAMPLING_FREQUENCY,
};
use profpipe_pipeline::profile::{Profiles, StringIx, Value};

pub use config::{Config, Window};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "governor",
    Stability::Alpha,
    "keeps the whole cost of profiling within a budget",
);

struct Governor {
    overhead: Arc<Overhead>,
    /// Windows with used-up credits, when the last batch passed.
    capped: u64,
}

impl Governor {
    fn new(setup: &Setup) -> Self {
        Self { overhead: Arc::clone(&setup.services.overhead), capped: 0 }
    }
}

impl Processor for Governor {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        if self.overhead.paces(&batch.context.receiver)
            && let Some(status) = self.overhead.status()
        {
            let profiles = batch
                .profiles_mut()
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
            let capped = status.capped.saturating_sub(self.capped);
            self.capped = status.capped;
            describe(profiles, &status, capped);
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

/// Says on every profile what profiling costs and how it is done now.
fn describe(profiles: &mut Profiles, status: &Status, capped: u64) {
    let levers = &status.levers;
    let confidence = if status.is_measured { "measured" } else { "low" };
    let share = |share: f64| Value::Double((share * 1e6).round() / 1e6);
    let mut facts = vec![
        (OVERHEAD_CPU, share(status.spent_lately)),
        (OVERHEAD_BUDGET, share(status.budget)),
        (OVERHEAD_STATE, levers.state.name().into()),
        (OVERHEAD_RUNG, levers.rung.name().into()),
        (OVERHEAD_CONFIDENCE, confidence.into()),
        (SAMPLING_FREQUENCY, Value::Double((levers.frequency * 1000.0).round() / 1000.0)),
    ];
    if capped > 0 {
        facts.push((SAMPLING_CAPPED, i64::try_from(capped).unwrap_or(i64::MAX).into()));
    }
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
