//! The `nop` receiver: produces nothing until it is told to stop.
//!
//! For configurations that need a receiver, and for embedders that feed a pipeline themselves.

mod config;

use async_trait::async_trait;
use profpipe_engine::Sender;
use profpipe_engine::component::{Error, Factory, Lifecycle, Receiver, Stability};

pub use config::Config;

/// How the component is registered.
pub const FACTORY: Factory =
    Factory::receiver::<Config>("nop", Stability::Beta, "produces nothing");

struct Nop;

#[async_trait]
impl Receiver for Nop {
    async fn run(self: Box<Self>, _: Sender, mut life: Lifecycle) -> Result<(), Error> {
        life.stopping().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
