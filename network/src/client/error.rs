//! Why there is no answer.

use std::fmt;

use profpipe_engine::component::{Error, Failure};

/// Why there is no answer.
#[derive(Debug)]
pub struct ClientError {
    kind: ErrorKind,
    cause: Error,
}

/// What kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection: no such name, nothing listens, no trust.
    Connect,
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// The deadline passed.
    Timeout,
    /// The server sends us elsewhere, where we do not go.
    Redirect,
    /// There are no credentials now, or they may not be sent this way.
    Credentials,
    /// The policy does not allow the address.
    Forbidden,
    /// The request cannot be made.
    Request,
}

impl ClientError {
    pub(super) fn new(kind: ErrorKind, cause: Error) -> Self {
        Self { kind, cause }
    }

    /// What kind of trouble.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened.
    pub fn into_cause(self) -> Error {
        self.cause
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause.chain())
    }
}

impl std::error::Error for ClientError {}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let ClientError { kind, cause } = error;
        match kind {
            ErrorKind::Connect | ErrorKind::Broken | ErrorKind::Timeout => Self::retry(cause),
            ErrorKind::Redirect | ErrorKind::Credentials | ErrorKind::Forbidden => {
                Self::Hold { cause }
            }
            ErrorKind::Request => Self::Reject { cause },
        }
    }
}
