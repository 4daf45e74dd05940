//! Bodies of requests: at most two pieces, never copied; or a file, read as it is sent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much of a file is read at a time.
const PIECE_BYTES: u64 = 128 << 10;

/// The body of a request: bytes, perhaps with a few before them, or a file.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    first: Bytes,
    second: Bytes,
    file: Option<FilePart>,
}

/// What is still to be sent of a file.
#[derive(Debug, Clone)]
struct FilePart {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Payload {
    /// Two pieces, one after the other.
    pub fn two(first: Bytes, second: Bytes) -> Self {
        Self { first, second, file: None }
    }

    /// The first bytes of a file. It is read by whoever sends it, a little at a time: not for files that
    /// may not answer. One that has become shorter meanwhile breaks the request off.
    pub fn file(file: Arc<File>, length: u64) -> Self {
        let file = (length > 0).then_some(FilePart { file, at: 0, end: length });
        Self { file, ..Self::default() }
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        let of_file = self.file.as_ref().map_or(0, |part| part.end - part.at);
        self.first.len() + self.second.len() + usize::try_from(of_file).unwrap_or(usize::MAX)
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl FilePart {
    fn next(&mut self) -> io::Result<Bytes> {
        let length = (self.end - self.at).min(PIECE_BYTES);
        let mut piece = vec![0; length as usize];
        self.file.read_exact_at(&mut piece, self.at)?;
        self.at += length;
        Ok(piece.into())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::two(bytes, Bytes::new())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(part) = &mut self.file {
            let piece = part.next();
            if piece.is_err() || part.at == part.end {
                self.file = None;
            }
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
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
