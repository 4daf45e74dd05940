//! A record of the log, and what can be said about records without reading them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// What is kept until every destination has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// An OTLP export request.
    pub payload: Bytes,
    /// How many samples it holds.
    pub samples: u64,
    /// Whose it is, if that is known.
    pub tenant: Option<Arc<str>>,
    /// The receiver it came through, as `type` or `type/name`.
    pub receiver: Arc<str>,
}

/// Who reads records: the id of an exporter, stable over restarts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub(super) Arc<str>);

impl DestinationId {
    /// As `type` or `type/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a destination has not acknowledged yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pending {
    /// Records.
    pub records: u64,
    /// The bytes of their payloads.
    pub bytes: u64,
    /// Their samples.
    pub samples: u64,
}

/// Why a record was not kept. Its sender still has it; only [`AppendError::TooLarge`] is for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The limit of bytes is reached.
    #[error("the queue is full: {used} of {limit} bytes wait to be delivered")]
    Full {
        /// What is taken.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk did not take it. The log tries again with the next record.
    #[error("the queue's disk failed: {0}")]
    Disk(String),
    /// It is larger than the whole queue may be.
    #[error("a record of {bytes} bytes is larger than the queue may be")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The log is closed.
    #[error("the queue is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same record may be kept later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}
