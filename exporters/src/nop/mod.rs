//! The `nop` exporter: accepts everything and keeps nothing.
//!
//! For measuring the pipeline in front of it and for trying a configuration. It never decodes a
//! batch and never fails.

mod config;

use async_trait::async_trait;
use profpipe_engine::batch::Batch;
use profpipe_engine::component::{Exporter, Factory, Failure, Stability};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::exporter::<Config>("nop", Stability::Beta, "accepts everything and keeps nothing");

struct Nop;

#[async_trait]
impl Exporter for Nop {
    async fn export(&mut self, _: &Batch) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
