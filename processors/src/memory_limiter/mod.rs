//! The `memory_limiter` processor: how much memory batches may take.
//!
//! The engine has one budget of bytes for the process, and receivers ask it for room before they
//! read a request; without room they tell the sender to come again. This processor only says how
//! large that budget is. It changes no batch, and it does not matter where in a pipeline it stands.

mod config;
#[cfg(test)]
mod tests;

use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Access, Error, Factory, Outbox, Processor, Stability};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory = Factory::processor::<Config>(
    "memory_limiter",
    Stability::Beta,
    "says how much memory batches may take",
);

struct MemoryLimiter;

impl Processor for MemoryLimiter {
    fn process(&mut self, batch: Batch, out: &mut Outbox) -> Result<(), Error> {
        out.push(batch);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn wants(&self) -> Access {
        Access::Bytes
    }
}
