//! Decompression that a hostile file cannot turn against its reader.

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use crate::pprof::DecodeError;

/// The content of `data`: decompressed if it is gzip (of one or more members), else as it is.
///
/// Never holds more than `limit` bytes of output and one chunk.
pub(crate) fn inflate(data: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let too_large = || DecodeError::TooLarge { limit };
    if !data.starts_with(&[0x1f, 0x8b]) {
        return if data.len() > limit { Err(too_large()) } else { Ok(Cow::Borrowed(data)) };
    }
    let mut input = MultiGzDecoder::new(data);
    let mut output = Vec::with_capacity(data.len().saturating_mul(4).min(limit));
    let mut chunk = vec![0; 64 << 10];
    loop {
        let read = match input.read(&mut chunk) {
            Ok(0) => return Ok(Cow::Owned(output)),
            Ok(read) => chunk.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(DecodeError::Gzip(error)),
        };
        let length = output.len() + read.len();
        if length > limit {
            return Err(too_large());
        }
        if length > output.capacity() {
            // Doubling as usual, but not past the limit.
            let capacity = output.capacity().saturating_mul(2).clamp(length, limit);
            output.reserve_exact(capacity - output.len());
        }
        output.extend_from_slice(read);
    }
}
