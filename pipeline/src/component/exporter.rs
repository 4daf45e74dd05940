//! Where profiles leave.

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::Error;
use crate::batch::Batch;

/// A destination of profiles.
///
/// The engine owns queue, retry, timeout and receipts: an exporter tries once and says how it
/// went.
#[async_trait]
pub trait Exporter: Send {
    /// Writes or sends one batch.
    ///
    /// # Errors
    /// [`Failure::Retry`] if the same batch may succeed later, [`Failure::Reject`] if never.
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Called once, after the last batch: makes everything written so far permanent, at the latest
    /// at `deadline`.
    ///
    /// # Errors
    /// If that is not possible.
    async fn close(&mut self, deadline: Instant) -> Result<(), Error> {
        let _ = deadline;
        Ok(())
    }
}

/// Why an export did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It may succeed later.
    #[error("{cause}")]
    Retry {
        /// How long the destination asks us to wait.
        after: Option<Duration>,
        /// What happened.
        #[source]
        cause: Error,
    },
    /// It will never succeed.
    #[error("{cause}")]
    Reject {
        /// What happened.
        #[source]
        cause: Error,
    },
}
