//! The `debug` exporter: logs what passes, for finding out what a pipeline carries.
//!
//! It writes through `tracing` at level info, so that the program's log settings decide where the
//! text goes. A batch that cannot be decoded is rejected, as any exporter that needs samples does.

mod config;
mod text;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Error, Exporter, Factory, Failure, Setup, Stability};

pub use config::{Config, Verbosity};

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::exporter::<Config>("debug", Stability::Beta, "logs what passes");

struct Debug {
    config: Config,
    /// The component's id, which tells several of them apart in the log.
    id: String,
    sampler: Sampler,
}

impl Debug {
    fn new(config: Config, setup: &Setup) -> Self {
        let sampler = Sampler::new(config.sampling_initial, config.sampling_thereafter);
        Self { config, id: setup.id.clone(), sampler }
    }
}

#[async_trait]
impl Exporter for Debug {
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure> {
        let profiles = batch.shared().map_err(|cause| Failure::Reject {
            cause: Error::with_source("cannot read the batch", cause),
        })?;
        if !self.sampler.admits(Instant::now()) {
            return Ok(());
        }
        let counts = text::Counts::of(&profiles);
        let details = match self.config.verbosity {
            Verbosity::Basic => String::new(),
            Verbosity::Normal => text::of(&profiles, false),
            Verbosity::Detailed => text::of(&profiles, true),
        };
        tracing::info!(
            exporter = self.id,
            receiver = &*batch.context.receiver,
            resources = counts.resources,
            profiles = counts.profiles,
            samples = counts.samples,
            "profiles{}{}",
            if details.is_empty() { "" } else { "\n" },
            details.trim_end(),
        );
        Ok(())
    }
}

/// Lets the first batches of each second through, then one in so many.
struct Sampler {
    initial: u32,
    thereafter: u32,
    second: Option<Instant>,
    seen: u32,
}

impl Sampler {
    fn new(initial: u32, thereafter: u32) -> Self {
        Self { initial, thereafter: thereafter.max(1), second: None, seen: 0 }
    }

    fn admits(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.seen = 0;
        }
        self.seen = self.seen.saturating_add(1);
        self.seen <= self.initial || (self.seen - self.initial).is_multiple_of(self.thereafter)
    }
}

#[cfg(test)]
mod tests;
