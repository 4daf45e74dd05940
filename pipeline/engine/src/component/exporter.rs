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
    /// [`Failure`] says whether and when the same batch may succeed.
    async fn export(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Another one for the same destination, to be used side by side with this one: it shares
    /// connections and counts. `None` means that batches go out one at a time.
    fn fork(&self) -> Option<Box<dyn Exporter>> {
        None
    }

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
///
/// A destination that took a part and refused the rest for good has succeeded: the exporter counts
/// the rest as rejected and never sends the batch again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// It will never succeed as it is, but halves of it may.
    #[error("{cause}")]
    TooLarge {
        /// What happened.
        #[source]
        cause: Error,
    },
    /// The destination refuses us, not the batch: wrong credentials, no such address. What is
    /// durable waits until somebody corrects that.
    #[error("{cause}")]
    Hold {
        /// What happened.
        #[source]
        cause: Error,
    },
}

impl Failure {
    /// May succeed later.
    pub fn retry(cause: Error) -> Self {
        Self::Retry { after: None, cause }
    }

    /// What happened.
    pub fn cause(&self) -> &Error {
        match self {
            Self::Retry { cause, .. }
            | Self::Reject { cause }
            | Self::TooLarge { cause }
            | Self::Hold { cause } => cause,
        }
    }
}
