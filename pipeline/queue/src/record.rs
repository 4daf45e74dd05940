//! A record of the log, and what can be said about records without reading them.

use std::fmt;
use std::io;
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

/// Why a record was not kept. Its sender still has it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The limit of bytes is reached. What is kept stays; there is room once something was delivered.
    #[error("the queue is full: {used} of {limit} bytes wait to be delivered")]
    Full {
        /// What is taken.
        used: u64,
        /// The limit.
        limit: u64,
    },
    /// Less of the disk would be free than is to stay so. Nothing was written; each append looks again.
    #[error(
        "the queue's disk failed: the disk has {free} bytes left and {kept} are to stay free; free \
         some, or lower min_free"
    )]
    LowSpace {
        /// What is free, in bytes.
        free: u64,
        /// What is to stay free.
        kept: u64,
    },
    /// A new segment cannot be made. Nothing was written; each append tries again.
    #[error("the queue's disk failed: cannot begin a segment: {0}")]
    Begin(#[source] Arc<io::Error>),
    /// The disk did not take the record. The segment was cut back to what is good, or closed there;
    /// each append tries again.
    #[error("the queue's disk failed: cannot write to the queue: {0}")]
    Write(#[source] Arc<io::Error>),
    /// The record may not survive a loss of power. The sync is not tried again, since a second one may
    /// succeed without the data; the segment ends where it was good, the next record begins a new one.
    #[error("the queue's disk failed: cannot make the queue durable: {0}")]
    Sync(#[source] Arc<io::Error>),
    /// It is larger than the whole queue may be: for good.
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
    /// What went wrong with the disk, for the log's account of itself; nothing for the others.
    pub(crate) fn trouble(&self) -> Option<String> {
        let text = self.to_string();
        text.strip_prefix("the queue's disk failed: ").map(str::to_owned)
    }

    /// Whether the same record may be kept later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. })
    }
}
