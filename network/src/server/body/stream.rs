//! A body that is too large to be kept in memory: piece by piece, within its size and time.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout_at;

use super::{Limits, Pace, cut_short, too_large, too_slow};
use crate::server::rejection::Rejection;

/// What a request is charged for whose body is handed on piece by piece: the piece that is there, and what
/// the handler holds of it.
pub(crate) const STREAM_BYTES: usize = 512 << 10;

/// The body of a request whose handler has a [`stream_limit`](crate::server::Handler::stream_limit).
#[derive(Debug)]
pub struct BodyStream {
    body: Incoming,
    limits: Limits,
    left: usize,
    pace: Pace,
}

impl BodyStream {
    pub(crate) fn new(body: Incoming, limits: Limits) -> Self {
        Self { body, limits, left: limits.size, pace: Pace::new() }
    }

    /// The body, with what is still to come of it.
    pub(crate) fn into_inner(self) -> Incoming {
        self.body
    }

    /// How long the body is, if its header says so.
    pub fn length(&self) -> Option<u64> {
        self.limits.expected.map(|length| length as u64)
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// If it breaks off before its end, is larger than the handler's limit, or comes too slowly.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Rejection> {
        loop {
            let until = self.pace.until(&self.limits);
            let frame = match timeout_at(until, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(cut_short()),
                Err(_) => return Err(too_slow()),
            };
            // Anything else is trailers, which are not used.
            let Ok(piece) = frame.into_data() else { continue };
            self.left =
                self.left.checked_sub(piece.len()).ok_or_else(|| too_large(self.limits.size))?;
            self.pace.received(piece.len());
            return Ok(Some(piece));
        }
    }
}
