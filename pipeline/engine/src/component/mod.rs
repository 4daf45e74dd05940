//! The traits a component implements, and the factory that registers one.
//!
//! A component is a folder with a configuration (what users type) and the running thing. The
//! configuration implements [`ReceiverConfig`], [`ProcessorConfig`], [`ExporterConfig`] or
//! [`ExtensionConfig`], and one
//! line in its crate's list makes it a [`Factory`]; names, documentation, JSON schema, the
//! `components` command and the conformance tests follow from that list.

mod exporter;
mod extension;
mod factory;
mod processor;
mod receiver;
mod symbols;

pub use crate::config::Config;
pub use crate::storage::{Durability, StoragePlace};
pub use exporter::{Exporter, Failure};
pub use extension::{ClientAuth, Extension, Extensions, Identity, Offer, ServerAuth};
pub use factory::{
    Built, ExporterConfig, ExtensionConfig, Factory, Kind, MemoryLimit, Parsed, ProcessorConfig,
    ReceiverConfig, Setup, Stability,
};
pub use processor::{Access, Outbox, Processor};
pub use receiver::{Lifecycle, Receiver, Stopper};
pub use symbols::{SymbolFile, SymbolOffer, SymbolStorage, SymbolStorageError, SymbolUpload};

use std::error::Error as StdError;
use std::fmt::Write as _;

use profpipe_queue::QueueError;

/// Why a component could not start or go on: one line that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that tells the whole story itself.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An error with the one that caused it.
    pub fn with_source(
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }

    /// The error with everything that caused it, in one line.
    pub fn chain(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors already tell their cause, in their own words or without its number.
            let words = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            if !line.to_lowercase().contains(&words) {
                // Writing to a string cannot fail.
                let _ = write!(line, ": {text}");
            }
            cause = error.source();
        }
        // Libraries show addresses as a whole.
        crate::settings::shown_text(&line.replace('\n', " "))
    }
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        let message = error.to_string();
        match error {
            QueueError::Directory { source, .. } | QueueError::Read { source, .. } => {
                Self::with_source(message, source)
            }
            QueueError::Replay { source, .. } => Self::with_source(message, source),
            QueueError::InUse { .. }
            | QueueError::DestinationId { .. }
            | QueueError::UnknownDestination { .. } => Self::new(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error as IoError;

    use super::Error;

    /// Scenario: errors whose message tells their cause already, or does not, or has several lines.
    /// Guarantees: one line that says everything once.
    #[test]
    fn a_chain_is_one_line() {
        let denied = || IoError::from_raw_os_error(13);
        let error = Error::with_source("cannot write /x: permission denied; grant it", denied());
        assert_eq!(error.chain(), "cannot write /x: permission denied; grant it");
        let error = Error::with_source("cannot write /x", denied());
        assert_eq!(error.chain(), "cannot write /x: Permission denied (os error 13)");
        let lines = IoError::other("one\ntwo");
        assert_eq!(Error::with_source("bad", lines).chain(), "bad: one two");
    }
}
