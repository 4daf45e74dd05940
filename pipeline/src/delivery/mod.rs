//! The durable queue: one log for each storage directory, read by any number of destinations.

mod cache;
mod core;
mod dead;
mod destination;
mod disk;
mod format;
mod keep;
mod log;
mod quarantine;
mod reader;
mod record;
mod recover;
mod settings;
mod state;
mod stats;
mod storage;
pub mod tools;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use dead::Letter;
pub use destination::{Destination, Lease};
pub use log::Log;
pub use record::{AppendError, DestinationId, Pending, Record};
pub use settings::{LogSettings, WhenFull};
pub use stats::Stats;
