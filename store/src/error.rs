//! Why a query has no result.

/// Why a query has no result. Messages are one line, for the one who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// The result, or what it is made of, is larger than is ever made.
    #[error("{0}")]
    TooLarge(String),
}
