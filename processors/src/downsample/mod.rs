//! The `downsample` processor: ten or a hundred times less data, same answers.
//!
//! What it does with a batch is the [`algorithm`]; here are the settings, a fresh seed for every
//! batch, so that errors average out, and the counters.

pub mod algorithm;
mod config;
pub mod metric_names;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Setup, Stability};
use profpipe_engine::telemetry::Counter;

use self::algorithm::{Options, Refusal, downsample};
pub use config::{Config, Keep};

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "downsample",
    Stability::Alpha,
    "keeps a fraction of the stacks, with exact totals and unbiased functions",
);

struct Downsample {
    options: Options,
    /// The next seed.
    seed: u64,
    stacks_in: Counter,
    stacks_out: Counter,
    sampled: Counter,
    refused: [(Refusal, Counter); Refusal::ALL.len()],
    milliseconds: Counter,
    /// What is not yet a whole millisecond.
    spent: Duration,
}

impl Downsample {
    fn new(options: Options, seed: u64, setup: &Setup) -> Self {
        let metrics = &setup.services.metrics;
        let counter = |name| metrics.counter(name, &setup.id);
        let refused = |refusal: Refusal| {
            let labels = [("reason", refusal.name())];
            (refusal, metrics.labelled(metric_names::PROFILES_REFUSED, &setup.id, &labels))
        };
        Self {
            options,
            seed,
            stacks_in: counter(metric_names::STACKS_IN),
            stacks_out: counter(metric_names::STACKS_OUT),
            sampled: counter(metric_names::PROFILES_SAMPLED),
            refused: Refusal::ALL.map(refused),
            milliseconds: counter(metric_names::MILLISECONDS),
            spent: Duration::ZERO,
        }
    }
}

impl Processor for Downsample {
    fn process(&mut self, mut batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        let begin = Instant::now();
        // What is too small to be sampled goes on as the bytes it is.
        if batch.samples() > self.options.floor {
            let profiles = batch
                .profiles_mut()
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
            self.seed = self.seed.wrapping_add(1);
            let report = downsample(profiles, &self.options, self.seed);
            self.stacks_in.add(report.rows_in as u64);
            self.stacks_out.add(report.rows_out as u64);
            self.sampled.add(report.sampled as u64);
            for (refusal, counter) in &self.refused {
                counter.add(report.refused.get(refusal).copied().unwrap_or(0) as u64);
            }
        } else {
            let summary = batch
                .summary()
                .map_err(|cause| Error::with_source("cannot read the batch", cause))?;
            self.stacks_in.add(summary.samples as u64);
            self.stacks_out.add(summary.samples as u64);
            let floor = self.refused.iter().find(|(refusal, _)| *refusal == Refusal::Floor);
            if let Some((_, counter)) = floor {
                counter.add(summary.profiles as u64);
            }
        }
        self.spent += begin.elapsed();
        let whole = self.spent.as_millis();
        self.spent = self.spent.saturating_sub(Duration::from_millis(whole as u64));
        self.milliseconds.add(whole as u64);
        out.push(batch);
        Ok(())
    }

    fn wants(&self) -> Access {
        Access::Samples
    }
}
