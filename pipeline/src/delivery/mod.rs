//! The durable queue: one log for each storage directory, read by any number of destinations.

mod record;
mod settings;
mod thin;

pub use record::{AppendError, DestinationId, Pending, Record};
pub use settings::{LogSettings, WhenFull};
pub use thin::{Destination, Lease, Log, Stats};
