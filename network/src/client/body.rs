//! Bodies of requests: at most two pieces, never copied.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a request: bytes, perhaps with a few before them.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    first: Bytes,
    second: Bytes,
}

impl Payload {
    /// Two pieces, one after the other.
    pub fn two(first: Bytes, second: Bytes) -> Self {
        Self { first, second }
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self { first: bytes, second: Bytes::new() }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut next = std::mem::take(&mut self.first);
        if next.is_empty() {
            next = std::mem::take(&mut self.second);
        }
        Poll::Ready((!next.is_empty()).then(|| Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}
